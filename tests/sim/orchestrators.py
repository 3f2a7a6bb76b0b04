"""An orchestrator's machine: the real loop, services, recovery and lease, put together as `app.py` does, and a
supervisor that starts it again."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from asterism.orchestrator.core.errors import EPOCH, NotLeading, Overloaded, Unreachable, WrongState
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.leading import Leadership, Standby
from asterism.orchestrator.loop import Loop
from asterism.orchestrator.services.auth import Gate
from asterism.orchestrator.services.client import ClientService
from asterism.orchestrator.services.fleet import FleetService
from asterism.orchestrator.services.rates import Places, TokenBuckets
from asterism.orchestrator.services.worker import WorkerService
from asterism.protocol.v1 import client_pb2_grpc, fleet_pb2_grpc, worker_pb2_grpc
from tests.sim.auditor import LEADER_LEASE_S, LEASE_S, Auditor, Leader
from tests.sim.clock import SimClock
from tests.sim.disk import Disk, DiskFull, DiskHandle, FalseAlarm
from tests.sim.network import HEALTH, Network
from tests.sim.processes import Process

FORGETS_EACH_S: Final = 0.2
PART: Final = 3
"""Stars that the store forgets at a time: fewer than most requests have."""
WALL_S: Final = 1_000_000.0
"""What the wall clocks show at the beginning."""
SERVING: Final = b"\x08\x01"
NOT_SERVING: Final = b"\x08\x02"


class Life:
    """One process of `asterism serve`; a host of the network."""

    def __init__(self, machine: "SimOrchestrator", process: Process) -> None:
        self._of = machine
        self.process = process
        self.clock = SimClock(machine.rng, WALL_S + machine.skew_s)
        self.loop: Loop | None = None
        self._handlers: dict[str, Any] = {}
        self._group: asyncio.TaskGroup | None = None
        self._standby: Standby | None = None
        self._is_forgetting = False

    def find(self, path: str) -> Any:
        """What serves the method; whoever stands by refuses, and says who leads."""
        if path == HEALTH:
            return SERVING if self.loop is not None else NOT_SERVING
        if self.loop is None:
            raise NotLeading("" if self._standby is None else self._standby.leader)
        return self._handlers[path]

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        assert self._group is not None
        return self._group.create_task(work, context=self.process.context())

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """For the generated code; the same handlers come by name as well."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        self._handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    def forget(self, age_s: float, times: int) -> None:
        """Forget what ended longer ago, so many times, if this one leads and has nothing of the kind to do yet."""
        if self.loop is not None and not self.process.is_dead and not self._is_forgetting:
            self._is_forgetting = True
            self.spawn(self._forget(self.loop, age_s, times))

    async def _forget(self, loop: Loop, age_s: float, times: int) -> None:
        # It may be about to leave.
        with suppress(Overloaded):
            for _ in range(times):
                while await loop.forget(self.clock.now() - age_s, PART):
                    pass
                await asyncio.sleep(FORGETS_EACH_S)
        self._is_forgetting = False

    async def live(self) -> None:
        """From start to end, which may be told or suffered."""
        of = self._of
        store = DiskHandle(of.disk, self.process, is_shared=of.is_shared)
        async with asyncio.TaskGroup() as group:
            self._group = group
            of.network.hosts[of.address] = self
            if not of.is_shared:
                await self._lead(store, await store.acquire_epoch(), None)
                return
            self._standby = Standby(store, of.address, LEADER_LEASE_S, asyncio.get_running_loop().time)
            leadership = await self._standby.wait(of.stop)
            if leadership is not None:
                await self._lead_while_renewed(store, leadership)

    async def _lead_while_renewed(self, store: DiskHandle, leadership: Leadership) -> None:
        assert self._group is not None
        keeping = self._group.create_task(leadership.keep())
        await self._lead(store, leadership.epoch, leadership.check)
        keeping.cancel()
        await leadership.resign()

    async def _lead(self, store: DiskHandle, epoch: int, check_lead: Callable[[], None] | None) -> None:
        of, clock = self._of, self.clock
        snapshot = await store.load()
        machine = Machine(snapshot, at=clock.now(), lease_s=LEASE_S)
        loop = Loop(machine=machine, store=store, clock=clock, epoch=epoch, max_mailbox=64, check_lead=check_lead)
        leader = of.auditor.leaders[self.process] = Leader(
            self.process, machine, clock, epoch, clock.now(), check_lead, loop.counts
        )
        gate = Gate(store, clock, is_required=False)
        changes, watches = TokenBuckets(clock, per_s=1000.0, burst=1000), Places("watches", 99)
        clients = ClientService(loop, store, clock, gate, changes=changes, watches=watches)
        server: Any = self
        client_pb2_grpc.add_ClientServiceServicer_to_server(clients, server)
        workers = WorkerService(loop, clock, gate, lease_s=LEASE_S, max_workers=10)
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(workers, server)
        fleet_pb2_grpc.add_FleetServiceServicer_to_server(FleetService(loop, clock), server)
        assert self._group is not None
        running = self._group.create_task(loop.run())
        self.loop = loop
        stopping = self._group.create_task(of.stop.wait())
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            await self._leave(loop)
            loop.stop()
            await running
            leader.has_left = True

    async def _leave(self, loop: Loop) -> None:
        """As `app.py` does: nobody new is let in, and those who hold streams are told and have a moment to go."""
        self._of.network.hosts.pop(self._of.address, None)
        for stream in loop.streams:
            stream.finish()
        for watcher in loop.watchers:
            watcher.cut(Unreachable(self._of.address, "the orchestrator is leaving; resume with after_seq"))
        serving = [(call, call.serving) for call in self._of.network.calls if call.host is self]
        tasks = [task for _, task in serving if task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
        for call, _ in serving:
            call.tear()


class SimOrchestrator:
    """The machine."""

    def __init__(
        self, address: str, rng: random.Random, network: Network, disk: Disk, auditor: Auditor, *, is_shared: bool
    ) -> None:
        self.address = address
        self.rng = rng
        self.network = network
        self.disk = disk
        self.auditor = auditor
        self.is_shared = is_shared
        self.skew_s = 0.0
        """By how much its wall clock is wrong when a process next looks at it."""
        self.down_s = 0.3
        """How long it stays down after its next end."""
        self.stop = asyncio.Event()
        self.process = Process(address)
        self.life: Life | None = None
        self.lives: list[Process] = []
        self.first_dies_at: int | None = None
        """The point at which its first process dies."""
        self.first_stops_at: tuple[int, float] | None = None
        """The point at which its first process is paused, and for how many seconds."""
        self._is_retired = False

    async def run(self) -> Exception | None:
        """Live, die and start again, until retired; gives what a life raised that it should not have."""
        while not self._is_retired:
            self.process = Process(self.address)
            self.process.dies_at = None if self.lives else self.first_dies_at
            self.process.stops_at = None if self.lives else self.first_stops_at
            self.lives.append(self.process)
            self.stop.clear()
            self.life = Life(self, self.process)
            error = await self.process.run(self.life.live())
            self.network.hosts.pop(self.address, None)
            for call in [call for call in self.network.calls if call.host is self.life]:
                call.tear()
            if error is not None and not _is_expected(error):
                return error
            down_s, self.down_s = self.down_s, 0.3
            if not self._is_retired:
                await asyncio.sleep(down_s)
        return None

    def restart(self) -> None:
        """SIGTERM, and the supervisor starts it again."""
        self.stop.set()

    def retire(self) -> None:
        """SIGTERM, and it is not started again."""
        self._is_retired = True
        self.stop.set()


def _is_expected(error: BaseException) -> bool:
    """Whether a process may end with it: the disk refused an append, or the lead is lost."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_expected(one) for one in error.exceptions)
    is_lost = isinstance(error, WrongState) and error.kind == EPOCH
    return is_lost or isinstance(error, DiskFull | FalseAlarm | Unreachable)
