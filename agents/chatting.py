"""Conversations as programs need them: answers under a schema with one repair, and many at the same time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from asterism.agents.asking import Asking, generate, listen, open_text
from asterism.agents.asks import Chat, Generated, Grammar, Json, Message, Piece, ProgramFailed, Sampling
from asterism.agents.json_check import JsonCheck
from asterism.agents.written_json import NoJson, read_written

DEFAULT_CONTEXT: Final = 24_000
"""Characters of one conversation, about 6,000 tokens of English; a star may say otherwise."""
MIN_CONTEXT: Final = 1_000
MAX_CONTEXT: Final = 512 * 1024
DEFAULT_AT_ONCE: Final = 8
_SHOWN_AGAIN: Final = 4_000
"""Characters of a wrong answer that are shown to the model for its repair."""


@dataclass(slots=True)
class Spent:
    """What a program's texts cost, in token ids, and how many there were."""

    texts: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    repairs: int = 0

    def count(self, generated: Generated) -> Generated:
        self.texts += 1
        self.tokens += generated.tokens
        self.prompt_tokens += generated.prompt_tokens
        return generated

    def to_json(self) -> dict[str, Json]:
        return {
            "texts": self.texts,
            "tokens": self.tokens,
            "prompt_tokens": self.prompt_tokens,
            "repairs": self.repairs,
        }


@dataclass(frozen=True, slots=True)
class Written:
    """A value that matches its schema, and the text that it was read from."""

    value: Json
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """One conversation to be answered; with a check, by JSON that matches it."""

    messages: tuple[Message, ...]
    sampling: Sampling
    check: JsonCheck | None = None
    thread: str = "main"

    def ask(self) -> Chat:
        if self.check is None:
            return Chat(self.messages, self.sampling, self.thread)
        grammar = Grammar("json_schema", self.check.text)
        return Chat(self.messages, replace(self.sampling, grammar=grammar), self.thread)

    def read(self, text: str) -> Written | str:
        """The value, or in words what is wrong with the text."""
        if self.check is None:
            return Written(text, text)
        try:
            value = read_written(text)
        except NoJson as error:
            return f"This is not the JSON that was asked for: {error}"
        fault = self.check.find_fault(value)
        return Written(value, text) if fault is None else f"This does not match the schema: {fault}"

    def repaired(self, text: str, fault: str) -> "Question":
        """The same conversation with the wrong answer and what is wrong with it."""
        again = f"{fault}\nWrite the whole answer again, as one JSON value and nothing else."
        said = (Message("assistant", text[:_SHOWN_AGAIN]), Message("user", again))
        return replace(self, messages=(*self.messages, *said))


def answer(question: Question, spent: Spent) -> Asking[Written]:
    """The answer, after one repair at most. Fails the star with `bad_answer` when it is wrong again."""
    generated = spent.count((yield from generate(question.ask())))
    read = question.read(generated.text)
    if isinstance(read, str):
        spent.repairs += 1
        question = question.repaired(generated.text, read)
        generated = spent.count((yield from generate(question.ask())))
        read = question.read(generated.text)
    if isinstance(read, str):
        raise bad_answer(read)
    return read


def answer_all(questions: Sequence[Question], spent: Spent, *, at_once: int) -> Asking[list[Written | str]]:
    """All answers in order, so many at a time; what is still wrong after its repair is given as words."""
    answers: list[Written | str] = []
    for begin in range(0, len(questions), at_once):
        batch = list(questions[begin : begin + at_once])
        texts = yield from _chat_all(batch, spent)
        read = [question.read(text) for question, text in zip(batch, texts, strict=True)]
        wrong = [index for index, one in enumerate(read) if isinstance(one, str)]
        again = [batch[index].repaired(texts[index], str(read[index])) for index in wrong]
        spent.repairs += len(again)
        texts = yield from _chat_all(again, spent)
        for index, question, text in zip(wrong, again, texts, strict=True):
            read[index] = question.read(text)
        answers += read
    return answers


def _chat_all(questions: Sequence[Question], spent: Spent) -> Asking[list[str]]:
    """The texts of these, written at the same time."""
    streams: list[int] = []
    for question in questions:
        stream = yield from open_text(question.ask())
        streams.append(stream)
    texts = []
    for stream in streams:
        heard: Piece | Generated = Piece("")
        while isinstance(heard, Piece):
            heard = yield from listen(stream)
        texts.append(spent.count(heard).text)
    return texts


def bad_answer(fault: str) -> ProgramFailed:
    """The model was told what is wrong, and wrote it again; another attempt has the same seeds."""
    return ProgramFailed("bad_answer", f"the model's answer, after one repair: {fault}", retryable=False)


def form_rule(check: JsonCheck | None) -> str:
    """What a system message says of the answer's form, for models that no grammar holds to it."""
    if check is None:
        return ""
    return f"\nAnswer with one JSON value and nothing else. It must match this JSON schema:\n{check.text}"


def with_seed(sampling: Sampling, number: int) -> Sampling:
    """A seed of its own for each of several texts, the same in every attempt."""
    return replace(sampling, seed=sampling.seed + number)
