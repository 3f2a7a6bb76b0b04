"""The worker as a process: its parts put together, its signals, its end."""

import asyncio
import os
import random
import secrets
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog

from asterism.agents.registry import PROGRAMS, ProgramSpec
from asterism.orchestrator.core.errors import AsterismError
from asterism.planner.programs import PROGRAMS as PLANNING_PROGRAMS
from asterism.protocol.channel import open_channel
from asterism.protocol.routes import Routes
from asterism.workers.attempts import Attempts
from asterism.workers.link import Link
from asterism.workers.metrics_server import serve_metrics
from asterism.workers.model_server import serve_models
from asterism.workers.model_sources import open_engines
from asterism.workers.profile import MAX_SLOTS, count_cores, describe_machine
from asterism.workers.runner import Runner, Tools
from asterism.workers.sandbox.workspaces import sweep
from asterism.workers.settings import WorkSettings
from asterism.workers.step_threads import StepThreads
from asterism.workers.tool_providers import open_tools

STOP_S: Final = 2.0
"""How long attempts that did not end within the drain may take to stop and have that acknowledged."""
INTERRUPTED: Final = 130

_log = structlog.get_logger(__name__)


async def run_worker(settings: WorkSettings) -> None:
    """Work until a signal. Raises AsterismError for what the user must mend."""
    ending = _Ending()
    await asyncio.to_thread(sweep, settings.file.tools.workspaces)
    slots = settings.slots or min(count_cores(), MAX_SLOTS)
    async with (
        open_engines(settings) as engines,
        open_tools(settings.file.tools, settings.file.mcp, at_once=slots) as tools,
    ):
        specs = _find_programs(has_model=bool(engines))
        programs = {name: spec.function for name, spec in specs.items()}
        profile = describe_machine(
            slots=slots, models=engines, tools=tools.descriptions, programs=specs, labels=settings.labels
        )
        _log.info(
            "offering", worker=settings.name, slots=profile.slots, models=profile.models, programs=profile.programs
        )
        link = Link(
            dial=lambda address: open_channel(address, settings.credential, settings.ca_file),
            routes=Routes(settings.join),
            worker=settings.name,
            instance=secrets.token_hex(8),
            profile=profile,
            chance=random.random,
        )
        async with (
            serve_metrics(settings.metrics, engines),
            serve_models(settings.serve_models, settings.serve_credential, engines),
        ):
            runner = Runner(
                programs=programs,
                tools=tools,
                engines=engines,
                port=link,
                steps=StepThreads(),
                heard={name: spec.hears for name, spec in specs.items()},
            )
            ending.waits_for_attempts = True
            try:
                await work(link, runner, tools, name=settings.name, drain_s=settings.drain_s, told=ending.wait)
            except ExceptionGroup as failures:
                refusal = failures.subgroup(AsterismError)
                raise (failures if refusal is None else refusal.exceptions[0]) from None


async def work(
    link: Link, runner: Runner, tools: Tools, *, name: str, drain_s: float, told: Callable[[], Awaitable[None]]
) -> None:
    """Everything that runs while the worker does, under one roof; it ends when `told` has returned and all is done."""
    async with asyncio.TaskGroup() as group:
        attempts = Attempts(runner, tools, link, group)
        link.serve(attempts)
        leaving = group.create_task(_leave_when_told(link, attempts, name, drain_s, told), name="ending")
        await link.run()
        leaving.cancel()
        attempts.stop_all()
    _log.info("left", worker=name)


async def _leave_when_told(
    link: Link, attempts: Attempts, name: str, drain_s: float, told: Callable[[], Awaitable[None]]
) -> None:
    """At the first signal: no new stars, let those that run end and be acknowledged, then say goodbye."""
    await told()
    _log.info("draining", worker=name, at_most_s=drain_s)
    link.drain()
    try:
        async with asyncio.timeout(drain_s):
            await link.wait_idle()
    except TimeoutError:
        _log.warning("stopping what still runs", worker=name)
        attempts.stop_all()
        try:
            async with asyncio.timeout(STOP_S):
                await link.wait_idle()
        except TimeoutError:
            _log.warning("leaving with reports that nobody acknowledged", worker=name)
    link.leave()


class _Ending:
    """The signals that end a worker: the first one drains it, the second one ends the process there and then.

    One that comes while models are still being loaded does so too: nobody knows of the worker yet.
    """

    def __init__(self) -> None:
        self.waits_for_attempts = False
        self._told = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._take, number)

    async def wait(self) -> None:
        """Until the first signal."""
        await self._told.wait()

    def _take(self, number: int) -> None:
        if self._told.is_set() or not self.waits_for_attempts:
            # Tool processes end when their input does; nothing else outlives this process.
            os._exit(INTERRUPTED if self._told.is_set() or number == signal.SIGINT else 0)
        self._told.set()


def _find_programs(*, has_model: bool) -> Mapping[str, ProgramSpec]:
    """What this worker can run: what needs a model only where there is one."""
    registered = {**PROGRAMS, **PLANNING_PROGRAMS}
    return {name: spec for name, spec in registered.items() if has_model or not spec.needs_model}
