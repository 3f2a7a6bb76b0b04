"""The program `follow`: a task for each part of a text, while another star is still writing it.

What comes before the text's end is a preview: the end may be another text, and then everything is done again.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from asterism.agents.asking import Asking, hear, say
from asterism.agents.asks import Json, Message, Piece, Program, ProgramContext, ProgramFailed, ProgramResult
from asterism.agents.briefs import Brief, read_brief
from asterism.agents.chatting import Question, Spent, answer
from asterism.agents.data import MARKS, as_data, as_text
from asterism.agents.declaring import invalid

TEXT: Final = "text"
"""The input that is heard."""
JOB: Final = (
    "A text comes to you in parts, while it is being written. Do the task for each part as it comes, and for that part"
    " alone; what you wrote for earlier parts stands already."
)
MAX_PARTS: Final = 1_024
_ENDS: Final = {"paragraph": re.compile(r"\n[ \t]*\n\s*"), "line": re.compile(r"\n\s*")}
_BETWEEN: Final = {"paragraph": "\n\n", "line": "\n"}
"""What is written, as it streams and in the end."""
_SPARE: Final = 200


def follow(inputs: Mapping[str, Json], context: ProgramContext) -> Program:
    """Does `task` for each part of `text`: a paragraph, or with `by` "line" a line. Gives what was written, joined.

    `restarts` counts how often the text turned out to be another one than it had seemed.
    """
    if TEXT not in inputs and TEXT not in context.streams:
        raise invalid(TEXT, "is missing: what is to be followed")
    brief = read_brief(inputs, TEXT, "by", answer_schema=False)
    by = inputs.get("by", "paragraph")
    if not isinstance(by, str) or by not in _ENDS:
        raise invalid("by", f"must be one of {', '.join(_ENDS)}")
    spent, restarts = Spent(), 0
    work = _Work(brief, by)
    while True:
        heard = yield from hear(TEXT)
        if not isinstance(heard, Piece):
            break
        yield from work.take(heard.text, spent)
    whole = as_text(heard.value)
    if not whole.startswith(work.seen):
        restarts += 1
        yield from say("\n\n(the text has become another one)\n\n")
        work = _Work(brief, by)
    yield from work.take(whole[len(work.seen) :], spent)
    yield from work.finish(spent)
    return ProgramResult(
        {
            "answer": _BETWEEN[by].join(work.answers),
            "parts": len(work.answers),
            "restarts": restarts,
            "spent": spent.to_json(),
        }
    )


class _Work:
    """One text from its beginning."""

    def __init__(self, brief: Brief, by: str) -> None:
        self._brief = brief
        self._system = brief.system(JOB)
        self._room = (brief.context - len(self._system) - _SPARE) // 3
        if self._room < len(brief.task) + MARKS:
            raise ProgramFailed("invalid_input", "context_characters: leaves no room for a part", retryable=False)
        self._parts = Parts(by, self._room - len(brief.task) - MARKS)
        self._turns: list[Message] = []
        self.seen = ""
        self.answers: list[str] = []

    def take(self, text: str, spent: Spent) -> Asking[None]:
        """More of it: what is whole is done."""
        self.seen += text
        for part in self._parts.feed(text):
            yield from self._do(part, spent)

    def finish(self, spent: Spent) -> Asking[None]:
        """There is no more."""
        for part in self._parts.finish():
            yield from self._do(part, spent)

    def _do(self, part: str, spent: Spent) -> Asking[None]:
        number = len(self.answers) + 1
        if number > MAX_PARTS:
            raise ProgramFailed("too_large", f"{TEXT}: more than {MAX_PARTS} parts", retryable=False)
        asked = Message("user", f"{as_data(f'part {number}', part)}\n\n{self._brief.task}")
        # The conversation goes on for as long as it fits: then the engine has read all of it but this part.
        if sum(len(turn.text) for turn in self._turns) > self._room:
            self._turns.clear()
        if number > 1:
            yield from say(_BETWEEN[self._parts.by])
        question = Question((Message("system", self._system), *self._turns, asked), self._brief.sampling)
        written = yield from answer(question, spent)
        self.answers.append(written.text.strip())
        self._turns += (asked, Message("assistant", written.text[: self._room]))


@dataclass(slots=True)
class Parts:
    """Cuts a text into parts, the same ones whatever pieces it comes in; none is empty or longer than `most`."""

    by: str
    most: int
    _left: str = ""

    def feed(self, text: str) -> Iterator[str]:
        """The parts that end in it."""
        self._left += text
        while self._left:
            # What stands before a part is no part of it, and may have come with the end of the last one.
            self._left = self._left.lstrip()
            end = _ENDS[self.by].search(self._left)
            if end is not None and end.start() <= self.most:
                part, self._left = self._left[: end.start()], self._left[end.end() :]
            elif len(self._left) > self.most:
                part, self._left = self._left[: self.most], self._left[self.most :]
            else:
                return
            if part.strip():
                yield part.strip()

    def finish(self) -> Iterator[str]:
        """What is left."""
        part, self._left = self._left.strip(), ""
        if part:
            yield part
