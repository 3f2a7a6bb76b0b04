from collections.abc import Generator
from typing import Any

import pytest

from asterism.agents import asking
from asterism.agents.asks import (
    Ask,
    EditReply,
    Fork,
    Forked,
    Generate,
    Generated,
    ProgramFailed,
    Reply,
    Sampling,
    ToolError,
    ToolResult,
)

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
