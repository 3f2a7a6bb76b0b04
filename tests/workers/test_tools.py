"""The toolbox and its processes, which are real here."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asterism.agents.asks import ToolError, ToolResult
from asterism.workers.tools import Toolbox
from tests.workers.tools_for_tests import TOOLS


@pytest.fixture
async def tools() -> AsyncIterator[Toolbox]:
    async with Toolbox({}, TOOLS, max_processes=1, place="tests.workers.tools_for_tests:TOOLS") as toolbox:
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
    async with Toolbox({}, TOOLS, max_processes=2, place="tests.workers.tools_for_tests:TOOLS") as toolbox:
        outcome = await toolbox.call("own_pid", {})
        assert isinstance(outcome, ToolResult)
        assert isinstance(outcome.value, int)
        os.kill(outcome.value, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(outcome.value, 0)
