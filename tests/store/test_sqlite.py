"""Where a work is done: a short one by the event loop itself, and what would hold it up by a thread. What a damaged
file is called."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from asterism.orchestrator.core.errors import Unreachable, WrongState
from asterism.store import sqlite
from asterism.store.schema import journal
from asterism.store.sql import SqlStore
from asterism.store.sqlite import HANDED_OVER, MAX_SLOW, WRITES_A_COPY, SqliteDatabase


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "asterism.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[SqliteDatabase]:
    """An open one."""
    made = SqliteDatabase(path, synchronous="NORMAL")
    await made.open(exclusive=True)
    yield made
    await made.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the disk is, it counts as quick."""
    monkeypatch.setattr(sqlite, "SLOW_S", 60.0)


@pytest.fixture
def other(path: Path, database: SqliteDatabase) -> Iterator[sqlite3.Connection]:
    """Somebody else who has the file open."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def page(seq: int, size: int = 1) -> sa.Insert:
    """A write."""
    return sa.insert(journal).values(seq=seq, constellation=None, body="x" * size)


async def is_done_here(database: SqliteDatabase, seq: int, *, is_short: bool = True, size: int = 1) -> bool:
    """Write a page; gives whether the event loop did it."""

    def work(connection: sa.Connection) -> int:
        connection.execute(page(seq, size))
        return threading.get_ident()

    return await database.write(work, is_short=is_short) == threading.get_ident()


def pages(path: Path) -> list[int]:
    """Which pages are on disk."""
    with closing(sqlite3.connect(path)) as raw:
        return [seq for (seq,) in raw.execute("SELECT seq FROM journal ORDER BY seq")]


async def test_short_work_is_done_by_the_event_loop_and_others_by_a_thread(
    database: SqliteDatabase, path: Path, quick: None
) -> None:
    assert await is_done_here(database, 1)
    assert not await is_done_here(database, 2, is_short=False)
    assert await is_done_here(database, 3)
    assert pages(path) == [1, 2, 3]


async def test_works_asked_for_together_do_not_overlap_wherever_they_are_done(
    database: SqliteDatabase, path: Path, quick: None
) -> None:
    async with asyncio.TaskGroup() as group:
        done = [group.create_task(is_done_here(database, seq, is_short=seq % 3 > 0)) for seq in range(1, 61)]
    assert [task.result() for task in done] == [seq % 3 > 0 for seq in range(1, 61)]
    assert pages(path) == list(range(1, 61))


async def test_nobody_else_writes_while_a_thread_does_what_nobody_waits_for_any_more(
    database: SqliteDatabase, path: Path, quick: None
) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    def linger(connection: sa.Connection) -> None:
        has_begun.set()
        may_end.wait()
        connection.execute(page(1))

    given_up = asyncio.create_task(database.write(linger))
    await asyncio.get_running_loop().run_in_executor(None, has_begun.wait)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    writing = asyncio.create_task(is_done_here(database, 2))
    await asyncio.get_running_loop().run_in_executor(None, lambda: None)
    assert not writing.done()
    may_end.set()
    assert await writing
    assert pages(path) == [1, 2]


async def test_short_work_that_fails_leaves_nothing(database: SqliteDatabase, path: Path, quick: None) -> None:
    def fail(connection: sa.Connection) -> None:
        connection.execute(page(1))
        raise WrongState("records", "2", "not as the store holds them", "it is there")

    with pytest.raises(WrongState):
        await database.write(fail, is_short=True)
    assert await is_done_here(database, 1)
    assert pages(path) == [1]


async def test_another_process_that_writes_is_waited_for_by_a_thread(
    database: SqliteDatabase, path: Path, other: sqlite3.Connection, quick: None
) -> None:
    other.execute("BEGIN IMMEDIATE")
    async with asyncio.timeout(sqlite.BUSY_TIMEOUT_MS / 1e3):
        writing = asyncio.create_task(is_done_here(database, 1))
        # The event loop goes on meanwhile: it is what ends the other's transaction.
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        assert not writing.done()
        other.execute("COMMIT")
        assert not await writing
        assert await is_done_here(database, 2)
    assert pages(path) == [1, 2]


async def test_a_slow_disk_is_left_to_a_thread_and_tried_again_later(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "SLOW_S", 0.0)
    total = 2 * MAX_SLOW + HANDED_OVER
    places = [await is_done_here(database, seq) for seq in range(1, total + 1)]
    assert places == [True] * MAX_SLOW + [False] * HANDED_OVER + [True] * MAX_SLOW


async def test_a_long_log_is_copied_by_a_thread_and_begins_anew(
    database: SqliteDatabase, path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    monkeypatch.setattr(sqlite, "MAX_LOG_PAGES", 64)
    pages_each = 8
    places = [await is_done_here(database, seq, size=pages_each * 4096) for seq in range(1, 1 + 20 * WRITES_A_COPY)]
    assert 0 < places.count(False) <= 20
    # Never begun anew it would be longer than all that was written.
    assert path.with_name(path.name + "-wal").stat().st_size < len(places) * pages_each * 4096 / 2


def damage(path: Path) -> None:
    """The head of every page but the first two."""
    whole = bytearray(path.read_bytes())
    for at in range(2 * 4096, len(whole), 4096):
        whole[at : at + 64] = b"U" * 64
    path.write_bytes(whole)


async def test_damaged_file_is_said_to_be_so_by_every_work(path: Path) -> None:
    store = SqlStore(path)
    await store.open()
    await store.close()
    damage(path)
    store = SqlStore(path)
    await store.open()
    for work, done in ((store.load, "read"), (store.acquire_epoch, "written")):
        with pytest.raises(Unreachable, match=f"cannot be {done}: database disk image is malformed"):
            await work()
    await store.close()


async def test_mistake_in_a_statement_stays_one(database: SqliteDatabase) -> None:
    with pytest.raises(IntegrityError):
        await database.write(lambda connection: [connection.execute(page(1)) for _ in range(2)])
    await database.write(lambda connection: connection.execute(page(1)))
