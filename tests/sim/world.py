"""A whole Asterism in one process: real core, loop, store, services and frames, a virtual clock, and streams of bytes
in memory that a seed cuts, delays and loses."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc.aio

from asterism.orchestrator.core.credential import Role
from asterism.orchestrator.core.edits import AddLine, AddStar, CancelStar, Edit, EditBatch
from asterism.orchestrator.core.effects import Assign
from asterism.orchestrator.core.errors import AsterismError
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.records import AttemptLeased, Record
from asterism.orchestrator.core.star import OutputOf, RetryPolicy, StarKind, StarSpec, Timeouts
from asterism.orchestrator.loop import Loop
from asterism.orchestrator.services.auth import CALLER, Gate, Identity
from asterism.orchestrator.services.client import ClientService
from asterism.orchestrator.services.rates import Places, TokenBuckets
from asterism.orchestrator.services.worker import WorkerService
from asterism.protocol.convert import record_from_proto
from asterism.protocol.v1 import client_pb2, types_pb2, worker_pb2
from asterism.store.memory import MemoryStore
from asterism.store.sql import SqlStore
from asterism.workers.reports import Failed, Proposal, Stopped, Succeeded, describe_error
from asterism.workers.session import Session
from asterism.workers.wire import frame_from_proto, frame_to_proto, hello_frame

LEASE_S = 10.0
SLOTS = 3
EOF = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs lack it


class PowerCut(Exception):
    """The orchestrator is gone in the middle of an append."""


class CuttingMemoryStore(MemoryStore):
    """A store of which the power fails right before or right after an append."""

    cut: str | None = None

    async def append(self, records: Sequence[Record], epoch: int) -> None:
        if self.cut == "before":
            raise PowerCut
        await super().append(records, epoch)
        if self.cut == "after":
            raise PowerCut

    async def settle(self) -> None:
        """Nothing is ever under way."""


class CuttingSqlStore(SqlStore):
    """The same on disk."""

    cut: str | None = None

    async def append(self, records: Sequence[Record], epoch: int) -> None:
        if self.cut == "before":
            raise PowerCut
        await super().append(records, epoch)
        if self.cut == "after":
            raise PowerCut

    async def settle(self) -> None:
        """Until everything that was to be read before has been: reads happen one after the other."""
        await self._database.read(lambda _: None)


CuttingStore: TypeAlias = CuttingMemoryStore | CuttingSqlStore


class SimClock:
    """Virtual time; knows when the loop has nothing to do."""

    def __init__(self, rng: random.Random) -> None:
        self.at = 1_000_000.0
        self.idle = asyncio.Event()
        self._rng = rng
        self._sleepers: dict[asyncio.Event, float] = {}

    def now(self) -> float:
        return self.at

    def chance(self) -> float:
        return self._rng.random()

    def advance(self, seconds: float) -> None:
        self.at += seconds
        for wake, until in self._sleepers.items():
            if until <= self.at:
                self.idle.clear()
                wake.set()

    async def wait(self, wake: asyncio.Event, until: float | None) -> None:
        if until is not None and until <= self.at:
            return
        if until is not None:
            self._sleepers[wake] = until
        self.idle.set()
        try:
            await wake.wait()
        finally:
            self.idle.clear()
            self._sleepers.pop(wake, None)


class Pipe:
    """One direction of a stream: bytes in order, until it is closed."""

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque()
        self._ready = asyncio.Event()
        self.is_closed = False

    def put(self, frame: bytes) -> None:
        if not self.is_closed:
            self._frames.append(frame)
            self._ready.set()

    def close(self, *, loses: bool) -> None:
        if loses:
            self._frames.clear()
        self.is_closed = True
        self._ready.set()

    def find(self) -> bytes | None:
        return self._frames.popleft() if self._frames else None

    async def get(self) -> bytes | None:
        while not self._frames and not self.is_closed:
            self._ready.clear()
            await self._ready.wait()
        return self._frames.popleft() if self._frames else None


@dataclass
class Stream:
    """The context of one streaming call, as a servicer sees it."""

    request_type: type[Any]
    up: Pipe = field(default_factory=Pipe)
    down: Pipe = field(default_factory=Pipe)

    async def read(self) -> Any:
        frame = await self.up.get()
        return EOF if frame is None else self.request_type.FromString(frame)

    async def write(self, message: Any) -> None:
        self.down.put(message.SerializeToString())

    def cut(self, *, loses: bool) -> None:
        self.up.close(loses=loses)
        self.down.close(loses=loses)


class Incarnation:
    """One life of the orchestrator's process."""

    def __init__(self, store: CuttingStore, clock: SimClock) -> None:
        self._store = store
        self._clock = clock
        self.ready = asyncio.Event()
        self.loop: Loop | None = None
        self.workers: WorkerService | None = None
        self.clients: ClientService | None = None
        self._group: asyncio.TaskGroup | None = None

    async def live(self) -> None:
        """From recovery to the end, which is a power cut or a cancellation."""
        epoch = await self._store.acquire_epoch()
        machine = Machine(await self._store.load(), at=self._clock.now(), lease_s=LEASE_S)
        loop = Loop(machine=machine, store=self._store, clock=self._clock, epoch=epoch)
        gate = Gate(self._store, self._clock, is_required=False)
        self.workers = WorkerService(loop, self._clock, gate, lease_s=LEASE_S, max_workers=10)
        buckets = TokenBuckets(self._clock, per_s=1000.0, burst=1000)
        places = Places("watches", 99)
        self.clients = ClientService(loop, self._store, self._clock, gate, changes=buckets, watches=places)
        self.loop = loop
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self.ready.set()
                await loop.run()
        except* PowerCut:
            pass
        finally:
            self._clock.idle.set()

    def call(self, method: Callable[..., Any], stream: Stream, *arguments: Any) -> None:
        """Serve one streaming call until it ends or the process does."""

        async def serve() -> None:
            CALLER.set(Identity("local", Role.ADMIN, None))
            try:
                await method(*arguments, stream)
            except AsterismError:
                pass
            finally:
                stream.cut(loses=False)

        assert self._group is not None
        self._group.create_task(serve())


class SimWorker:
    """A worker machine: the real session and frames, and stars that end when the seed says so."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self.id = WorkerId(name)
        self._rng = rng
        self.instance = 0
        self.session = Session(SLOTS)
        self.running: dict[FencingToken, Assign] = {}
        self.stream: Stream | None = None
        self.is_welcome = False
        self.acknowledged: list[FencingToken] = []
        self.assigned: list[FencingToken] = []
        self.asking: set[FencingToken] = set()
        """Attempts of which a proposal is not answered yet."""
        self.detached_at: float | None = None

    def dial(self, incarnation: Incarnation) -> None:
        """Open a stream and greet."""
        assert incarnation.workers is not None
        self.stream = Stream(worker_pb2.WorkerFrame)
        self.is_welcome = False
        profile = WorkerProfile(SLOTS, tools=("t",), programs=("plan", "p"))
        self.stream.up.put(hello_frame(self.id, str(self.instance), profile, self.session.held).SerializeToString())
        incarnation.call(incarnation.workers.Attach, self.stream, None)

    def hang_up(self, at: float, *, loses: bool) -> None:
        if self.stream is not None:
            self.stream.cut(loses=loses)
            self.stream = None
            self.detached_at = at
            for proposal in self.session.detach():
                self._end(proposal.fencing_token, "edits_unanswered")

    def die(self, at: float) -> None:
        """SIGKILL: what ran and what was kept is gone."""
        self.hang_up(at, loses=True)
        self.instance += 1
        self.session = Session(SLOTS)
        self.running.clear()

    def lose_leases(self) -> None:
        for token in list(self.running):
            del self.running[token]
            self.session.finish(Stopped(token))

    def read(self, at: float) -> None:
        """Take in all frames that have come."""
        stream = self.stream
        if stream is None:
            return
        while (raw := stream.down.find()) is not None:
            incoming = frame_from_proto(worker_pb2.OrchestratorFrame.FromString(raw), self.id)
            if incoming.welcome is not None:
                self.session.attach()
                self.is_welcome = True
                self.detached_at = None
            for assignment in incoming.assignments:
                assert isinstance(assignment, Assign)
                self.assigned.append(assignment.fencing_token)
                if self.session.accept(assignment.fencing_token):
                    self.running[assignment.fencing_token] = assignment
            for token in incoming.stops:
                if self.session.stop(token):
                    del self.running[token]
                    self.session.finish(Stopped(token))
            self.session.acknowledge(incoming.acknowledged)
            self.acknowledged.extend(incoming.acknowledged)
            for answer in incoming.answers:
                self.asking.discard(answer.fencing_token)
                if self.session.answered(answer.fencing_token, answer.proposal) and not answer.is_accepted:
                    self._end(answer.fencing_token, "plan_refused")
        if stream.down.is_closed:
            self.hang_up(at, loses=False)

    def send(self) -> None:
        if self.stream is not None and self.is_welcome:
            self.stream.up.put(frame_to_proto(self.session.take()).SerializeToString())

    def _end(self, token: FencingToken, code: str) -> None:
        if self.running.pop(token, None) is not None:
            self.session.finish(Failed(token, describe_error(code, "in the simulation", retryable=True)))

    def work(self, *, is_kind: bool) -> None:
        """Let one star get on: plans add stars, others succeed with or without edits, or fail."""
        if not self.running:
            return
        assign = self._rng.choice(list(self.running.values()))
        token = assign.fencing_token
        if token in self.asking:
            return
        if assign.kind is StarKind.PLAN and self._rng.random() < 0.5:
            self.asking.add(token)
            self.session.propose(Proposal(token, self._rng.randrange(1, 1 << 30), _plan_edits(self._rng)))
            return
        del self.running[token]
        if not is_kind and self._rng.random() < 0.25:
            code, retryable = "boom", self._rng.random() < 0.8
            self.session.finish(Failed(token, describe_error(code, "by the seed", retryable=retryable)))
            return
        edits = _deeper(assign, self._rng) if assign.may_edit and self._rng.random() < 0.5 else None
        self.session.finish(Succeeded(token, f'{{"by":"{self.id}","token":{token}}}', edits))


def _spec(name: str, **changes: Any) -> StarSpec:
    timeouts = Timeouts(start_to_close_s=60.0)
    return StarSpec(StarId(name), StarKind.TOOL, "t", timeouts=timeouts, retry=RetryPolicy(4, 0.5), **changes)


def _plan_edits(rng: random.Random) -> EditBatch:
    """A few stars of a plan whose names depend on the draw: two batches may clash, and then one is refused whole."""
    part = rng.randrange(6)
    first, second, last = (f"s{part}{letter}" for letter in "abc")
    edits: list[Edit] = [
        AddStar(_spec(first, may_edit=True)),
        AddStar(_spec(second, inputs={"x": OutputOf(StarId(first))})),
        AddStar(_spec(last)),
        AddLine(TaskStarLine(StarId(first), StarId(second))),
        AddLine(TaskStarLine(StarId(second), StarId(last), LineKind.COMPLETION)),
    ]
    return EditBatch(tuple(edits))


def _deeper(assign: Assign, rng: random.Random) -> EditBatch:
    edits: list[Edit] = [AddStar(_spec(f"{assign.star}-x"))]
    if rng.random() < 0.3:
        edits.append(CancelStar(StarId(f"{assign.star}-x")))
    return EditBatch(tuple(edits))


@dataclass
class Watcher:
    """Someone who watches a constellation through every cut, and keeps what he saw."""

    constellation: ConstellationId
    seen: list[Record] = field(default_factory=list)
    stream: Stream | None = None
    hangs: bool = False

    def read(self) -> None:
        if self.stream is None:
            return
        while (raw := self.stream.down.find()) is not None:
            response = client_pb2.WatchResponse.FromString(raw)
            self.seen.extend(record_from_proto(record) for record in response.records)
        if self.stream.down.is_closed:
            self.stream = None

    def dial(self, incarnation: Incarnation) -> None:
        assert incarnation.clients is not None
        self.stream = Stream(client_pb2.WatchRequest)
        after_seq = self.seen[-1].seq if self.seen else 0
        request = client_pb2.WatchRequest(constellation=self.constellation, after_seq=after_seq, with_text=True)
        incarnation.call(incarnation.clients.Watch, self.stream, request)


def leased_tokens(records: Sequence[Record]) -> set[FencingToken]:
    return {record.fencing_token for record in records if isinstance(record, AttemptLeased)}


REQUEST = types_pb2.Request(form="plan", text='{"stars": [{"id": "a", "kind": "tool", "program": "t"}]}', name="sim")
