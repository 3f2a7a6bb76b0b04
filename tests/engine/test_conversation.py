"""Conversations on the torch engine: what a template makes of them, and what a later turn finds of earlier ones."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from asterism.workers.engine.chat_template import ChatTemplate
from asterism.workers.engine.conversation import MAX_KNOWN_CHARACTERS, Conversations, cut
from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.folder import ModelFolder
from asterism.workers.engine.plain_chat import plain_chat
from asterism.workers.engine.prompt_reader import PromptReader
from asterism.workers.engine.seam import GenerationRequest, Message
from asterism.workers.engine.torch_engine import TorchEngine
from tests.engine.conftest import Collect, random_decoder

DIGITS = ChatTemplate(
    {
        "default": "{% for m in messages %}{{ {'system': '0', 'user': '1', 'assistant': '2'}[m.role] }}{{ m.content }}"
        "{% endfor %}{% if add_generation_prompt %}2{% endif %}"
    },
    {},
)
FORGETFUL = ChatTemplate(
    {
        "default": "{% for m in messages %}{{ m.role[0] }}{% if m.role != 'assistant' %}{{ m.content }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}a{% endif %}"
    },
    {},
)
"""Leaves out what the assistant said."""


def talk(*texts: str) -> tuple[Message, ...]:
    """A system's message, then the user's and the assistant's in turn."""
    roles = ("system", *("user", "assistant") * len(texts))
    return tuple(Message(role, text) for role, text in zip(roles, texts, strict=False))  # type: ignore[arg-type]


def chat(messages: tuple[Message, ...], *, max_tokens: int = 12) -> GenerationRequest:
    return GenerationRequest(id="a", messages=messages, max_tokens=max_tokens, temperature=1.0, seed=3)


async def test_a_conversation_says_what_its_rendered_prompt_does(tiny_model: ModelFolder, collect: Collect) -> None:
    engine = TorchEngine(replace(tiny_model, chat_template=DIGITS))
    await engine.start()
    request = chat(talk("be kind", "hello"))
    answered, end = (await collect(engine, [request]))["a"]
    as_prompt, _ = (await collect(engine, [replace(request, messages=(), prompt="0be kind1hello2")]))["a"]
    assert answered == as_prompt
    assert end.prompt_tokens == len("0be kind1hello2")
    await engine.close()


async def test_a_later_turn_computes_nothing_of_the_earlier_ones_again(
    tiny_model: ModelFolder, collect: Collect
) -> None:
    engine = TorchEngine(replace(tiny_model, chat_template=DIGITS))
    await engine.start()
    messages = talk("be kind", "tell me of the sea")
    known = 0
    for turn in range(5):
        text, end = (await collect(engine, [chat(messages)]))["a"]
        # The token that a turn decoded last was never computed.
        assert end.cached_tokens == max(0, known - 1)
        known = end.prompt_tokens + end.tokens
        messages = (*messages, Message("assistant", text), Message("user", f"and {turn}"))
    await engine.close()


def pieces() -> Tokenizer:
    """Texts have many ways to be cut into tokens, and the tokenizer knows one of them."""
    merges = [("a", "b"), ("b", "a"), ("a", "ab"), ("b", "b")]
    vocab = ("a", "b", "ab", "ba", "aab", "bb", "0", "1", "2", "\n")
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(vocab)}, merges))
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


async def test_a_later_turn_has_the_ids_that_were_decoded(collect: Collect) -> None:
    tokenizer = pieces()
    engine = TorchEngine(ModelFolder("pieces", random_decoder(5, vocab_size=10), tokenizer, DIGITS))
    await engine.start()
    messages = talk("ab", "ba")
    differs = known = 0
    for _ in range(6):
        text, end = (await collect(engine, [chat(messages)]))["a"]
        assert end.cached_tokens == max(0, known - 1)
        differs += len(tokenizer.encode(text).ids) != end.tokens
        known = end.prompt_tokens + end.tokens
        messages = (*messages, Message("assistant", text), Message("user", "abba"))
    assert differs
    await engine.close()


async def test_a_template_that_forgets_keeps_what_its_text_keeps(tiny_model: ModelFolder, collect: Collect) -> None:
    engine = TorchEngine(replace(tiny_model, chat_template=FORGETFUL))
    await engine.start()
    messages = talk("be kind", "hello")
    text, first = (await collect(engine, [chat(messages)]))["a"]
    _, second = (await collect(engine, [chat((*messages, Message("assistant", text), Message("user", "more")))]))["a"]
    assert second.prompt_tokens == first.prompt_tokens + len("umorea")
    assert second.cached_tokens == first.prompt_tokens
    await engine.close()


async def test_a_model_without_a_template_stops_where_the_other_side_begins(collect: Collect) -> None:
    """Its turns are plain paragraphs; the next one that begins with `User:` is none of its own."""
    texts = ("System:", "\n\nUser:", "\n\nAssistant:", " ", "a", "b")
    vocab = {text: number for number, text in enumerate(texts)}
    tokenizer = Tokenizer(models.BPE(vocab, [], ignore_merges=True))
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in vocab])
    tokenizer.decoder = decoders.Fuse()
    engine = TorchEngine(ModelFolder("plain", random_decoder(5, vocab_size=len(vocab)), tokenizer))
    await engine.start()
    asked = talk("a", "b")
    whole = {
        seed: (
            await collect(
                engine,
                [GenerationRequest(id="a", prompt=plain_chat(asked), max_tokens=400, temperature=1.0, seed=seed)],
            )
        )["a"][0]
        for seed in range(8)
    }
    turned = {seed: text for seed, text in whole.items() if "\n\nUser:" in text}
    assert turned
    for seed, text in turned.items():
        request = replace(chat(asked, max_tokens=400), seed=seed)
        answer, end = (await collect(engine, [request]))["a"]
        assert (answer, end.finish_reason, end.stop) == (text[: text.index("\n\nUser:")], "end", None)
        _, end = (await collect(engine, [replace(request, stop=("\n\nUser:",))]))["a"]
        assert (end.finish_reason, end.stop) == ("stop", "\n\nUser:")
    await engine.close()


async def test_what_a_template_does_not_take_is_refused(tiny_model: ModelFolder, collect: Collect) -> None:
    strict = ChatTemplate({"default": "{{ raise_exception('no system here') }}"}, {})
    engine = TorchEngine(replace(tiny_model, chat_template=strict))
    await engine.start()
    with pytest.raises(InvalidRequest) as refused:
        await collect(engine, [chat(talk("be kind", "hello"))])
    assert refused.value.field == "messages"
    assert "no system here" in refused.value.reason
    await engine.close()


async def test_a_long_conversation_is_rendered_beside_the_event_loop(tiny_model: ModelFolder) -> None:
    reader = PromptReader(replace(tiny_model, chat_template=DIGITS))
    long = talk("a" * 15_000, "b" * 15_000)
    (token_ids,) = await reader.read([chat(long)])
    assert len(token_ids) == 30_003


async def test_a_template_writes_the_beginning_itself(tiny_model: ModelFolder) -> None:
    tokenizer = pieces()
    tokenizer.post_processor = processors.TemplateProcessing(single="2 $A", special_tokens=[("2", 8)])
    reader = PromptReader(ModelFolder("pieces", tiny_model.decoder, tokenizer, DIGITS))
    talking = chat(talk("a", "b"))
    whole, parts, chatted = await reader.read(
        [replace(talking, messages=(), prompt="ab"), replace(talking, messages=(), prompt=("a", "b")), talking]
    )
    assert whole == [8, 2]
    assert parts == [8, 0, 1]
    assert chatted == [6, 0, 7, 1, 8]


async def test_a_tokenizer_that_begins_every_text_with_a_space_reads_conversations_whole(
    tiny_model: ModelFolder,
) -> None:
    tokenizer = pieces()
    tokenizer.normalizer = normalizers.Prepend("\n")
    reader = PromptReader(ModelFolder("pieces", tiny_model.decoder, tokenizer, DIGITS))
    (token_ids,) = await reader.read([chat(talk("a", "b", "a", "b"))])
    assert token_ids == [9, 6, 0, 7, 1, 8, 0, 7, 1, 8]


TEXTS = st.lists(st.text("ab\n", max_size=4), min_size=1, max_size=9)


class Templates:
    """A conversation's text by what the template does to its messages."""

    @staticmethod
    def digits(messages: Sequence[Message]) -> str:
        return "".join(f"<{each.role}>{each.text}" for each in messages) + "<assistant>"

    @staticmethod
    def stripped(messages: Sequence[Message]) -> str:
        return "".join(f"<{each.role}>{each.text.strip()}\n" for each in messages) + "<assistant>"

    @staticmethod
    def last(messages: Sequence[Message]) -> str:
        return messages[-1].text

    @staticmethod
    def picky(messages: Sequence[Message]) -> str:
        if len(messages) == 4:
            raise InvalidRequest("messages", "are four")
        return Templates.digits(messages)


@given(texts=TEXTS, template=st.sampled_from(["digits", "stripped", "last", "picky"]))
def test_segments_are_the_rendered_text_and_begin_with_the_turn_before(texts: list[str], template: str) -> None:
    messages = talk(*texts)
    render = getattr(Templates, template)
    conversations = Conversations(render)
    if template == "picky" and len(messages) == 4:
        with pytest.raises(InvalidRequest):
            conversations.segments(messages)
        return
    segments = conversations.segments(messages)
    assert "".join(segments) == render(messages)
    assert conversations.segments(messages) == segments == Conversations(render).segments(messages)
    if template == "digits":
        answered = [at for at, message in enumerate(messages) if message.role == "assistant"]
        for at in answered:
            turn = conversations.segments(messages[:at])
            assert segments[: len(turn)] == turn
            if messages[at].text:
                assert segments[len(turn)] == messages[at].text
    assert Conversations(render, is_cut=False).segments(messages) == (render(messages),)


def test_the_beginning_of_a_long_conversation_that_is_new_is_one_segment() -> None:
    rendered: list[int] = []

    def render(messages: Sequence[Message]) -> str:
        rendered.append(len(messages))
        return Templates.digits(messages)

    messages = talk(*("ab" for _ in range(401)))
    segments = Conversations(render).segments(messages)
    assert len(rendered) == 33
    assert "".join(segments) == Templates.digits(messages)
    assert len(segments) == 1 + 2 * 32


def test_cuts_are_forgotten_before_they_fill_the_memory() -> None:
    conversations = Conversations(Templates.digits)
    for number in range(20):
        conversations.segments((Message("user", f"{number}" + "x" * (MAX_KNOWN_CHARACTERS // 8)),))
    assert len(conversations._known) == 7  # pyright: ignore[reportPrivateUsage]


def test_a_prompt_that_goes_on_otherwise_is_one_segment() -> None:
    assert cut("abcd", ("a", "b"), "c") == ("a", "b", "c", "d")
    assert cut("abcd", ("a", "b"), "x") == ("a", "b", "cd")
    assert cut("abcd", ("b",), "c") == ("abcd",)
    assert cut("abcd", (), "a") == ("abcd",)
    assert cut("abc", ("a", "b"), "c") == ("a", "b", "c")
