from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asterism.agents import asking
from asterism.agents.asks import (
    MAX_SAY_CHARACTERS,
    Ask,
    EditReply,
    Fork,
    Forked,
    Generate,
    Generated,
    ProgramFailed,
    Reply,
    Sampling,
    Say,
    ToolError,
    ToolResult,
)
from asterism.agents.data import as_text
from asterism.workers.ask_check import check_ask

GENERATED = Generated("main", "text", "end", None, 1, 1, 0)
EDITED = EditReply(True, (), 3)


def askings() -> list[tuple[Generator[Ask, Reply, Any], Reply]]:
    """Each kind of asking with an answer that fits it."""
    return [
        (asking.generate(Generate("p", Sampling(1))), GENERATED),
        (asking.fork(Fork("p", ())), Forked(0, 1)),
        (asking.join(0), GENERATED),
        (asking.join(0), None),
        (asking.cancel_branches(0, "why"), (GENERATED,)),
        (asking.call_tool("t", {}), ToolResult(1)),
        (asking.call_tool("t", {}), ToolError("code", "message")),
        (asking.emit(()), EDITED),
        (asking.say("text"), None),
    ]


@pytest.mark.parametrize("index", range(9))
def test_fitting_answer_is_given_on(index: int) -> None:
    generator, answer = askings()[index]
    next(generator)
    with pytest.raises(StopIteration) as ended:
        generator.send(answer)
    assert ended.value.value == answer


@pytest.mark.parametrize("index", range(8))
def test_answer_of_another_kind_fails_the_star(index: int) -> None:
    generator, answer = askings()[index]
    wrong = Forked(0, 1) if isinstance(answer, EditReply) else EDITED
    next(generator)
    with pytest.raises(ProgramFailed) as caught:
        generator.send(wrong)
    assert caught.value.code == "wrong_answer"


@pytest.mark.parametrize("reason", ["error", "cancelled"])
def test_text_that_the_engine_did_not_finish_is_worth_another_attempt(reason: Any) -> None:
    generator = asking.generate(Generate("p", Sampling(1)))
    next(generator)
    with pytest.raises(ProgramFailed) as caught:
        generator.send(Generated("main", "", reason, None, 0, 1, 0))
    assert caught.value.retryable


@given(st.text(st.characters(exclude_categories=()), max_size=20), st.integers(0, 4_000))
@example("", 0)
@example("x", MAX_SAY_CHARACTERS + 1)
@example("😀", 2 * MAX_SAY_CHARACTERS)
@example("\ud83d", MAX_SAY_CHARACTERS)
def test_any_text_is_said_in_parts_that_a_worker_serves(text: str, times: int) -> None:
    said = list(asking.say(text * times, "thoughts"))

    assert all(isinstance(check_ask(part), Say) for part in said)
    assert "".join(part.text for part in said if isinstance(part, Say)) == as_text(text * times)
    assert {part.thread for part in said if isinstance(part, Say)} <= {"thoughts"}
