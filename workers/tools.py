"""Runs tools: quick ones where they are asked for, the others in processes that can be killed when time is up."""

import asyncio
import json
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Final

from asterism.agents.asks import Json, ToolError, ToolResult
from asterism.workers.tool_process import LENGTH, MAX_MESSAGE_BYTES, encode_message

TOOLS_PLACE: Final = "asterism.agents.tools:TOOLS"
"""Where a tool process finds its tools."""

QUICK_BYTES: Final = 64 * 1024
"""Of JSON text that is read in less than a millisecond."""

QuickTool = Callable[[Mapping[str, Json]], Json]
"""A tool that takes microseconds, and so runs on the event loop, where it is asked for."""


class Toolbox:
    """The tools of this worker. Use it as an async context manager: leaving it ends the processes.

    A process is started when a call finds none idle (about 60 ms), and serves one call at a time. A call that is
    cancelled, as when an attempt's time is up, kills its process.
    """

    def __init__(
        self, quick: Mapping[str, QuickTool], slow: Collection[str], *, max_processes: int, place: str = TOOLS_PLACE
    ) -> None:
        self._quick = quick
        self._slow = frozenset(slow)
        self._place = place
        self._idle: list[asyncio.subprocess.Process] = []
        self._free = asyncio.Semaphore(max_processes)

    async def __aenter__(self) -> "Toolbox":
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._idle:
            await _end(self._idle.pop())

    @property
    def names(self) -> tuple[str, ...]:
        """Every tool, sorted."""
        return tuple(sorted({*self._quick, *self._slow}))

    def call_quick(self, name: str, arguments: Mapping[str, Json]) -> ToolResult | ToolError | None:
        """Run a quick tool here and now; None when `name` is none."""
        quick = self._quick.get(name)
        if quick is None:
            return None
        try:
            return ToolResult(quick(arguments))
        except Exception as error:  # the supervisor of quick tools: the caller gets the error as a value
            return ToolError("tool_error", f"{type(error).__name__}: {error}"[:1000])

    async def call(self, name: str, arguments: Mapping[str, Json]) -> ToolResult | ToolError:
        """Run a tool; whatever it does wrong is a `ToolError`."""
        outcome = self.call_quick(name, arguments)
        if outcome is not None:
            return outcome
        if name not in self._slow:
            return ToolError("unknown_tool", f"no tool {name!r} here; there are {', '.join(self.names)}")
        try:
            # Arguments may be of many megabytes: not on the event loop.
            message = await asyncio.to_thread(encode_message, {"name": name, "arguments": arguments})
        except (TypeError, ValueError, RecursionError) as error:
            return ToolError("invalid_arguments", str(error)[:1000])
        async with self._free:
            return await self._call_process(message)

    async def _call_process(self, message: bytes) -> ToolResult | ToolError:
        process = self._idle.pop() if self._idle else await self._start()
        is_whole = False
        try:
            answer = await _exchange(process, message)
            is_whole = True
        except (asyncio.IncompleteReadError, ConnectionError, ValueError) as error:
            return ToolError("tool_crashed", f"the tool's process ended: {type(error).__name__}")
        finally:
            # Not whole: the process is dead, or in the midst of a call that nobody waits for.
            if is_whole:
                self._idle.append(process)
            else:
                await asyncio.shield(_end(process))
        if "value" in answer:
            return ToolResult(answer["value"])
        return ToolError(str(answer.get("code")), str(answer.get("message")))

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "asterism.workers.tool_process", self._place),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # A signal to the daemon's group, as Ctrl-C sends it, is for the daemon: it drains first.
            start_new_session=True,
        )


async def _exchange(process: asyncio.subprocess.Process, message: bytes) -> dict[str, Json]:
    """Send a call and read its answer. Raises ValueError for what is no answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(message)
    await process.stdin.drain()
    size = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))[0]
    if size > MAX_MESSAGE_BYTES:
        raise ValueError(f"an answer of {size} bytes")
    body = await process.stdout.readexactly(size)
    answer = json.loads(body) if size <= QUICK_BYTES else await asyncio.to_thread(json.loads, body)
    if not isinstance(answer, dict):
        raise ValueError("the answer is no mapping")
    return answer


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()
