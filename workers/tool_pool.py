"""Runs pure tools in processes of their own, which can be killed when time is up."""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from asterism.agents.asks import Json, ToolDescription, ToolError, ToolOutcome, ToolResult
from asterism.workers.tool_process import LENGTH, MAX_MESSAGE_BYTES, encode_message

TOOLS_PLACE: Final = "asterism.agents.tools:TOOLS"
"""Where a tool process finds its tools."""

QUICK_BYTES: Final = 64 * 1024
"""Of JSON text that is read in less than a millisecond."""


class ToolPool:
    """Tools that need nothing but their arguments; `descriptions` are those of the mapping at `place`.

    A process is started when a call finds none idle (about 60 ms), and serves one call at a time. A call that is
    cancelled, as when an attempt's time is up, kills its process.
    """

    def __init__(
        self, descriptions: Sequence[ToolDescription], *, max_processes: int, place: str = TOOLS_PLACE
    ) -> None:
        self.descriptions = tuple(descriptions)
        self._place = place
        self._idle: list[asyncio.subprocess.Process] = []
        self._free = asyncio.Semaphore(max_processes)

    async def call(self, name: str, arguments: Mapping[str, Json], attempt: str) -> ToolOutcome:
        """Run a tool; whatever it does wrong is a `ToolError`."""
        try:
            # Arguments may be of many megabytes: not on the event loop.
            message = await asyncio.to_thread(encode_message, {"name": name, "arguments": arguments})
        except (TypeError, ValueError, RecursionError) as error:
            return ToolError("invalid_arguments", str(error)[:1000])
        async with self._free:
            return await self._call_process(message)

    async def forget(self, attempt: str) -> None:
        """Pure tools leave nothing."""

    async def close(self) -> None:
        """End the processes."""
        while self._idle:
            await _end(self._idle.pop())

    async def _call_process(self, message: bytes) -> ToolOutcome:
        process = self._idle.pop() if self._idle else await self._start()
        is_whole = False
        try:
            answer = await _exchange(process, message)
            is_whole = True
        except (asyncio.IncompleteReadError, ConnectionError, ValueError) as error:
            return ToolError("tool_crashed", f"the tool's process ended: {type(error).__name__}", may_repeat=True)
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
