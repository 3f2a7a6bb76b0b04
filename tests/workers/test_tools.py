"""The toolbox and its processes, which are real here."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from asterism.agents.asks import Effect, Json, ToolDescription, ToolError, ToolOutcome, ToolResult
from asterism.agents.tools import TOOLS as PURE_TOOLS
from asterism.orchestrator.core.errors import Misconfigured
from asterism.workers.tool_pool import ToolPool
from asterism.workers.tools import Toolbox
from tests.workers.tools_for_tests import TOOLS


def a_pool(*, max_processes: int) -> ToolPool:
    described = [ToolDescription(name=name, summary="", effect=Effect.PURE) for name in TOOLS]
    return ToolPool(described, max_processes=max_processes, place="tests.workers.tools_for_tests:TOOLS")


class OneTool:
    """A provider of one tool, which remembers its calls and answers as it was told."""

    def __init__(self, description: ToolDescription, outcome: ToolOutcome) -> None:
        self.descriptions = (description,)
        self.outcome = outcome
        self.calls: list[tuple[str, Mapping[str, Json], str]] = []
        self.forgotten: list[str] = []
        self.is_closed = False

    async def call(self, name: str, arguments: Mapping[str, Json], attempt: str) -> ToolOutcome:
        self.calls.append((name, arguments, attempt))
        return self.outcome

    async def forget(self, attempt: str) -> None:
        self.forgotten.append(attempt)

    async def close(self) -> None:
        self.is_closed = True


@pytest.fixture
async def tools() -> AsyncIterator[Toolbox]:
    async with Toolbox([a_pool(max_processes=1)]) as toolbox:
        yield toolbox


async def test_what_a_tool_prints_is_no_answer(tools: Toolbox) -> None:
    assert await tools.call("noisy", {"a": [1, "ä"]}) == ToolResult({"a": [1, "ä"]})
    assert await tools.call("noisy", {}) == ToolResult({})


async def test_what_a_tool_does_wrong_is_a_value(tools: Toolbox) -> None:
    codes = []
    for name in ("complain", "no_json", "crash", "none"):
        outcome = await tools.call(name, {})
        assert isinstance(outcome, ToolError)
        codes.append(outcome.code)
    assert codes == ["tool_error", "invalid_result", "tool_crashed", "unknown_tool"]
    assert await tools.call("noisy", {}) == ToolResult({})


async def test_tool_that_runs_away_is_killed_when_its_time_is_up(tools: Toolbox, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    call = asyncio.ensure_future(tools.call("run_away", {"fifo": str(fifo)}))
    pid = int(await asyncio.to_thread(fifo.read_text))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert await tools.call("noisy", {}) == ToolResult({})


async def test_leaving_ends_the_processes() -> None:
    async with Toolbox([a_pool(max_processes=2)]) as toolbox:
        outcome = await toolbox.call("own_pid", {})
        assert isinstance(outcome, ToolResult)
        assert isinstance(outcome.value, int)
        os.kill(outcome.value, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(outcome.value, 0)


SCHEMA: Mapping[str, Json] = {
    "type": "object",
    "properties": {
        "path": {"type": "string", "maxLength": 8},
        "lines": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["path"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, 'arguments: "path" is a required property'),
        ({"path": 1}, 'arguments.path: it is not of type "string"'),
        ({"path": "a" * 9}, "arguments.path: it is longer than 8 characters"),
        ({"path": "a", "lines": [1, "2"]}, 'arguments.lines[1]: it is not of type "integer"'),
        ({"path": "a", "mode": 1}, "arguments: Additional properties are not allowed ('mode' was unexpected)"),
    ],
)
async def test_no_call_begins_with_wrong_arguments(arguments: Mapping[str, Json], said: str) -> None:
    provider = OneTool(ToolDescription(name="t", summary="", schema=SCHEMA), ToolResult(1))
    async with Toolbox([provider]) as tools:
        outcome = await tools.call("t", arguments)
    assert isinstance(outcome, ToolError)
    assert (outcome.code, outcome.may_repeat) == ("invalid_arguments", False)
    assert said in outcome.message
    assert provider.calls == []


async def test_a_call_names_its_attempt_which_is_forgotten_later() -> None:
    provider = OneTool(ToolDescription(name="t", summary="", schema=SCHEMA), ToolResult({"a": 1}))
    async with Toolbox([provider]) as tools:
        assert await tools.call("t", {"path": "x"}, "7") == ToolResult({"a": 1})
        await tools.forget("7")
    assert provider.calls == [("t", {"path": "x"}, "7")]
    assert provider.forgotten == ["7"]
    assert provider.is_closed


@pytest.mark.parametrize("effect", list(Effect))
@pytest.mark.parametrize("code", ["tool_crashed", "tool_timed_out", "tool_disconnected", "tool_unavailable"])
async def test_what_may_have_run_is_repeated_only_where_that_does_no_harm(effect: Effect, code: str) -> None:
    provider = OneTool(ToolDescription(name="t", summary="", effect=effect), ToolError(code, "gone", may_repeat=True))
    async with Toolbox([provider]) as tools:
        outcome = await tools.call("t", {})
    assert isinstance(outcome, ToolError)
    assert outcome.may_repeat is (effect is not Effect.NONE or code == "tool_unavailable")


@pytest.mark.parametrize(
    "description",
    [
        ToolDescription(name="a/b", summary=""),
        ToolDescription(name="x" * 65, summary=""),
        ToolDescription(name="t", summary="", schema={"type": "elephant"}),
        ToolDescription(name="t", summary="", schema={"$ref": "https://example.invalid/schema"}),
        ToolDescription(name="t", summary="", schema={"const": "x" * 70_000}),
    ],
)
async def test_a_tool_that_cannot_be_offered_is_left_out_and_the_others_stay(description: ToolDescription) -> None:
    good = OneTool(ToolDescription(name="good", summary=""), ToolResult(None))
    async with Toolbox([OneTool(description, ToolResult(None)), good], PURE_TOOLS) as tools:
        assert [tool.name for tool in tools.descriptions] == ["countdown.search", "good", "noop"]
        assert isinstance(await tools.call(description.name, {}), ToolError)


def test_two_tools_of_one_name_are_refused() -> None:
    one = OneTool(ToolDescription(name="t", summary=""), ToolResult(None))
    with pytest.raises(Misconfigured, match="two tools have the name t"):
        Toolbox([one, one])


def test_only_results_of_pure_tools_may_be_kept() -> None:
    with pytest.raises(ValueError, match="cache_s"):
        ToolDescription(name="t", summary="", effect=Effect.IDEMPOTENT, cache_s=1.0)
