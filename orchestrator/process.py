"""The orchestrator as a process: signals in, exit code out."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Final

import structlog

from asterism.orchestrator.app import serve
from asterism.orchestrator.config import Settings

log = structlog.get_logger(__name__)

EXIT_SECOND_SIGNAL: Final = 130


def run_until_signal(settings: Settings, *, ready_file: Path | None) -> None:
    """Serve until the first SIGTERM or SIGINT; a second one ends the process at once."""
    asyncio.run(_run(settings, ready_file))


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
