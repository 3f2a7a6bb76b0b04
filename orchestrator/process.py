"""The orchestrator as a process: signals in, exit code out."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import structlog

from asterism.orchestrator.app import serve
from asterism.orchestrator.config import Settings

log = structlog.get_logger(__name__)

EXIT_SECOND_SIGNAL: Final = 130
SWITCH_S: Final = 0.0003
"""How long an OS thread may keep Python to itself while another waits for it. A thread that writes (large appends, slow
disks) gives it away at each row and waits for it again: at the default of 5 ms, an append of some rows took as many
times that as the loop had work of its own to do."""
GC_THRESHOLDS: Final = (50_000, 20, 100)
"""Graphs and records hold no cycles, and are what is allocated most: the default looked for some every 700 objects. At
50,000 a search takes some 4 ms. Calls of gRPC do leave cycles, about 6 KB a request of 50 stars: at 200,000 they were
25 MB when the first search came (tests/bench/soak.py), and an edit of 1,000 stars took 74 ms where it takes 59."""


def run_until_signal(settings: Settings, *, ready_file: Path | None) -> None:
    """Serve until the first SIGTERM or SIGINT; a second one ends the process at once."""
    tune_interpreter()
    with asyncio.Runner(loop_factory=find_loop_factory()) as runner:
        runner.run(_run(settings, ready_file))


def tune_interpreter() -> None:
    """Settings of Python's own for a process with one event loop, a few OS threads beside it, and many small objects.

    With the defaults, a run of `layered:1000` took 1.5 times as long (tests/bench/graphs).
    """
    sys.setswitchinterval(SWITCH_S)
    gc.set_threshold(*GC_THRESHOLDS)


def find_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Of uvloop where the extra `fast` is installed; else None, for asyncio's own."""
    if find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    return factory


async def _run(settings: Settings, ready_file: Path | None) -> None:
    stop = asyncio.Event()

    def on_signal(name: str) -> None:
        if stop.is_set():
            os._exit(EXIT_SECOND_SIGNAL)
        log.info("signal", name=name)
        stop.set()

    running = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        running.add_signal_handler(number, on_signal, number.name)
    await serve(settings, stop, ready_file=ready_file)
