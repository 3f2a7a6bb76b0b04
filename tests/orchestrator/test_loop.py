"""The loop: durable before visible, one append for what waits, and an answer for everyone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from asterism.orchestrator.clock import ManualClock
from asterism.orchestrator.core.effects import Acknowledge, Assign
from asterism.orchestrator.core.errors import AlreadyExists, AsterismError, NotFound, Overloaded, WrongState
from asterism.orchestrator.core.events import (
    AttemptProgressed,
    CancelRequested,
    Chunk,
    WorkerDetached,
    WorkerRenewed,
    WorkerSaid,
)
from asterism.orchestrator.core.ids import ConstellationId, WorkerId
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.core.records import (
    AttemptLeased,
    ConstellationEnded,
    EditsApplied,
    RequestAccepted,
    WorkerLeft,
)
from asterism.orchestrator.loop import HEARING_S, Loop
from asterism.orchestrator.outbox import WorkerOutbox
from asterism.store.memory import MemoryStore
from tests.orchestrator.fleet import attached, submitted, succeeded
from tests.orchestrator.held_store import DiskFull, HeldStore

START = 1_000_000.0
LEASE_S = 10.0
C1 = ConstellationId("c1")


class Rig:
    """A loop on a clock that stands still."""

    def __init__(self, store: HeldStore, loop: Loop, clock: ManualClock) -> None:
        self.store = store
        self.loop = loop
        self.clock = clock

    async def attach(self, worker: str = "w1", instance: str = "i1", *, max_items: int = 100) -> WorkerOutbox:
        """A worker's stream, let in."""
        outbox = WorkerOutbox(WorkerId(worker), instance, max_items)
        await self.loop.attach(attached(self.clock.now(), worker, instance), outbox)
        return outbox


@asynccontextmanager
async def rig(max_mailbox: int = 100) -> AsyncIterator[Rig]:
    """Runs a loop while the block runs."""
    store, clock = HeldStore(), ManualClock(START)
    await store.open()
    epoch = await store.acquire_epoch()
    machine = Machine(await store.load(), at=START, lease_s=LEASE_S)
    loop = Loop(machine=machine, store=store, clock=clock, epoch=epoch, max_mailbox=max_mailbox)
    async with asyncio.TaskGroup() as group:
        group.create_task(loop.run())
        yield Rig(store, loop, clock)
        store.may_append.set()
        loop.stop()


async def test_answer_comes_after_the_append() -> None:
    async with rig() as at, asyncio.TaskGroup() as group:
        at.store.may_append.clear()
        asking = group.create_task(at.loop.ask(submitted(START)))
        await at.store.is_appending.wait()
        assert not asking.done()
        assert at.store.batches == []
        at.store.may_append.set()
        reply = await asking
        assert reply is not None
        assert (reply.constellation, reply.is_new) == (C1, True)
        assert type(at.store.batches[0][0]) is RequestAccepted


async def test_effects_and_records_leave_after_the_append() -> None:
    async with rig() as at, asyncio.TaskGroup() as group:
        outbox = await at.attach()
        with at.loop.watching(C1, with_text=False) as watcher:
            at.store.may_append.clear()
            group.create_task(at.loop.ask(submitted(START)))
            await at.store.is_appending.wait()
            working = group.create_task(outbox.take(9))
            seeing = group.create_task(watcher.take(9))
            await asyncio.wait([working, seeing], timeout=0)
            assert not working.done()
            assert not seeing.done()
            at.store.may_append.set()
            effects, records = await working, await seeing
            assert [type(effect) for effect in effects] == [Assign]
            assert [type(record) for record in records] == [RequestAccepted, EditsApplied, AttemptLeased]


async def test_what_waits_during_an_append_goes_into_the_next_one_together() -> None:
    async with rig() as at, asyncio.TaskGroup() as group:
        at.store.may_append.clear()
        group.create_task(at.loop.ask(submitted(START, "c0")))
        await at.store.is_appending.wait()
        for number in range(1, 21):
            group.create_task(at.loop.ask(submitted(START, f"c{number}")))
        await asyncio.sleep(0)  # lets them reach the mailbox
        at.store.may_append.set()
    assert len(at.store.batches) == 2
    assert sum(isinstance(record, RequestAccepted) for record in at.store.batches[1]) == 20


async def test_refusal_answers_its_sender_alone_and_changes_nothing() -> None:
    async with rig() as at:
        with pytest.raises(NotFound):
            await at.loop.ask(CancelRequested(START, ConstellationId("nobody"), ""))
        assert at.store.batches == []
        assert await at.loop.ask(submitted(START)) is not None


async def test_full_mailbox_refuses_clients_and_holds_workers_back() -> None:
    async with rig(max_mailbox=3) as at, asyncio.TaskGroup() as group:
        outbox = await at.attach()
        at.store.may_append.clear()
        group.create_task(at.loop.ask(submitted(START, "c0")))
        await at.store.is_appending.wait()
        for number in range(1, 4):
            group.create_task(at.loop.ask(submitted(START, f"c{number}")))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await at.loop.ask(submitted(START, "c4"))
        waiting = group.create_task(at.loop.room())
        await asyncio.wait([waiting], timeout=0)
        assert not waiting.done()
        at.store.may_append.set()
        await waiting
        at.loop.tell(WorkerRenewed(START, outbox.worker), outbox)


async def test_frame_counts_in_the_mailbox_by_what_it_says() -> None:
    async with rig(max_mailbox=3) as at, asyncio.TaskGroup() as group:
        outbox = await at.attach()
        at.store.may_append.clear()
        group.create_task(at.loop.ask(submitted(START, "c0")))
        await at.store.is_appending.wait()
        at.loop.tell(WorkerSaid(START, outbox.worker, (WorkerRenewed(START, outbox.worker),) * 3), outbox)
        with pytest.raises(Overloaded):
            await at.loop.ask(submitted(START, "c1"))
        at.store.may_append.set()
        await at.loop.room()
        assert await at.loop.ask(submitted(START, "c1")) is not None


async def test_failed_append_ends_the_loop_and_lets_nothing_out() -> None:
    store, clock = HeldStore(), ManualClock(START)
    epoch = await store.acquire_epoch()
    machine = Machine(await store.load(), at=START, lease_s=LEASE_S)
    loop = Loop(machine=machine, store=store, clock=clock, epoch=epoch)
    store.is_full = True
    with loop.watching(C1, with_text=True) as watcher:
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(_answer(loop))
            with pytest.raises(DiskFull):
                await loop.run()
            asking.cancel()
        assert asking.cancelled()
        watcher.finish()
        assert await watcher.take(1) == []


async def _answer(loop: Loop) -> None:
    await loop.ask(submitted(START))


async def test_silent_worker_is_disconnected_when_its_lease_ends() -> None:
    async with rig() as at:
        outbox = await at.attach()
        at.clock.advance(LEASE_S + 0.1)
        with pytest.raises(WrongState):
            await outbox.take(1)
        assert at.loop.streams == ()
    assert [type(record) for batch in at.store.batches for record in batch][-1] is WorkerLeft


async def test_renewal_that_waits_counts_before_the_lease_ends() -> None:
    async with rig() as at, asyncio.TaskGroup() as group:
        outbox = await at.attach()
        at.store.may_append.clear()
        group.create_task(at.loop.ask(submitted(START)))
        await at.store.is_appending.wait()
        at.clock.advance(LEASE_S - 0.1)
        at.loop.tell(WorkerRenewed(at.clock.now(), outbox.worker), outbox)
        at.clock.advance(0.2)
        at.store.may_append.set()
        await at.loop.ask(submitted(at.clock.now(), "c2"))
        assert at.loop.streams == (outbox,)


async def test_second_process_of_one_name_is_refused_while_the_first_is_there() -> None:
    async with rig() as at:
        first = await at.attach()
        with pytest.raises(AlreadyExists):
            await at.attach(instance="i2")
        assert at.loop.streams == (first,)


async def test_newer_stream_of_the_same_process_replaces_the_older_one() -> None:
    async with rig() as at:
        first = await at.attach()
        second = await at.attach()
        with pytest.raises(AlreadyExists):
            await first.take(1)
        at.loop.tell(WorkerDetached(START, first.worker, "i1"), first)
        await at.loop.ask(submitted(START))
        assert [type(effect) for effect in await second.take(9)] == [Assign]
        assert at.loop.streams == (second,)
        assert at.loop.counts.dropped == 1


async def test_worker_that_does_not_read_is_cut() -> None:
    async with rig() as at:
        outbox = await at.attach(max_items=1)
        await at.loop.ask(submitted(START, "c1"))
        await at.loop.ask(submitted(START, "c2"))
        with pytest.raises(Overloaded, match="attach again"):
            await outbox.take(1)


async def test_text_goes_to_those_who_watch_for_it_and_is_not_stored() -> None:
    async with rig() as at:
        outbox = await at.attach()
        await at.loop.ask(submitted(START))
        appends = len(at.store.batches)
        (assign,) = await outbox.take(9)
        assert isinstance(assign, Assign)
        with (
            at.loop.watching(C1, with_text=True) as listening,
            at.loop.watching(C1, with_text=False) as watching,
        ):
            chunks = (Chunk("main", "hello", 1),)
            at.loop.tell(AttemptProgressed(START, outbox.worker, assign.fencing_token, chunks), outbox)
            (text,) = await listening.take(9)
            assert getattr(text, "chunks", None) == chunks
            assert len(at.store.batches) == appends
            at.loop.tell(succeeded(START, assign.fencing_token), outbox)
            records = await watching.take(9)
            assert type(records[-1]) is ConstellationEnded
        assert [type(effect) for effect in await outbox.take(9)] == [Acknowledge]


async def test_stop_puts_on_disk_what_waits_and_refuses_what_comes_later() -> None:
    async with rig() as at, asyncio.TaskGroup() as group:
        at.store.may_append.clear()
        first = group.create_task(at.loop.ask(submitted(START, "c0")))
        await at.store.is_appending.wait()
        second = group.create_task(at.loop.ask(submitted(START, "c1")))
        await asyncio.sleep(0)
        at.loop.stop()
        with pytest.raises(Overloaded):
            await at.loop.ask(submitted(START, "c2"))
        at.store.may_append.set()
        assert await first is not None
        assert await second is not None


async def test_ended_constellation_that_memory_forgot_can_be_brought_back() -> None:
    async with rig() as at:
        outbox = await at.attach()
        await at.loop.ask(submitted(START))
        at.loop.tell(succeeded(START, 1), outbox)
        await at.loop.ask(submitted(START, "c2"))
        found = await at.store.find_constellation(C1)
        assert found is not None
        fresh = Machine(await MemoryStore().load(), at=START, lease_s=LEASE_S)
        loop = Loop(machine=fresh, store=at.store, clock=at.clock, epoch=1)
        with loop.adopted(found):
            assert fresh.constellations[C1] is found
        running = await at.store.find_constellation(ConstellationId("c2"))
        assert running is not None
        with pytest.raises(AsterismError), loop.adopted(running):
            pass


async def test_what_was_said_while_this_process_did_not_run_is_heard_before_a_lease_is_over() -> None:
    async with rig() as at:
        outbox = await at.attach()
        at.clock.advance(LEASE_S + 5.0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        at.loop.tell(WorkerRenewed(at.clock.now(), WorkerId("w1")), outbox)
        await asyncio.sleep(0)
        at.clock.advance(HEARING_S)
        await at.loop.ask(submitted(at.clock.now()))
        assert at.loop.machine.workers[WorkerId("w1")].is_attached


async def test_lease_is_over_once_nothing_was_heard_after_this_process_ran_again() -> None:
    async with rig() as at:
        await at.attach()
        at.clock.advance(LEASE_S + 5.0)
        await at.loop.ask(submitted(at.clock.now()))
        assert at.loop.machine.workers[WorkerId("w1")].is_attached
        at.clock.advance(HEARING_S)
        await at.loop.ask(submitted(at.clock.now(), "c2"))
        assert not at.loop.machine.workers[WorkerId("w1")].is_attached
