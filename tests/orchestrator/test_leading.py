"""Leading and standing by: who may act, until when, and who is told so."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import sqlalchemy as sa

from asterism.orchestrator import leading
from asterism.orchestrator.clock import ManualClock
from asterism.orchestrator.core.errors import WrongState
from asterism.orchestrator.core.lead import Lead
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.leading import Leadership, Standby
from asterism.orchestrator.loop import Loop
from asterism.orchestrator.outbox import WorkerOutbox
from asterism.store.memory import MemoryStore
from asterism.store.sql import SqlStore
from tests.orchestrator.fleet import attached, submitted
from tests.postgres import Server

LONG_S = 600.0


@pytest_asyncio.fixture
async def stores(postgres_url: str) -> AsyncIterator[tuple[SqlStore, SqlStore]]:
    """Two on one database."""
    made = SqlStore(postgres_url), SqlStore(postgres_url)
    for store in made:
        await store.open()
    yield made
    for store in made:
        await store.close()


def test_leadership_is_over_when_its_lease_is_whatever_the_store_says() -> None:
    Leadership(SqlStore(":memory:"), 1, LONG_S, time.monotonic() + LONG_S).check()
    with pytest.raises(WrongState, match="its lease has ended"):
        Leadership(SqlStore(":memory:"), 1, LONG_S, time.monotonic()).check()


async def test_leader_that_another_has_replaced_is_told_at_its_next_renewal(
    stores: tuple[SqlStore, SqlStore], postgres: Server, postgres_url: str
) -> None:
    first, second = stores
    lease_s = 3.0
    leadership = await Standby(first, "a:1", lease_s).wait(asyncio.Event())
    assert leadership is not None
    postgres.run("UPDATE leadership SET ends_at = 1", sa.make_url(postgres_url).database)
    assert isinstance(await second.take_lead("b:1", LONG_S), Lead)
    with pytest.raises(WrongState, match="another orchestrator leads"):
        await leadership.keep()


async def test_renewed_lease_keeps_others_waiting_and_one_that_resigns_does_not(
    stores: tuple[SqlStore, SqlStore],
) -> None:
    first, second = stores
    leadership = await Standby(first, "a:1", 1.0).wait(asyncio.Event())
    assert leadership is not None
    standby = Standby(second, "b:1", LONG_S)
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(leadership.keep())
        waiting = group.create_task(standby.wait(asyncio.Event()))
        done, _ = await asyncio.wait([waiting], timeout=2.5)
        assert not done
        assert standby.leader == "a:1"
        keeping.cancel()
        await leadership.resign()
        following = await waiting
    assert following is not None
    assert following.epoch > leadership.epoch


async def test_one_that_stands_by_ends_when_it_is_told_to(stores: tuple[SqlStore, SqlStore]) -> None:
    first, second = stores
    assert isinstance(await first.take_lead("a:1", LONG_S), Lead)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(Standby(second, "b:1", LONG_S).wait(stop))
        stop.set()
    assert waiting.result() is None


class Slow:
    """A store that says nothing until it is let."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()
        self.resigned: list[int] = []

    async def take_lead(self, leader: str, lease_s: float) -> Lead:
        self.asked.set()
        await self.answers.wait()
        return Lead(7)

    async def renew_lead(self, epoch: int, lease_s: float) -> bool:
        return True

    async def resign_lead(self, epoch: int) -> None:
        self.resigned.append(epoch)


@pytest.mark.parametrize("wins", [True, False])
async def test_one_that_is_told_to_end_while_it_asks_for_the_lead_gives_it_back(
    wins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, stop = Slow(), asyncio.Event()
    if not wins:
        monkeypatch.setattr(leading, "PARTING_S", 0.05)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(Standby(store, "b:1", LONG_S).wait(stop))
        await store.asked.wait()
        stop.set()
        if wins:
            await asyncio.sleep(0)  # The store answers after that, or with it: both are to end the same.
            store.answers.set()
    assert waiting.result() is None
    assert store.resigned == ([7] if wins else [])


async def test_store_that_hangs_holds_up_nobody_who_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(Slow):
        async def resign_lead(self, epoch: int) -> None:
            await self.answers.wait()

    monkeypatch.setattr(leading, "PARTING_S", 0.05)
    async with asyncio.timeout(30):
        await Leadership(Hanging(), 1, LONG_S, time.monotonic() + LONG_S).resign()


async def test_nothing_leaves_the_loop_once_the_lead_may_be_lost() -> None:
    store, clock = MemoryStore(), ManualClock(1_000.0)
    is_lost = False

    def check() -> None:
        if is_lost:
            raise WrongState("lead", "1", "over", "another has it")

    machine = Machine(await store.load(), at=clock.now(), lease_s=10.0)
    loop = Loop(machine=machine, store=store, clock=clock, epoch=await store.acquire_epoch(), check_lead=check)
    running = asyncio.ensure_future(loop.run())
    event = attached(clock.now(), "w1", "i1")
    outbox = WorkerOutbox(event.worker, event.instance)
    await loop.attach(event, outbox)
    asking = asyncio.ensure_future(loop.ask(submitted(clock.now())))
    await asyncio.sleep(0)  # it is in the mailbox now, and the loop has not looked yet
    is_lost = True
    with pytest.raises(WrongState, match="another has it"):
        await running
    # It was appended, which the next leader reads; but neither the client nor the worker has heard of it.
    assert (await store.load()).last_seq > 1
    assert not asking.done()
    taking = asyncio.ensure_future(outbox.take(9))
    done, _ = await asyncio.wait([taking], timeout=0.05)
    assert not done
    for task in (asking, taking):
        task.cancel()


async def test_an_append_that_fails_after_the_lead_is_lost_says_that_it_is_lost() -> None:
    # What it appends to is closed under it, as PostgreSQL does to a process that was stopped in a transaction.
    store, clock = MemoryStore(), ManualClock(1_000.0)

    def check() -> None:
        raise WrongState("lead", "1", "over", "another has it")

    machine = Machine(await store.load(), at=clock.now(), lease_s=10.0)
    epoch = await store.acquire_epoch()
    loop = Loop(machine=machine, store=store, clock=clock, epoch=epoch, check_lead=check)
    await store.acquire_epoch()  # somebody else's: ours is refused
    running = asyncio.ensure_future(loop.run())
    asking = asyncio.ensure_future(loop.ask(submitted(clock.now())))
    with pytest.raises(WrongState, match="another has it"):
        await running
    asking.cancel()
