"""Retention: what ended long ago goes, in memory and on disk alike, and nobody who is at it is harmed."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from asterism.orchestrator.clock import ManualClock
from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.errors import NotFound, Overloaded
from asterism.orchestrator.core.events import CancelRequested, EditRequested
from asterism.orchestrator.core.ids import ConstellationId, WorkerId
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.loop import Loop
from asterism.orchestrator.outbox import WorkerOutbox
from asterism.orchestrator.retention import LOOK_S, keep_retention
from asterism.protocol.client import AsyncClient
from asterism.protocol.v1 import client_pb2
from asterism.store.memory import MemoryStore
from tests.orchestrator.fleet import attached, noop, submitted, succeeded
from tests.orchestrator.serving import Peer, served

START = 1_000_000.0
C1 = ConstellationId("c1")
DAY_S = 86_400.0


class SlowStore(MemoryStore):
    """A store that can be held up while it forgets, after it has looked at what to spare."""

    def __init__(self) -> None:
        super().__init__()
        self.may_forget = asyncio.Event()
        self.may_forget.set()
        self.is_forgetting = asyncio.Event()
        self.calls = 0

    async def forget(
        self, ended_before: float, spared: Collection[ConstellationId], most_stars: int, epoch: int
    ) -> Sequence[ConstellationId]:
        """Wait, then forget."""
        self.calls += 1
        self.is_forgetting.set()
        await self.may_forget.wait()
        self.is_forgetting.clear()
        return await super().forget(ended_before, spared, most_stars, epoch)


class Rig:
    """A loop in which one request has ended at START."""

    def __init__(self, store: SlowStore, loop: Loop, clock: ManualClock) -> None:
        self.store = store
        self.loop = loop
        self.clock = clock

    async def end_one(self, name: str = "c1", token: int = 1) -> None:
        """A request that is planned and ends."""
        await self.loop.ask(submitted(self.clock.now(), name))
        self.loop.tell(succeeded(self.clock.now(), token), self.outbox)
        await self.loop.settle()
        assert self.loop.machine.constellations[ConstellationId(name)].state is ConstellationState.SUCCEEDED

    async def attach(self) -> None:
        """The worker of this rig."""
        self.outbox = WorkerOutbox(WorkerId("w1"), "i1", 100)
        await self.loop.attach(attached(self.clock.now()), self.outbox)


@asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    """Runs while the block runs."""
    store, clock = SlowStore(), ManualClock(START)
    epoch = await store.acquire_epoch()
    loop = Loop(machine=Machine(await store.load(), at=START, lease_s=1e9), store=store, clock=clock, epoch=epoch)
    async with asyncio.TaskGroup() as group:
        group.create_task(loop.run())
        made = Rig(store, loop, clock)
        await made.attach()
        yield made
        store.may_forget.set()
        loop.stop()


async def test_memory_forgets_what_the_store_has_forgotten() -> None:
    async with rig() as at:
        await at.end_one()
        assert await at.loop.forget(START, 100) == []
        assert await at.loop.forget(START + 1, 100) == [C1]
        assert C1 not in at.loop.machine.constellations
        with pytest.raises(NotFound):
            await at.loop.ask(CancelRequested(START, C1, "late"))
        # Its request_id is free again.
        reply = await at.loop.ask(submitted(START, "c2", request_id="r-c1"))
        assert reply is not None
        assert reply.is_new


async def test_what_is_watched_or_kept_is_spared() -> None:
    async with rig() as at:
        await at.end_one()
        with at.loop.watching(C1, with_text=False):
            assert await at.loop.forget(START + 1, 100) == []
        async with at.loop.kept(C1):
            assert await at.loop.forget(START + 1, 100) == []
            await at.loop.ask(EditRequested(START, C1, "client:ann", noop("late")))
        assert await at.loop.forget(START + 1, 100) == []
        assert at.loop.machine.constellations[C1].state is ConstellationState.RUNNING


async def test_who_comes_while_it_is_forgotten_waits_and_then_does_not_find_it() -> None:
    async with rig() as at, asyncio.TaskGroup() as group:
        await at.end_one()
        at.store.may_forget.clear()
        forgetting = group.create_task(at.loop.forget(START + 1, 100))
        await at.store.is_forgetting.wait()

        async def find() -> object:
            async with at.loop.kept(C1):
                return at.loop.machine.constellations.get(C1) or await at.store.find_constellation(C1)

        finding = group.create_task(find())
        await asyncio.sleep(0)
        assert not finding.done()
        at.store.may_forget.set()
        assert await forgetting == [C1]
        assert await finding is None


async def test_events_wait_for_it_and_are_stepped_afterwards() -> None:
    async with rig() as at, asyncio.TaskGroup() as group:
        await at.end_one()
        at.store.may_forget.clear()
        group.create_task(at.loop.forget(START + 1, 100))
        await at.store.is_forgetting.wait()
        asking = group.create_task(at.loop.ask(submitted(START, "c2")))
        await asyncio.sleep(0)
        assert not asking.done()
        at.store.may_forget.set()
        assert await asking is not None


async def test_one_who_wants_to_forget_when_the_loop_has_stopped_is_told() -> None:
    async with rig() as at:
        at.loop.stop()
        with pytest.raises(Overloaded):
            await at.loop.forget(START, 100)


async def test_it_looks_again_and_again_and_forgets_part_by_part() -> None:
    async with rig() as at:
        await at.end_one("c1", 1)
        at.clock.advance(DAY_S / 2)
        await at.end_one("c2", 2)
        keeping = asyncio.ensure_future(keep_retention(at.loop, at.clock, DAY_S))
        kept = at.loop.machine.constellations
        await turns()
        assert set(kept) == {"c1", "c2"}
        at.clock.advance(DAY_S / 2 - 1)
        await turns()
        assert set(kept) == {"c1", "c2"}
        at.clock.advance(LOOK_S)
        await turns()
        assert set(kept) == {"c2"}
        at.clock.advance(DAY_S / 2)
        await turns()
        assert set(kept) == set()
        assert len(await at.store.read_whole_journal(after_seq=0, limit=9)) == 0
        keeping.cancel()


async def turns() -> None:
    """As many as the loop needs to come to rest."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_it_rests_after_each_part() -> None:
    """As long as the part took, by the clock; so that others come to the store."""
    async with rig() as at:
        await at.end_one()
        at.store.may_forget.clear()
        at.clock.advance(DAY_S + 1)
        keeping = asyncio.ensure_future(keep_retention(at.loop, at.clock, DAY_S))
        await at.store.is_forgetting.wait()
        at.clock.advance(5.0)
        at.store.may_forget.set()
        await turns()
        assert at.store.calls == 1
        at.clock.advance(5.0)
        await turns()
        assert at.store.calls == 2
        keeping.cancel()


async def test_a_client_is_told_that_what_it_asks_for_may_have_been_removed(tmp_path: Path) -> None:
    async with served(tmp_path, retention_s=3600) as orchestrator, Peer(orchestrator.address) as peer:
        wanted = await peer.submit("r1")
        await peer.client.Cancel(client_pb2.CancelRequest(constellation=wanted, reason="enough"))
        assert await orchestrator.loop.forget(4e9, 100) == [wanted]
        for asking in (
            peer.client.GetConstellation(client_pb2.GetConstellationRequest(constellation=wanted)),
            peer.client.Cancel(client_pb2.CancelRequest(constellation=wanted)),
            peer.client.Retry(client_pb2.RetryRequest(constellation=wanted)),
            peer.client.Decide(client_pb2.DecideRequest(constellation=wanted, star="plan", is_approved=True)),
            peer.client.Pause(client_pb2.PauseRequest(constellation=wanted, is_paused=True)),
            peer.client.Wait(client_pb2.WaitRequest(constellation=wanted)),
            peer.watch(wanted).read(),
        ):
            with pytest.raises(grpc.aio.AioRpcError, match="kept for 3600 s, so it may have been removed") as refused:
                await asking
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        async with AsyncClient(orchestrator.address) as client:
            with pytest.raises(NotFound, match="may have been removed"):
                await client.get(ConstellationId(wanted))
        assert await peer.submit("r1") != wanted


async def test_a_watch_that_the_retention_overtakes_ends_with_words(tmp_path: Path) -> None:
    """Between the look at who may watch and the watch itself there is a moment in which nothing is spared yet."""
    store = LateStore()
    async with served(tmp_path, store) as orchestrator, Peer(orchestrator.address) as peer:
        wanted = await peer.submit("r1")
        await peer.client.Cancel(client_pb2.CancelRequest(constellation=wanted, reason="enough"))
        before = await store.find_constellation(ConstellationId(wanted))
        assert await orchestrator.loop.forget(4e9, 100) == [wanted]
        store.late = before
        with pytest.raises(grpc.aio.AioRpcError, match="removed while it was read") as refused:
            await peer.watch(wanted).read()
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


class LateStore(MemoryStore):
    """A store whose pictures can be a moment old: it shows what it has forgotten once more."""

    def __init__(self) -> None:
        super().__init__()
        self.late: TaskConstellation | None = None

    async def find_constellation(self, constellation: ConstellationId) -> TaskConstellation | None:
        """What is there, or once what was."""
        late, self.late = self.late, None
        return late or await super().find_constellation(constellation)
