"""What PostgreSQL does that no other store can: refuse in words, keep its promise to two writers, come back."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeAlias

import pytest
import pytest_asyncio
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from sqlalchemy.exc import DBAPIError

from asterism.orchestrator.core.errors import AsterismError, Misconfigured, Unreachable, WrongState
from asterism.orchestrator.core.ids import ConstellationId
from asterism.orchestrator.core.records import ConstellationEnded, Record
from asterism.orchestrator.core.request import ConstellationState
from asterism.store import forgetting, reads, writes
from asterism.store.credentials import SqlCredentials
from asterism.store.database import Database
from asterism.store.location import database_at
from asterism.store.prepared import Prepared, over_rows
from asterism.store.schema import METADATA
from asterism.store.sql import SqlStore
from tests.bench.store_append import beginning, pairs
from tests.postgres import PASSWORD, Server
from tests.store.histories import History, histories
from tests.store.test_contract import accepted, assert_holds, credential, fill

Finding: TypeAlias = sa.Update | sa.Delete | sa.Select[Any]
"""A statement that looks for rows."""


@pytest_asyncio.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    """An open one."""
    found = database_at(postgres_url)
    await found.open(exclusive=True)
    yield found
    await found.close()


@pytest_asyncio.fixture
async def two(postgres_url: str) -> AsyncIterator[tuple[SqlStore, SqlStore]]:
    """Two stores on one database."""
    stores = SqlStore(postgres_url), SqlStore(postgres_url)
    for store in stores:
        await store.open()
    yield stores
    for store in stores:
        await store.close()


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories())
async def test_any_history_equals_its_fold(postgres: Server, history: History) -> None:
    with postgres.database() as url:
        store = SqlStore(url)
        await store.open()
        try:
            await assert_holds(store, await fill(store, history))
        finally:
            await store.close()


async def refusal(url: str) -> AsterismError:
    """How opening a store there fails; it fails the same twice, and never shows a password."""
    caught: list[AsterismError] = []
    for _ in range(2):
        with pytest.raises(AsterismError) as one:
            await SqlStore(url).open()
        caught.append(one.value)
    first, second = caught
    assert first.message == second.message
    assert PASSWORD not in first.message
    assert "hidden" not in first.message
    return first


@pytest.mark.parametrize("url", ["postgresql://u:hidden@127.0.0.1:1/x", "postgresql://u:hidden@/x?host=/nowhere"])
async def test_server_that_does_not_answer_is_unreachable(url: str) -> None:
    error = await refusal(url)
    assert isinstance(error, Unreachable)
    assert error.address in ("127.0.0.1:1", "/nowhere:5432")


async def test_wrong_password_is_refused_with_the_name_of_the_user(postgres_url: str) -> None:
    error = await refusal(sa.make_url(postgres_url).set(password="hidden").render_as_string(hide_password=False))
    assert isinstance(error, Misconfigured)
    assert "refuses asterism, check the name and the password" in error.reason


async def test_database_that_is_not_there_is_named(postgres_url: str) -> None:
    error = await refusal(sa.make_url(postgres_url).set(database="nowhere").render_as_string(hide_password=False))
    assert isinstance(error, Misconfigured)
    assert "there is no database nowhere" in error.reason


async def test_user_who_may_make_no_tables_is_told(postgres: Server, postgres_url: str) -> None:
    guest = f"guest_{sa.make_url(postgres_url).database}"
    postgres.run(f"CREATE USER {guest} PASSWORD 'hidden'")
    try:
        url = sa.make_url(postgres_url).set(username=guest, password="hidden")
        error = await refusal(url.render_as_string(hide_password=False))
    finally:
        postgres.run(f"DROP USER {guest}")
    assert isinstance(error, Misconfigured)
    assert f"{guest} may not make tables" in error.reason


async def test_database_of_another_encoding_is_refused(postgres: Server) -> None:
    name = f"asterism_{uuid.uuid4().hex}"
    postgres.run(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    try:
        error = await refusal(postgres.url.set(database=name).render_as_string(hide_password=False))
    finally:
        postgres.run(f"DROP DATABASE {name} WITH (FORCE)")
    assert isinstance(error, Misconfigured)
    assert "ENCODING 'UTF8'" in error.reason


async def test_database_of_a_newer_version_is_refused(postgres: Server, postgres_url: str) -> None:
    store = SqlStore(postgres_url)
    await store.open()
    await store.close()
    postgres.run("UPDATE alembic_version SET version_num = '9999'", sa.make_url(postgres_url).database)
    error = await refusal(postgres_url)
    assert isinstance(error, Misconfigured)
    assert "9999, which a newer asterism made" in error.reason


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://u@h/x?application_name=y", "application_name"),
        ("postgresql+psycopg2://u:hidden@h/x", "psycopg2"),
        ("mysql://u:hidden@h/x", "mysql"),
        ("postgresql://u:hidden@h:port/x", "no URL"),
    ],
)
def test_url_that_cannot_be_followed_is_refused_without_its_password(url: str, told: str) -> None:
    with pytest.raises(Misconfigured, match=told) as caught:
        SqlStore(url)
    assert "hidden" not in caught.value.message


async def test_stores_that_open_at_one_time_migrate_once(postgres: Server, postgres_url: str) -> None:
    stores = [SqlStore(postgres_url) for _ in range(4)]
    async with asyncio.TaskGroup() as group:
        for store in stores:
            group.create_task(store.open())
    for store in stores:
        await store.close()
    assert postgres.run("SELECT id, epoch FROM orchestrator", sa.make_url(postgres_url).database) == [(1, 0)]


async def test_migrations_lead_to_the_tables_of_the_schema(database: Database) -> None:
    def differences(connection: sa.Connection) -> list[Any]:
        options = {"compare_type": True, "include_name": lambda name, kind, _: name != "alembic_version"}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), METADATA))

    assert await database.write(differences) == []


async def test_append_is_durable_whatever_the_database_is_set_to(postgres: Server, postgres_url: str) -> None:
    name = sa.make_url(postgres_url).database
    postgres.run(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    found = database_at(postgres_url)
    await found.open(exclusive=True)
    level = await found.write(lambda connection: connection.exec_driver_sql("SHOW synchronous_commit").scalar_one())
    await found.close()
    assert level == "on"


async def test_read_sees_one_picture_and_changes_nothing(database: Database) -> None:
    def look(connection: sa.Connection) -> tuple[Any, ...]:
        shown = [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in ("transaction_isolation",)]
        return (*shown, connection.exec_driver_sql("SHOW transaction_read_only").scalar_one())

    assert await database.read(look) == ("repeatable read", "on")


async def test_older_epoch_commits_nothing(two: tuple[SqlStore, SqlStore]) -> None:
    older, newer = two
    epoch = await older.acquire_epoch()
    await older.append([accepted(1, "c1")], epoch)
    taken = await newer.acquire_epoch()
    with pytest.raises(WrongState, match="taken over"):
        await older.append([accepted(2, "c2")], epoch)
    await newer.append([accepted(2, "c3")], taken)
    await assert_holds(newer, [accepted(1, "c1"), accepted(2, "c3")])


@pytest.mark.parametrize("round_", range(5))
async def test_nothing_of_an_older_epoch_lands_after_a_newer_one_has_begun(
    two: tuple[SqlStore, SqlStore], round_: int
) -> None:
    older, newer = two
    epoch = await older.acquire_epoch()

    async def append_until_refused() -> int:
        for seq in range(1, 10_000):
            try:
                await older.append([accepted(seq, f"c{seq:05}")], epoch)
            except WrongState:
                return seq - 1
        raise AssertionError("never refused")

    async with asyncio.TaskGroup() as group:
        appending = group.create_task(append_until_refused())
        await asyncio.sleep(0.02 * round_)  # somewhere in the middle of an append, each time elsewhere
        await newer.acquire_epoch()
        seen = (await newer.load()).last_seq
    assert appending.result() == seen == (await newer.load()).last_seq


async def test_append_that_nobody_waits_for_any_more_lands_before_the_next(postgres_url: str) -> None:
    database = database_at(postgres_url)
    await database.open(exclusive=True)
    has_begun = asyncio.Event()

    def append(connection: sa.Connection, seq: int) -> None:
        has_begun.set()  # whoever waits for it goes on while the first statement is at the server
        writes.append_rows(connection, writes.rows_of([accepted(seq, f"c{seq:03}")]), 0)

    given_up = asyncio.create_task(database.write(lambda connection: append(connection, 1)))
    await has_begun.wait()
    given_up.cancel()
    await database.write(lambda connection: append(connection, 2))
    assert given_up.cancelled()
    found = await database.read(lambda connection: reads.read_journal(connection, None, 0, 10))
    assert [record.seq for record in found] == [1, 2]
    await database.close()


async def test_append_takes_as_many_statements_whatever_its_size(postgres: Server, postgres_url: str) -> None:
    if postgres.folder is None:
        pytest.skip("the log of a server that somebody else started is not ours to read")
    postgres.run(f"ALTER DATABASE \"{sa.make_url(postgres_url).database}\" SET log_statement = 'all'")
    log = postgres.folder / "log"
    store = SqlStore(postgres_url)
    await store.open()
    epoch = await store.acquire_epoch()
    await store.append([accepted(1, "c001")], epoch)  # the first one also asks for types
    asked: list[list[str]] = []
    for seqs in (range(2, 4), range(10, 510)):
        before = log.stat().st_size
        await store.append([accepted(seq, f"c{seq:03}") for seq in seqs], epoch)
        lines = log.read_bytes()[before:].decode().splitlines()
        asked.append([line.partition("LOG:")[2].split(":", 1)[1].strip()[:25] for line in lines if "LOG:" in line])
    await store.close()
    small, large = asked
    assert large == small
    # The guard; requests and constellations; their counters and the journal: between BEGIN and COMMIT.
    assert [line.split()[0].strip(";") for line in small] == ["BEGIN", "UPDATE", "WITH", "WITH", "COMMIT"]


def statements() -> Iterator[tuple[str, sa.Update | sa.Delete]]:
    """Every statement of an append that looks for rows."""
    for name, value in vars(writes).items():
        if isinstance(value, Prepared) and isinstance(value.statement, sa.Update | sa.Delete):
            yield name, value.statement


def forgetting_statements() -> Iterator[tuple[str, Finding]]:
    """Every statement that looks for what is to be forgotten, or removes it."""
    for name, value in vars(forgetting).items():
        for index, one in enumerate(value if isinstance(value, tuple) else (value,)):
            if isinstance(one, sa.Update | sa.Delete | sa.Select):
                yield f"{name} {index}", one
    yield from ((f"removal {index}", removal) for index, removal in enumerate(forgetting.removals(["c", "d"])))


@pytest.mark.parametrize(("name", "statement"), [pytest.param(*pair, id=pair[0]) for pair in statements()])
async def test_statement_finds_its_rows_by_a_key_even_in_an_empty_database(
    database: Database, name: str, statement: sa.Update | sa.Delete
) -> None:
    def explain(connection: sa.Connection) -> list[str]:
        compiled = over_rows(statement).compile(dialect=connection.dialect)
        given = {key: [None] if value is None else value for key, value in compiled.params.items()}
        values = tuple(given[key] for key in compiled.positiontup or ())
        cursor = connection.connection.cursor()
        cursor.execute(f"EXPLAIN {compiled}", values)
        return [row[0].strip() for row in cursor.fetchall()]

    plan = await database.write(explain)
    assert any("Index Scan" in step or "Index Only Scan" in step for step in plan), plan
    assert not [step for step in plan if "Seq Scan" in step], plan


@pytest.mark.parametrize(("name", "statement"), [pytest.param(*pair, id=pair[0]) for pair in forgetting_statements()])
async def test_forgetting_finds_its_rows_by_a_key_even_in_an_empty_database(
    database: Database, name: str, statement: Finding
) -> None:
    def explain(connection: sa.Connection) -> list[str]:
        compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
        cursor = connection.connection.cursor()
        some = {key: "c" if isinstance(bind.type, sa.Text) else 1 for key, bind in compiled.binds.items()}
        given = {key: some[key] if value is None else value for key, value in compiled.params.items()}
        cursor.execute(f"EXPLAIN {compiled}", tuple(given[key] for key in compiled.positiontup or ()))
        return [row[0].strip() for row in cursor.fetchall()]

    plan = await database.write(explain)
    assert any("Index Scan" in step or "Index Only Scan" in step or "Bitmap Index" in step for step in plan), plan
    assert not [step for step in plan if "Seq Scan" in step], plan


async def test_lost_connection_costs_a_reader_nothing_and_an_append_itself(postgres: Server, postgres_url: str) -> None:
    store = SqlStore(postgres_url)
    await store.open()
    epoch = await store.acquire_epoch()
    await store.append([accepted(1, "c1")], epoch)
    await store.load()
    end = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE application_name = 'asterism'"
    name = sa.make_url(postgres_url).database
    assert postgres.run(f"{end} AND datname = '{name}'") == [(2,)]

    await assert_holds(store, [accepted(1, "c1")])
    with pytest.raises(Unreachable, match="lost in a write"):
        await store.append([accepted(2, "c2")], epoch)
    await store.append([accepted(2, "c2")], epoch)
    await assert_holds(store, [accepted(1, "c1"), accepted(2, "c2")])
    await store.close()


async def test_text_with_a_nul_is_kept_without_it(postgres_url: str) -> None:
    store = SqlStore(postgres_url)
    await store.open()
    epoch = await store.acquire_epoch()
    request = accepted(1, "a\0b")
    records: list[Record] = [
        type(request)(1, 1.0, ConstellationId("c1"), "r1", "ann", request.request, request.budget),
        ConstellationEnded(2, 2.0, ConstellationId("c1"), ConstellationState.FAILED, "it said \0"),
    ]
    await store.append(records, epoch)
    (summary,) = await store.list_constellations(owner=None, states=(), before=None, limit=9)
    assert (summary.name, summary.reason) == ("file of a\ufffdb", "it said \ufffd")
    assert await store.read_whole_journal(after_seq=0, limit=9) == records
    await store.close()


async def test_credentials_can_be_added_beside_a_store_and_before_one(postgres_url: str) -> None:
    beside, store = SqlCredentials(postgres_url), SqlStore(postgres_url)
    await beside.open()
    await beside.add_credential(credential("laptop", b"x" * 32))
    await store.open()
    await beside.add_credential(credential("desktop", b"y" * 32))
    assert {found.name for found in await store.list_credentials()} == {"laptop", "desktop"}
    await beside.close()
    await store.close()


async def test_mistake_in_a_statement_stays_one_and_the_next_work_goes_on(database: Database) -> None:
    with pytest.raises(DBAPIError):
        await database.write(lambda connection: connection.exec_driver_sql("SELECT nothing()"))
    assert await database.write(lambda connection: connection.exec_driver_sql("SELECT 1").scalar_one()) == 1


async def test_stars_that_end_and_begin_take_one_round_trip(postgres: Server, postgres_url: str) -> None:
    if postgres.folder is None:
        pytest.skip("the log of a server that somebody else started is not ours to read")
    postgres.run(f"ALTER DATABASE \"{sa.make_url(postgres_url).database}\" SET log_statement = 'all'")
    log = postgres.folder / "log"
    store = SqlStore(postgres_url)
    await store.open()
    epoch = await store.acquire_epoch()
    hops = pairs()
    await store.append([*beginning(stars=4), *next(hops)], epoch)
    before = log.stat().st_size
    await store.append(next(hops), epoch)
    said = [line for line in log.read_bytes()[before:].decode().splitlines() if "LOG:" in line]
    await store.close()
    assert len(said) == 1, said
