"""`follow`, driven by hand: parts as they come, and texts that turn out to be others."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.agents.asks import Chat, Json, Piece, ProgramFailed, Whole
from asterism.agents.follow import Parts, follow
from tests.agents.driver import CONTEXT
from tests.agents.talker import Talker, characters


def upper(chat: Chat) -> str:
    """Does the task: the words of the part, in capitals."""
    return chat.messages[-1].text.split("\n")[1].upper()


def run(*heard: Piece | Whole, **inputs: Json) -> tuple[dict[str, Any], Talker]:
    talker = Talker(upper, heard=list(heard))
    context = replace(CONTEXT, streams=frozenset({"text"}))
    value = talker.run(follow({"task": "In capitals.", **inputs}, context)).value
    assert isinstance(value, dict)
    return value, talker


def test_each_paragraph_is_done_as_soon_as_it_is_whole() -> None:
    talker = Talker(upper, heard=[Piece("one\n\ntw"), Piece("o\n"), Piece("\nthr"), Whole("one\n\ntwo\n\nthree")])
    done: list[int] = []
    answer = talker.answer

    def watched(ask: Any) -> Any:
        if type(ask).__name__ == "Hear":
            done.append(len(talker.chats))
        return answer(ask)

    talker.answer = watched  # type: ignore[method-assign]
    value = talker.run(follow({"task": "t"}, replace(CONTEXT, streams=frozenset({"text"})))).value
    assert isinstance(value, dict)
    assert (value["answer"], value["parts"], value["restarts"]) == ("ONE\n\nTWO\n\nTHREE", 3, 0)
    assert done == [0, 1, 1, 2], "how many were done before more was asked for"


def test_a_conversation_goes_on_so_that_nothing_is_read_twice() -> None:
    _, talker = run(Whole("one\n\ntwo"))
    first, second = talker.chats
    assert [message.role for message in second.messages] == ["system", "user", "assistant", "user"]
    assert second.messages[:2] == first.messages


def test_a_text_that_is_there_already_is_followed_just_so() -> None:
    value, talker = run(Whole("one\ntwo\n\n\nthree"), by="line")
    assert (value["answer"], len(talker.chats)) == ("ONE\nTWO\nTHREE", 3)
    assert talker.said == ["\n", "\n"], "what streams is what stands there in the end"
    assert run(Whole(""))[0]["answer"] == ""
    assert run(Whole({"a": 1}))[0]["answer"] == '{"A": 1}'


def test_what_becomes_another_text_is_done_again() -> None:
    value, talker = run(Piece("one\n\ntwo\n\n"), Whole("other\n\ntwo"))
    assert (value["answer"], value["restarts"], value["spent"]["texts"]) == ("OTHER\n\nTWO", 1, 4)
    assert any("has become another one" in text for text in talker.said)


def test_what_is_missing_from_the_preview_comes_with_the_end() -> None:
    value, _ = run(Piece("one\n\nt"), Whole("one\n\ntwo\n\nthree"))
    assert (value["answer"], value["restarts"]) == ("ONE\n\nTWO\n\nTHREE", 0)


@pytest.mark.parametrize(
    ("inputs", "reason"), [({"by": "word"}, "by: must be one of paragraph, line"), ({"texts": "x"}, "texts: is not")]
)
def test_refuses_what_it_does_not_know(inputs: dict[str, Json], reason: str) -> None:
    with pytest.raises(ProgramFailed, match=reason):
        run(**inputs)
    with pytest.raises(ProgramFailed, match="text: is missing"):
        Talker(upper).run(follow({"task": "t"}, CONTEXT))


@given(st.lists(st.integers(0, 9_000), max_size=6), st.integers(2_000, 12_000), st.booleans())
def test_stays_within_its_context(sizes: Sequence[int], context: int, is_long: bool) -> None:
    text = "\n\n".join("x" * size for size in sizes)

    def write(chat: Chat) -> str:
        assert characters(chat.messages) <= context
        return "y" * (20_000 if is_long else 10)

    talker = Talker(write, heard=[Whole(text)])
    value = talker.run(follow({"task": "t", "text": text, "context_characters": context}, CONTEXT)).value
    assert isinstance(value, dict)
    parts = value["parts"]
    assert isinstance(parts, int)
    assert parts >= sum(1 for size in sizes if size)


@given(
    st.lists(st.sampled_from(["a", "bb", " ", "\n", "\n\n", "\t", "ccccc"]), max_size=30).map("".join),
    st.lists(st.integers(0, 60), max_size=6),
    st.sampled_from(["paragraph", "line"]),
)
def test_the_same_parts_for_every_cut(text: str, cuts: list[int], by: str) -> None:
    whole = Parts(by, 8)
    expected = [*whole.feed(text), *whole.finish()]
    parts, found, at = Parts(by, 8), list[str](), 0
    for cut in [*sorted(cuts), len(text)]:
        found += parts.feed(text[at:cut])
        at = max(at, min(cut, len(text)))
    assert [*found, *parts.finish()] == expected
    assert all(1 <= len(part) <= 8 for part in expected)
    assert "".join("".join(expected).split()) == "".join(text.split())
