"""What only a database can do: survive, refuse a second holder, migrate, and find its rows by a key."""

import asyncio
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from asterism.orchestrator.core.credential import Role, StoredCredential
from asterism.orchestrator.core.errors import Misconfigured, WrongState
from asterism.orchestrator.core.ids import ConstellationId
from asterism.orchestrator.core.request import ConstellationState
from asterism.store import credentials, forgetting, reads, writes
from asterism.store.credentials import SqlCredentials
from asterism.store.prepared import Prepared
from asterism.store.schema import METADATA
from asterism.store.sql import SqlStore
from asterism.store.sqlite import WRITES_A_COPY, SqliteDatabase
from tests.store.histories import seeded_history
from tests.store.test_contract import accepted, assert_holds, fill

APPEND_FOR_EVER = """
import asyncio, sys
from asterism.store.sql import SqlStore
from tests.store.test_contract import accepted

async def main():
    store = SqlStore(sys.argv[1])
    await store.open()
    epoch = await store.acquire_epoch()
    seq = 0
    while True:
        await store.append([accepted(seq + step, f"c{seq + step:06}") for step in (1, 2, 3)], epoch)
        seq += 3
        print(seq, flush=True)

asyncio.run(main())
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database may be made."""
    return tmp_path / "asterism.db"


@pytest.fixture
def appender(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that appends without end, three records at a time, and prints each last seq after its append."""
    with subprocess.Popen(
        [sys.executable, "-c", APPEND_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        yield process
        process.kill()


def acknowledged(process: subprocess.Popen[str], count: int) -> int:
    """The seq that the process printed last of `count` lines."""
    assert process.stdout is not None
    return [int(process.stdout.readline()) for _ in range(count)][-1]


async def test_killed_process_loses_no_acknowledged_append(path: Path, appender: subprocess.Popen[str]) -> None:
    acknowledged(appender, 20)
    appender.send_signal(signal.SIGKILL)
    assert appender.stdout is not None
    rest = [int(line) for line in appender.stdout.read().split()]
    last = rest[-1] if rest else 60
    appender.wait()

    store = SqlStore(path)
    await store.open()
    records = await store.read_whole_journal(after_seq=0, limit=10**6)
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
    assert len(records) >= last
    assert len(records) % 3 == 0
    await assert_holds(store, records)
    await store.close()


async def test_second_process_is_refused_and_told_who_holds_it(path: Path, appender: subprocess.Popen[str]) -> None:
    acknowledged(appender, 1)
    with pytest.raises(Misconfigured, match=rf"in use by process {appender.pid}\b"):
        await SqlStore(path).open()


async def test_second_store_in_one_process_is_refused_until_the_first_closes(path: Path) -> None:
    first, second = SqlStore(path), SqlStore(path)
    await first.open()
    with pytest.raises(Misconfigured, match=f"in use by process {os.getpid()}"):
        await second.open()
    await first.close()
    await second.open()
    await second.close()


async def test_credentials_can_be_added_beside_the_holder(path: Path) -> None:
    store, beside = SqlStore(path), SqlCredentials(path)
    await store.open()
    await beside.open()
    added = StoredCredential("laptop", Role.WORKER, b"x" * 32, 1.0, 2.0)
    await beside.add_credential(added)
    assert await store.find_credential(b"x" * 32) == added
    await store.revoke_credential("laptop", 1.5)
    (found,) = await beside.list_credentials()
    assert found.revoked_at == 1.5
    assert await beside.find_credential(b"x" * 32) == found
    await beside.close()
    await store.close()


async def test_credentials_can_be_added_before_the_first_start_and_hold_nothing(path: Path) -> None:
    beside = SqlCredentials(path)
    await beside.open()
    await beside.add_credential(StoredCredential("laptop", Role.WORKER, b"x" * 32, 1.0, 2.0))
    store = SqlStore(path)
    await store.open()
    assert len(await store.list_credentials()) == 1
    await store.close()
    await beside.revoke_credential("laptop", 1.2)
    await beside.close()


async def test_credentials_wait_for_a_holder_that_still_prepares_the_tables(path: Path) -> None:
    store = SqlStore(path)
    await store.open()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("DROP TABLE alembic_version")
    with pytest.raises(Misconfigured, match="try again"):
        await SqlCredentials(path).open()
    await store.close()


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
async def test_reopened_store_holds_the_same_and_a_higher_epoch(path: Path, synchronous: Any) -> None:
    store = SqlStore(f"sqlite:///{path}", synchronous=synchronous)
    await store.open()
    records = await fill(store, seeded_history(8, 120))
    await store.close()

    again = SqlStore(path, synchronous=synchronous)
    await again.open()
    await assert_holds(again, records)
    with pytest.raises(WrongState):
        await again.append([accepted(records[-1].seq + 1, "c800")], await again.acquire_epoch() - 1)
    await again.close()


async def test_appends_asked_for_together_are_done_one_after_the_other(path: Path) -> None:
    store = SqlStore(path)
    await store.open()
    epoch = await store.acquire_epoch()
    async with asyncio.TaskGroup() as group:
        for seq in range(1, 30):
            group.create_task(store.append([accepted(seq, f"c{seq:03}")], epoch))
    assert (await store.load()).last_seq == 29
    await store.close()


@pytest.mark.parametrize("where", ["oracle://localhost/x", "mysql://localhost/x", "://"])
async def test_other_databases_are_refused_by_name(where: str) -> None:
    with pytest.raises(Misconfigured, match="store"):
        SqlStore(where)


def test_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(Misconfigured, match="cannot be opened"):
        asyncio.run(SqlStore(path).open())
    assert path.read_bytes() == b"this is no database" * 100


async def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be written"):
        await SqlStore(tmp_path / "missing" / "asterism.db").open()


async def test_database_of_a_newer_version_is_refused_and_let_go(path: Path) -> None:
    store = SqlStore(path)
    await store.open()
    await store.close()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
        raw.commit()
    for _ in range(2):
        with pytest.raises(Misconfigured, match="9999, which a newer asterism made"):
            await SqlStore(path).open()


async def test_migrations_lead_to_the_tables_of_the_schema(path: Path) -> None:
    store = SqlStore(path)
    await store.open()
    await store.close()
    engine = sa.create_engine("sqlite://")
    METADATA.create_all(engine)
    with engine.connect() as fresh, closing(sqlite3.connect(path)) as migrated:
        expected = {tuple(row) for row in fresh.exec_driver_sql("SELECT name, sql FROM sqlite_master")}
        found = set(migrated.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE '%alembic%'"))
    engine.dispose()
    assert found == expected


async def test_opening_again_migrates_nothing(path: Path) -> None:
    for _ in range(2):
        store = SqlStore(path)
        await store.open()
        await store.close()
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT count(*) FROM orchestrator").fetchone() == (1,)


@pytest.mark.parametrize(("synchronous", "level"), [("FULL", 2), ("NORMAL", 1)])
async def test_connection_is_as_durable_as_asked(path: Path, synchronous: Any, level: int) -> None:
    database = SqliteDatabase(path, synchronous=synchronous)
    await database.open(exclusive=True)
    settings = await database.write(
        lambda connection: [
            connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one()
            for pragma in ("journal_mode", "synchronous", "foreign_keys")
        ]
    )
    await database.close()
    assert settings == ["wal", level, 1]


def statements() -> Iterator[tuple[str, sa.Executable]]:
    """Every statement of the store that looks for rows."""
    for module in (writes, credentials):
        for name, value in vars(module).items():
            statement = value.statement if isinstance(value, Prepared) else value
            if isinstance(statement, sa.Update | sa.Delete | sa.Select):
                yield name, statement
    for name, value in vars(reads).items():
        if isinstance(value, sa.Select) and name not in {"READ_WORKERS", "LIST_ARTIFACTS"}:
            yield name, value
    for name, value in vars(forgetting).items():
        if isinstance(value, sa.Update | sa.Delete | sa.Select):
            yield name, value
    yield from ((f"removal {index}", removal) for index, removal in enumerate(forgetting.removals(["c", "d"])))
    before = ConstellationId("c5")
    yield "list of one owner", reads.summaries_query("ann", (), before, 10)
    yield "list of everybody", reads.summaries_query(None, {ConstellationState.FAILED}, before, 10)


@pytest.mark.parametrize(("name", "statement"), [pytest.param(*pair, id=pair[0]) for pair in statements()])
def test_statement_finds_its_rows_by_a_key(name: str, statement: sa.ClauseElement) -> None:
    compiled = statement.compile(
        dialect=sqlite.dialect(paramstyle="named"), compile_kwargs={"render_postcompile": True}
    )
    engine = sa.create_engine("sqlite://")
    METADATA.create_all(engine)
    values = dict.fromkeys(re.findall(r":(\w+)", str(compiled)), 1)
    with engine.connect() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", values)]
    engine.dispose()
    assert plan or name in ("LAST_SEQ", "NEWEST_SEQ 0")
    # A scan of the partial index of what is live reads just what is asked for.
    scans = [step for step in plan if "SCAN" in step and "constellations_live" not in step]
    assert not scans or name == "LIST"
    assert not any("TEMP B-TREE" in step for step in plan if name.startswith("list"))


async def test_log_is_copied_into_the_database_while_it_is_open(tmp_path: Path) -> None:
    path = tmp_path / "asterism.db"
    database = SqliteDatabase(path)
    await database.open(exclusive=True)
    # The last that closes a database copies the whole log: not us, while this one is there.
    with closing(sqlite3.connect(path)) as other:
        other.execute("SELECT count(*) FROM journal").close()
        opened = path.stat().st_size
        for seq in range(WRITES_A_COPY):
            page = {"seq": seq, "constellation": None, "body": "x" * 4096}
            await database.write(lambda connection, page=page: writes.ADD_PAGE.run(connection, [page]))  # type: ignore[misc]  # a default binds it
        await database.close()
        assert path.stat().st_size - opened >= WRITES_A_COPY * 4096
