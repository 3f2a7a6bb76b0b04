"""Runs one order in a process of its own, and takes no more from it than was agreed."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asterism.workers
from asterism.workers.sandbox.order import Order

_PART: Final = 64 * 1024
_LEFTOVER_S: Final = 1.0
"""How long output is waited for once the process has ended: one that got away may hold the pipe open."""
_START: Final = "import sys; sys.path.append(sys.argv.pop(1)); from asterism.workers.sandbox.inside import main; main()"
_ROOT: Final = str(Path(asterism.workers.__file__).parents[2])
"""Where `asterism` is imported from."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended: the report of its process (None: it ended without one), and what its program wrote."""

    report: dict[str, Any] | None
    stdout: bytes = b""
    stderr: bytes = b""
    is_whole: bool = True
    """Whether nothing that was written was dropped."""


async def run_order(order: Order, given: bytes = b"") -> Ended:
    """Run it, with `given` as the input of its program. Raises TimeoutError; cancelled, it leaves nothing that runs."""
    limits = order.limits
    output, errors, report = (
        _Kept(most) for most in (limits.output_bytes, limits.output_bytes, limits.result_bytes + _PART)
    )
    told = await asyncio.to_thread(lambda: order.encode() + given)  # as much as the inputs of a star may be
    async with AsyncExitStack() as stack:
        writing = [await stack.enter_async_context(_piped(kept)) for kept in (output, errors, report)]
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", "-c", _START, _ROOT, str(writing[2]), str(os.getpid())),
                stdin=asyncio.subprocess.PIPE,
                stdout=writing[0],
                stderr=writing[1],
                pass_fds=(writing[2],),
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
                start_new_session=True,
            )
        finally:
            for descriptor in writing:
                os.close(descriptor)
        assert process.stdin is not None
        try:
            async with asyncio.timeout(limits.time_s), asyncio.TaskGroup() as group:
                group.create_task(_feed(process.stdin, told))
                await process.wait()
                if not order.is_confined:
                    _kill_group(process)
                for kept in (report, output, errors):
                    with suppress(TimeoutError):
                        await asyncio.wait_for(kept.ended.wait(), _LEFTOVER_S)
        finally:
            if process.returncode is None:
                _kill_group(process)
                await asyncio.shield(process.wait())
    return Ended(_read_report(report), bytes(output.data), bytes(errors.data), output.is_whole and errors.is_whole)


def _read_report(kept: "_Kept") -> dict[str, Any] | None:
    try:
        report = json.loads(kept.data)
    except ValueError:
        return None
    return report if isinstance(report, dict) and kept.is_whole else None


class _Kept(asyncio.Protocol):
    """The beginning of what comes through a pipe; a program that writes more is neither held up nor believed."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.data = bytearray()
        self.is_whole = True
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        room = self._most - len(self.data)
        self.data += data[:room]
        self.is_whole = self.is_whole and len(data) <= room

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()


@asynccontextmanager
async def _piped(kept: _Kept) -> AsyncIterator[int]:
    """The end of a pipe to write to, for the process; what comes goes to `kept` until the context ends."""
    reading, writing = os.pipe()
    file = os.fdopen(reading, "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: kept, file)
    try:
        yield writing
    finally:
        transport.close()


async def _feed(target: asyncio.StreamWriter, data: bytes) -> None:
    with suppress(ConnectionError):  # it need not read its input
        target.write(data)
        await target.drain()
        target.close()
        await target.wait_closed()


def _kill_group(process: asyncio.subprocess.Process) -> None:
    """End the call's process and all of its group; of a confined one everything else ends with it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
