"""A worker's machine: the real link, session, attempts and runner, and tools that take the time that the seed says."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import grpc.aio

from asterism.agents.asks import (
    CallTool,
    Emit,
    Hear,
    Piece,
    Program,
    ProgramContext,
    ProgramFailed,
    ProgramResult,
    Say,
    ToolDescription,
    ToolError,
    ToolResult,
)
from asterism.orchestrator.core.effects import Assign, InputText, InputValue
from asterism.orchestrator.core.errors import AsterismError
from asterism.orchestrator.core.ids import FencingToken, WorkerId
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.values import Json
from asterism.planner.edits_json import edits_to_json
from asterism.protocol.routes import Routes
from asterism.workers.daemon import work
from asterism.workers.link import Link, Work
from asterism.workers.reports import Report
from asterism.workers.runner import Runner
from asterism.workers.wire import Welcome
from tests.sim.auditor import Auditor
from tests.sim.network import Channel, Network
from tests.sim.plans import PROGRAMS, draw_edits, draw_plan
from tests.sim.processes import Process
from tests.sim.virtual import AtOnce, Never

SLOTS: Final = 2
DRAIN_S: Final = 4.0


@dataclass
class Temper:
    """How often what runs goes wrong, 0 to 1; and how many stars a plan has."""

    failing: float
    hanging: float
    plan_size: int


class SimTools:
    """Tools that wait, fail and hang."""

    descriptions: Sequence[ToolDescription] = ()

    def __init__(self, seed: str, temper: Temper) -> None:
        self._rng = random.Random(seed)
        self._temper = temper

    def call_quick(self, name: str, arguments: Mapping[str, Json]) -> ToolResult | ToolError | None:
        return self._outcome(arguments) if name == "quick" else None

    async def call(self, name: str, arguments: Mapping[str, Json], attempt: str = "") -> ToolResult | ToolError:
        if arguments and self._rng.random() < self._temper.hanging:
            await Never()
        await asyncio.sleep(self._rng.choice([0.0, 0.1, 0.6, 1.5]))
        return self._outcome(arguments)

    async def forget(self, attempt: str) -> None:
        """They leave nothing."""

    def _outcome(self, arguments: Mapping[str, Json]) -> ToolResult | ToolError:
        if self._rng.random() < self._temper.failing:
            code = self._rng.choice(["tool_crashed", "wrong"])
            return ToolError(code, "the seed says so", may_repeat=code == "tool_crashed")
        return ToolResult({"drawn": self._rng.randrange(1 << 30)})


class Programs:
    """What plans and gathers: edits in mid-run, edits with the result, failures."""

    def __init__(self, seed: str, temper: Temper) -> None:
        self._seed = seed
        self._temper = temper

    def plan(self, inputs: Mapping[str, Json], context: ProgramContext) -> Program:
        """Begins as a plan does, then has second thoughts."""
        rng = self._dice(context)
        if context.star.partition("~")[0] == "plan":
            size = rng.randint(1, self._temper.plan_size)
            yield Emit(edits_to_json(draw_plan(rng, size)))
        for _ in range(rng.randint(0, 2)):
            yield CallTool("slow", {})
            yield Emit(edits_to_json(draw_edits(rng)))
        return (yield from self._end(rng))

    def gather(self, inputs: Mapping[str, Json], context: ProgramContext) -> Program:
        """Talks, waits and ends, now and then with edits."""
        rng = self._dice(context)
        yield Say("thinking")
        while "x" in context.streams and isinstance((yield Hear("x")), Piece):
            pass
        yield CallTool("slow", {})
        return (yield from self._end(rng))

    def _dice(self, context: ProgramContext) -> random.Random:
        return random.Random(f"{self._seed}/{context.constellation}/{context.star}/{context.attempt}")

    def _end(self, rng: random.Random) -> Program:
        if rng.random() < self._temper.failing:
            raise ProgramFailed("boom", "the seed says so", retryable=rng.random() < 0.7)
        yield Say("and so")
        edits = edits_to_json(draw_edits(rng)) if rng.random() < 0.3 else ()
        return ProgramResult({"drawn": rng.randrange(1 << 30)}, edits)


class Watched:
    """What runs assignments, and who is told of each that begins."""

    def __init__(self, work: Work, process: Process, auditor: Auditor) -> None:
        self._work = work
        self._process = process
        self._auditor = auditor

    def start(self, assignment: Assign) -> None:
        self._auditor.started(self._process, assignment.fencing_token)
        self._work.start(assignment)

    def stop(self, fencing_token: FencingToken) -> None:
        self._work.stop(fencing_token)

    def stop_all(self) -> None:
        self._work.stop_all()

    def hear(self, part: InputText | InputValue) -> None:
        self._work.hear(part)


class SimLink(Link):
    """The real link, of which the auditor is told what runs and whether there is a stream."""

    def __init__(self, process: Process, auditor: Auditor, **options: Any) -> None:
        super().__init__(**options)
        self._process = process
        self._auditor = auditor

    def serve(self, work: Work) -> None:
        super().serve(Watched(work, self._process, self._auditor))

    def finish(self, report: Report) -> None:
        self._auditor.ended(self._process, report.fencing_token)
        super().finish(report)

    def _welcomed(self, welcome: Welcome) -> None:
        self._auditor.went_online(self._process)
        super()._welcomed(welcome)

    def _detached(self, error: AsterismError | None) -> None:
        self._auditor.went_offline(self._process)
        super()._detached(error)


class SimWorker:
    """The machine, and a supervisor that starts the worker anew."""

    def __init__(
        self, name: str, seed: str, network: Network, addresses: str, temper: Temper, auditor: Auditor
    ) -> None:
        self.name = name
        self.process = Process(name)
        self.lives: list[Process] = []
        self.first_dies_at: int | None = None
        """The point at which its first process dies."""
        self.down_s = 0.5
        """How long it stays down after its next end."""
        self.temper = temper
        self._seed = f"{seed}/{name}"
        self._network = network
        self._addresses = addresses
        self._auditor = auditor
        self._told = asyncio.Event()
        self._is_retired = False

    async def run(self) -> Exception | None:
        """Live, die and start again, until retired; gives what a life raised that it should not have."""
        while not self._is_retired:
            self.process = Process(self.name)
            self.process.dies_at = None if self.lives else self.first_dies_at
            self.lives.append(self.process)
            self._told.clear()
            error = await self.process.run(self._live(f"{self._seed}/{len(self.lives)}", len(self.lives)))
            self._network.forget(self.process)
            if error is not None:
                return error
            down_s, self.down_s = self.down_s, 0.5
            if not self._is_retired:
                await asyncio.sleep(down_s)
        return None

    def drain(self) -> None:
        """SIGTERM."""
        self._told.set()

    def retire(self) -> None:
        """SIGTERM, and it is not started again."""
        self._is_retired = True
        self._told.set()

    async def _live(self, seed: str, life: int) -> None:
        rng = random.Random(seed)
        offered = tuple(name for names in PROGRAMS.values() for name in names)
        process = self.process
        link = SimLink(
            process,
            self._auditor,
            dial=lambda address: self._dial(process, address),
            routes=Routes(self._addresses),
            worker=WorkerId(self.name),
            instance=f"{self.name}-{life}",
            profile=WorkerProfile(SLOTS, models=("m",), tools=offered, programs=offered),
            chance=rng.random,
        )
        programs = Programs(self._seed, self.temper)
        tools = SimTools(seed, self.temper)
        runner = Runner(
            programs={"plan": programs.plan, "gather": programs.gather},
            tools=tools,
            engines={},
            port=link,
            steps=AtOnce(),
            heard={"gather": {"x"}},
        )
        await work(link, runner, tools, name=self.name, drain_s=DRAIN_S, told=self._wait_told)

    async def _wait_told(self) -> None:
        await self._told.wait()

    async def _dial(self, process: Process, address: str) -> grpc.aio.Channel:
        await process.point("before dial")
        return cast(grpc.aio.Channel, Channel(self._network, process, address))
