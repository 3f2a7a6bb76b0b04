"""Real servers of the SDK in processes of their own, over both transports."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asterism.agents.asks import Json, ToolError, ToolResult
from asterism.orchestrator.core.errors import Misconfigured
from asterism.workers.mcp import provider
from asterism.workers.mcp.provider import McpTools, open_mcp
from asterism.workers.tool_settings import McpSettings
from asterism.workers.tools import Toolbox

ROOT = Path(__file__).parents[2]


def over_stdio(folder: Path, **changes: Any) -> McpSettings:
    arguments = ("-m", "tests.mcp.server", "stdio", str(folder))
    return McpSettings(**{"command": sys.executable, "args": arguments, "cwd": ROOT, **changes})


@asynccontextmanager
async def one_server(settings: McpSettings) -> AsyncIterator[McpTools]:
    async with open_mcp({"notes": settings}) as tools:
        yield tools


async def error_of(tools: McpTools, name: str, /, **arguments: Json) -> ToolError:
    outcome = await tools.call(f"notes.{name}", arguments, "1")
    assert isinstance(outcome, ToolError), outcome
    return outcome


def starts(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "starts").read_text().split()]


async def until_gone(process: int) -> None:
    """Wait for the end of a process that is no child of ours, or is not waited for yet."""
    descriptor = os.pidfd_open(process)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await asyncio.wait_for(ended.wait(), 20)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def test_tools_come_with_schemas_hints_and_version(tmp_path: Path) -> None:
    async with one_server(over_stdio(tmp_path, effects={"large": "pure"})) as tools, Toolbox([tools]) as toolbox:
        found = {tool.name: tool for tool in toolbox.descriptions}
        assert {name: found[f"notes.{name}"].effect.value for name in ("add", "put", "fail", "large")} == {
            "add": "idempotent",
            "put": "idempotent",
            "fail": "none",
            "large": "pure",
        }
        assert found["notes.add"].version == "7.1"
        assert found["notes.add"].summary == "Add two numbers."
        refused = await toolbox.call("notes.add", {"a": "x", "b": 1})
        assert isinstance(refused, ToolError)
        assert refused.message == 'notes.add: arguments.a: it is not of type "integer"'
        assert await toolbox.call("notes.add", {"a": 1, "b": 2}) == ToolResult({"result": 3})
        assert await toolbox.call("notes.odd-name", {}) == ToolResult({"result": "odd"})


async def test_what_a_tool_says_is_passed_on_as_it_is(tmp_path: Path) -> None:
    async with one_server(over_stdio(tmp_path)) as tools:
        outcome = await tools.call("notes.put", {"name": "x", "text": "t"}, "1")
    assert outcome == ToolResult({"result": "kept $1 {{x}}"})
    assert (tmp_path / "x").read_text() == "t"


async def test_errors_bounds_and_time_are_values(tmp_path: Path) -> None:
    async with one_server(over_stdio(tmp_path, time_s=1.5, result_bytes=2000)) as tools:
        assert (await error_of(tools, "fail", why="because")).code == "tool_error"
        assert (await error_of(tools, "large", size=5000)).code == "too_large"
        late = await error_of(tools, "wait", name="w")
        assert (late.code, late.may_repeat) == ("tool_timed_out", True)
        assert await tools.call("notes.add", {"a": 1, "b": 1}, "1") == ToolResult({"result": 2})


async def test_only_allowed_tools_and_only_passed_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASTERISM_TOKEN", "secret")
    monkeypatch.setenv("PASSED", "yes")
    settings = over_stdio(tmp_path, allow=("environment",), env={"MORE": "1"}, pass_env=("PASSED",))
    async with one_server(settings) as tools:
        assert [tool.name for tool in tools.descriptions] == ["notes.environment"]
        outcome = await tools.call("notes.environment", {}, "1")
    assert isinstance(outcome, ToolResult)
    assert isinstance(outcome.value, dict)
    names = outcome.value["result"]
    assert isinstance(names, list)
    assert {"MORE", "PASSED"} <= set(names)
    assert "ASTERISM_TOKEN" not in names


async def test_a_server_that_died_is_started_again_within_bounds(tmp_path: Path) -> None:
    async with one_server(over_stdio(tmp_path, restarts=1)) as tools:
        lost = await error_of(tools, "die")
        assert (lost.code, lost.may_repeat) == ("tool_disconnected", True)
        assert await tools.call("notes.add", {"a": 1, "b": 1}, "1") == ToolResult({"result": 2})
        assert (await error_of(tools, "die")).code == "tool_disconnected"
        given_up = await error_of(tools, "add", a=1, b=1)
        assert given_up.code == "tool_unavailable"
        assert "2 times" in given_up.message
    assert len(starts(tmp_path)) == 2


async def test_one_that_dies_while_nobody_asks_is_noticed(tmp_path: Path) -> None:
    async with one_server(over_stdio(tmp_path)) as tools:
        (first,) = starts(tmp_path)
        os.kill(first, 9)
        await tools.until_lost("notes")
        assert await tools.call("notes.add", {"a": 1, "b": 1}, "1") == ToolResult({"result": 2})
    assert len(starts(tmp_path)) == 2


async def test_a_cancelled_call_is_cancelled_at_the_server(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w")
    async with one_server(over_stdio(tmp_path)) as tools:
        call = asyncio.ensure_future(tools.call("notes.wait", {"name": "w"}, "1"))
        assert await asyncio.to_thread((tmp_path / "w").read_text) == "begun"
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await asyncio.to_thread((tmp_path / "w").read_text) == "stopped"
        assert await tools.call("notes.add", {"a": 1, "b": 1}, "1") == ToolResult({"result": 2})


async def test_leaving_ends_the_server(tmp_path: Path) -> None:
    async with one_server(over_stdio(tmp_path)):
        (process,) = starts(tmp_path)
        gone = asyncio.ensure_future(until_gone(process))
        await asyncio.sleep(0)  # the descriptor is open before the process can go
    await gone


@pytest.mark.parametrize(
    "settings",
    [
        McpSettings(command="/nowhere/server"),
        McpSettings(command=sys.executable, args=("-c", "pass")),
        McpSettings(command=sys.executable, args=("-c", "print('hello', flush=True); input()"), start_s=2),
        McpSettings(url="http://127.0.0.1:9/mcp", start_s=5),
        McpSettings(url="http://127.0.0.1:9/mcp", headers_env={"Authorization": "NOT_SET_AT_ALL"}),
    ],
)
async def test_one_that_cannot_be_reached_costs_only_its_own_tools(tmp_path: Path, settings: McpSettings) -> None:
    async with open_mcp({"broken": settings, "notes": over_stdio(tmp_path)}) as tools:
        assert {tool.name.partition(".")[0] for tool in tools.descriptions} == {"notes"}
        assert await tools.call("notes.add", {"a": 1, "b": 1}, "1") == ToolResult({"result": 2})


async def test_over_http_with_headers_and_again_after_a_restart(tmp_path: Path) -> None:
    async def start() -> asyncio.subprocess.Process:
        (tmp_path / "port").unlink(missing_ok=True)
        os.mkfifo(tmp_path / "ready")
        made = await asyncio.create_subprocess_exec(
            sys.executable, *("-m", "tests.mcp.server", "http", str(tmp_path)), *ports, cwd=ROOT, stderr=-3
        )
        await asyncio.to_thread((tmp_path / "ready").read_text)
        (tmp_path / "ready").unlink()
        return made

    ports: tuple[str, ...] = ()
    server = await start()
    try:
        port = (tmp_path / "port").read_text()
        settings = McpSettings(url=f"http://127.0.0.1:{port}/mcp", headers={"X-Mine": "yes"}, time_s=20)
        async with one_server(settings) as tools:
            assert await tools.call("notes.add", {"a": 1, "b": 2}, "1") == ToolResult({"result": 3})
            assert await tools.call("notes.header", {}, "1") == ToolResult({"result": "yes"})
            server.kill()
            await server.wait()
            assert (await error_of(tools, "add", a=1, b=1)).code in {"tool_disconnected", "tool_error"}
            ports = (port,)
            server = await start()
            outcomes = [await tools.call("notes.add", {"a": 1, "b": 2}, "1") for _ in range(2)]
            assert outcomes[-1] == ToolResult({"result": 3})
    finally:
        server.kill()
        await server.wait()


async def test_without_the_sdk_the_settings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "find_spec", lambda name: None)
    with pytest.raises(Misconfigured, match="pip install"):
        async with open_mcp({"notes": McpSettings(command="x")}):
            pass
