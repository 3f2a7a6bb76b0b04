"""The lease of the leader: one at a time, by PostgreSQL's clock."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import sqlalchemy as sa

from asterism.orchestrator.core.errors import Unreachable, WrongState
from asterism.orchestrator.core.lead import Lead, Led
from asterism.store import writes
from asterism.store.location import database_at
from asterism.store.sql import SqlStore
from tests.postgres import Server
from tests.store.test_contract import accepted, assert_holds

LONG_S = 600.0


@pytest_asyncio.fixture
async def stores(postgres_url: str) -> AsyncIterator[list[SqlStore]]:
    """Three on one database."""
    made = [SqlStore(postgres_url) for _ in range(3)]
    for store in made:
        await store.open()
    yield made
    for store in made:
        await store.close()


def expire(postgres: Server, postgres_url: str) -> None:
    """Let the lease end now: what else takes as long as it is."""
    postgres.run("UPDATE leadership SET ends_at = 1", sa.make_url(postgres_url).database)


def test_sqlite_has_one_holder_and_no_lease() -> None:
    assert not SqlStore(":memory:").is_shared


async def test_one_of_many_that_ask_at_one_time_leads(stores: list[SqlStore]) -> None:
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(store.take_lead(f"h{n}:1", LONG_S)) for n, store in enumerate(stores)]
    answers = [task.result() for task in asking]
    (leader,) = [n for n, answer in enumerate(answers) if isinstance(answer, Lead)]
    for answer in answers:
        if isinstance(answer, Led):
            assert answer.leader == f"h{leader}:1"
            assert LONG_S - 60 < answer.ends_in_s <= LONG_S


async def test_next_leads_in_a_higher_epoch_once_the_lease_has_ended(
    stores: list[SqlStore], postgres: Server, postgres_url: str
) -> None:
    first, second, _ = stores
    led = await first.take_lead("a:1", LONG_S)
    assert isinstance(led, Lead)
    await first.append([accepted(1, "c1")], led.epoch)
    assert isinstance(await second.take_lead("b:1", LONG_S), Led)
    expire(postgres, postgres_url)
    taken = await second.take_lead("b:1", LONG_S)
    assert isinstance(taken, Lead)
    assert taken.epoch > led.epoch
    assert not await first.renew_lead(led.epoch, LONG_S)
    with pytest.raises(WrongState, match="taken over"):
        await first.append([accepted(2, "c2")], led.epoch)
    await first.resign_lead(led.epoch)
    assert isinstance(await first.take_lead("a:1", LONG_S), Led)
    await second.append([accepted(2, "c3")], taken.epoch)
    await assert_holds(second, [accepted(1, "c1"), accepted(2, "c3")])


async def test_lease_that_nobody_took_can_be_renewed(
    stores: list[SqlStore], postgres: Server, postgres_url: str
) -> None:
    first, second, _ = stores
    led = await first.take_lead("a:1", LONG_S)
    assert isinstance(led, Lead)
    expire(postgres, postgres_url)
    assert await first.renew_lead(led.epoch, LONG_S)
    assert isinstance(await second.take_lead("b:1", LONG_S), Led)


async def test_one_that_resigns_is_replaced_at_once(stores: list[SqlStore]) -> None:
    first, second, _ = stores
    led = await first.take_lead("a:1", LONG_S)
    assert isinstance(led, Lead)
    await first.resign_lead(led.epoch)
    assert isinstance(await second.take_lead("b:1", LONG_S), Lead)


async def test_leader_that_is_stopped_inside_an_append_is_not_waited_for_longer_than_its_lease(
    stores: list[SqlStore], postgres: Server, postgres_url: str
) -> None:
    following, lease_s = stores[0], 1.0
    is_inside, may_go_on = threading.Event(), threading.Event()
    assert await stores[1].take_lead("a:1", lease_s) == Lead(1)
    async with asyncio.TaskGroup() as group:
        # On a thread and event loop of its own, which stop with it, as those of a process do.
        stopping = group.create_task(
            asyncio.to_thread(lambda: asyncio.run(loses_what_it_was_writing(postgres_url, is_inside, may_go_on)))
        )
        try:
            await asyncio.to_thread(is_inside.wait)
            expire(postgres, postgres_url)
            taken = await following.take_lead("b:1", LONG_S)
        finally:
            may_go_on.set()
    assert taken == Lead(2)
    assert stopping.result()
    await assert_holds(following, [])


async def loses_what_it_was_writing(url: str, is_inside: threading.Event, may_go_on: threading.Event) -> bool:
    """Whether an append that stops before its end, while the server waits for a second, finds its connection lost."""

    def append_and_stop(connection: sa.Connection) -> None:
        writes.append_rows(connection, writes.rows_of([accepted(1, "c1")]), 1)
        is_inside.set()
        may_go_on.wait()

    database = database_at(url)
    await database.open(exclusive=True)
    try:
        await database.write(
            lambda connection: connection.exec_driver_sql("SET idle_in_transaction_session_timeout = 1000").close()
        )
        await database.write(append_and_stop)
    except Unreachable:
        return True
    finally:
        is_inside.set()
        await database.close()
    return False
