"""A PostgreSQL that goes, lets nobody in or does not answer: an error that says so, and afterwards it goes on."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
import sqlalchemy as sa

from asterism.orchestrator.core.errors import Unreachable
from asterism.orchestrator.core.lead import Lead
from asterism.store import postgres as of_postgres
from asterism.store.location import database_at
from asterism.store.sql import SqlStore
from tests.postgres import Server

LOCK = "SELECT pg_advisory_lock(1)"


@pytest.fixture
def guest(postgres: Server, postgres_url: str) -> Iterator[str]:
    """A user of the database who may be kept out."""
    name = f"guest_{uuid.uuid4().hex}"
    database = sa.make_url(postgres_url).database
    postgres.run(f"CREATE USER {name} PASSWORD 'hidden'")
    postgres.run(f'GRANT ALL ON DATABASE "{database}" TO {name}')
    postgres.run(f"GRANT ALL ON SCHEMA public TO {name}", database)
    yield name
    postgres.run(f"DROP OWNED BY {name}", database)
    postgres.run(f"DROP USER {name}")


@pytest_asyncio.fixture
async def store(postgres_url: str, guest: str) -> AsyncIterator[SqlStore]:
    """Open, and the guest's."""
    url = sa.make_url(postgres_url).set(username=guest, password="hidden")
    made = SqlStore(url.render_as_string(hide_password=False))
    await made.open()
    yield made
    await made.close()


async def test_one_that_lets_nobody_in_is_out_of_reach_until_it_does(
    store: SqlStore, postgres: Server, guest: str
) -> None:
    lead = await store.take_lead("a:1", 600.0)
    assert isinstance(lead, Lead)
    assert await store.find_request("ann", "r") is None
    postgres.run(f"ALTER USER {guest} CONNECTION LIMIT 0")
    postgres.run(f"SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE usename = '{guest}'")
    with pytest.raises(Unreachable, match="lost in a write"):
        await store.renew_lead(lead.epoch, 600.0)
    for _ in range(2):
        with pytest.raises(Unreachable, match="lost in a write: too many connections for role"):
            await store.renew_lead(lead.epoch, 600.0)
        with pytest.raises(Unreachable, match="lost in a read: too many connections for role"):
            await store.find_request("ann", "r")
        with pytest.raises(Unreachable, match="lost in a read: too many connections for role"):
            await store.load()
    postgres.run(f"ALTER USER {guest} CONNECTION LIMIT -1")
    assert await store.renew_lead(lead.epoch, 600.0)
    assert await store.find_request("ann", "r") is None
    await store.load()


async def test_reader_may_take_its_time_between_two_statements(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_postgres, "IDLE_IN_TRANSACTION_S", 0.05)
    database = database_at(postgres_url)
    await database.open(exclusive=True)

    def work(connection: sa.Connection) -> int:
        connection.exec_driver_sql("SELECT 1")
        time.sleep(0.5)  # As long as it takes to make graphs of many rows.
        return int(connection.exec_driver_sql("SELECT 2").scalar_one())

    assert await database.read(work) == 2
    with pytest.raises(Unreachable):
        await database.write(work)
    await database.close()


async def test_one_that_does_not_answer_while_it_is_opened_is_out_of_reach(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = database_at(postgres_url)
    await beside.open(exclusive=True)

    def hold(connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({of_postgres.MIGRATION_LOCK})")

    await beside.write(hold)
    monkeypatch.setattr(of_postgres, "COMMAND_TIMEOUT_S", 0.3)
    with pytest.raises(Unreachable, match=r"no answer within 0\.3 s"):
        await SqlStore(postgres_url).open()
    await beside.close()


async def test_works_that_hang_do_not_hold_up_the_end(
    postgres: Server, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_postgres, "PARTING_S", 0.2)
    beside, database = database_at(postgres_url), database_at(postgres_url)
    await beside.open(exclusive=True)
    await database.open(exclusive=True)
    await beside.write(lambda connection: connection.exec_driver_sql(LOCK).close())
    hanging = [
        asyncio.ensure_future(work(lambda connection: connection.exec_driver_sql(LOCK).close()))
        for work in (database.write, database.write, database.read, database.read)
    ]
    waiting = f"SELECT count(*) FROM pg_stat_activity WHERE query = '{LOCK}' AND wait_event = 'advisory'"
    async with asyncio.timeout(30):
        while await asyncio.to_thread(postgres.run, waiting) != [(2,)]:
            pass
    # Well below the minute after which a statement is given up.
    async with asyncio.timeout(30):
        await database.close()
        await asyncio.wait(hanging)
    assert all(one.cancelled() or one.exception() is not None for one in hanging)
    await beside.close()
