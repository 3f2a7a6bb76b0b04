"""SQLite: a connection that writes, two that read, and one that keeps the log short, each with an OS thread.

What is short the event loop writes by itself, as long as the disk is quick.
"""

import asyncio
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import sqlalchemy as sa
import structlog
from sqlalchemy import event
from sqlalchemy.exc import DatabaseError

from asterism.orchestrator.core.errors import Misconfigured, Unreachable
from asterism.store.database import Synchronous, Work
from asterism.store.lock import FileLock
from asterism.store.migrate import migrate, need_newest

T = TypeVar("T")

_log = structlog.get_logger(__name__)

BUSY_TIMEOUT_MS: Final = 5_000
"""How long a writer waits for another process: `asterism token` writes one small row at a time."""
WRITES_A_COPY: Final = 128
"""After so many, what they put into the write-ahead log is copied into the database, beside those that follow. Done by
a write itself, as SQLite does it every 1,000 pages, it held that one up for 10 ms."""
MAX_LOG_PAGES: Final = 4_096
"""Of 4 KiB. Where writes never pause the log grows, whatever is copied: then one of them copies the rest, and it begins
anew."""
SLOW_S: Final = 0.001
"""Of a commit that holds up the event loop. To hand one over costs more than a quick one takes: on 2 busy cores the
event loop heard of its end 0.3 to 0.5 ms late, and 5,000 stars took a fifth longer so."""
MAX_SLOW: Final = 3
"""In a row. One by itself may be the machine's doing, and not the disk's."""
HANDED_OVER: Final = 256
"""Short works that follow those, before the disk is tried again."""


class _Connected:
    """One connection, and its OS thread."""

    def __init__(self, engine: sa.Engine, name: str, begin: str | None) -> None:
        """`begin`: the statement that begins a transaction; None for work that takes no part in one."""
        self._engine = engine
        self._begin = begin
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._connection: sa.Connection | None = None
        self._driver: sqlite3.Connection | None = None
        self._commit_s = 0.0
        """That the last one took."""

    async def run(self, work: Work[T], *, is_short: bool = False) -> T:
        """Do the work on the thread, in one transaction where there is to be one: an error undoes all of it then."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work)

    def _transact(self, work: Work[T]) -> T:
        """The driver begins and ends it, in 6 us of CPU; by SQLAlchemy that took 18.

        SQLAlchemy begins where it is asked for something, and finds that it has begun.
        """
        if self._connection is None or self._driver is None:
            self._connection = self._engine.connect()
            self._driver = cast(sqlite3.Connection, self._connection.connection.dbapi_connection)
        connection, driver = self._connection, self._driver
        if self._begin is not None:
            driver.execute(self._begin).close()
        try:
            result = work(connection)
            began = time.perf_counter()
            driver.commit()
            self._commit_s = time.perf_counter() - began
            return result
        finally:
            if driver.in_transaction:
                driver.rollback()
            if connection.in_transaction():
                connection.rollback()

    async def close(self) -> None:
        """Let go, after what was asked for before."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._engine.dispose()


class _FileWriter(_Connected):
    """Writes a file, one work at a time: short ones on the event loop's own thread, as long as the disk is quick.

    There it waits for nobody: where another process writes just now, its thread waits.
    """

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine, "store-writer", "BEGIN IMMEDIATE")
        self._turn = asyncio.Lock()
        self._is_patient = True
        self._slow = 0
        """Commits in a row that were."""
        self._to_hand_over = 0

    async def run(self, work: Work[T], *, is_short: bool = False) -> T:
        """Do the work in one transaction; an error undoes all of it."""
        if is_short and self._to_hand_over == 0:
            async with self._turn:
                await asyncio.sleep(0)  # The others get their turn, as they do while a thread works.
                try:
                    return self._do_here(work)
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                        raise
        # What a thread has begun goes on where nobody waits for it any more, and has the connection for so long.
        return await asyncio.shield(self._hand_over(work))

    async def _hand_over(self, work: Work[T]) -> T:
        async with self._turn:
            self._to_hand_over = max(0, self._to_hand_over - 1)
            return await super().run(work)

    def _do_here(self, work: Work[T]) -> T:
        self._be_patient(False)
        result = super()._transact(work)
        self._slow = self._slow + 1 if self._commit_s > SLOW_S else 0
        if self._slow == MAX_SLOW:
            self._slow, self._to_hand_over = 0, HANDED_OVER
        return result

    def _transact(self, work: Work[T]) -> T:
        self._be_patient(True)
        return super()._transact(work)

    def _be_patient(self, is_patient: bool) -> None:
        """Whether the next work may wait for another process, and may copy the log where that has become long."""
        if self._driver is not None and self._is_patient is not is_patient:
            self._driver.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS if is_patient else 0}").close()
            self._driver.execute(f"PRAGMA wal_autocheckpoint={MAX_LOG_PAGES if is_patient else 0}").close()
            self._is_patient = is_patient

    async def close(self) -> None:
        """Let go, after what was asked for before."""
        async with self._turn:
            await super().close()


class _Copier:
    """Copies what is in the write-ahead log into the database. It holds up nobody, and nobody waits for it."""

    def __init__(self, engine: sa.Engine) -> None:
        self._connected = _Connected(engine, "store-copier", None)
        self.log_pages = 0
        """How long the log was when it was copied last."""
        self._writes = 0
        self._copying: asyncio.Task[None] | None = None

    def written(self) -> None:
        """Count a write, and begin where it is time to."""
        self._writes += 1
        if self._writes >= WRITES_A_COPY and (self._copying is None or self._copying.done()):
            self._writes = 0
            self._copying = asyncio.create_task(self._copy())

    async def _copy(self) -> None:
        try:
            self.log_pages = await self._connected.run(_copy_log)
        except (DatabaseError, sqlite3.DatabaseError) as error:
            # Nothing is lost, for the log has it all; what a broken disk means for a write, the next write says.
            _log.warning("the log could not be copied into the database", reason=str(error))

    async def close(self) -> None:
        """Let go, after what has begun."""
        if self._copying is not None:
            await self._copying
        await self._connected.close()


def _copy_log(connection: sa.Connection) -> int:
    """As much of it as can be; gives how long it is."""
    _, pages, _ = connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").one()
    return int(pages)


class SqliteDatabase:
    """A file, or (None) a database that ends with this object."""

    def __init__(self, path: Path | None, *, synchronous: Synchronous = "FULL") -> None:
        self._path = path
        self._synchronous: Synchronous = synchronous
        self._lock = None if self._path is None else FileLock(self._path.with_name(self._path.name + ".lock"))
        self._writer: _Connected | None = None
        self._reader: _Connected | None = None
        self._finder: _Connected | None = None
        """Reads what is short."""
        self._copier: _Copier | None = None

    @property
    def is_shared(self) -> bool:
        """Never: the file's lock lets one in."""
        return False

    async def open(self, *, exclusive: bool) -> None:
        """Bring it to the newest migration. `exclusive`: keep every other process from opening it so.

        Raises Misconfigured where another process has it, or where it is newer than this asterism or no database.
        """
        holder = None if self._lock is None else self._lock.acquire()
        if holder is not None and exclusive:
            raise Misconfigured("store", f"{self._path} is in use by process {holder}; stop that one, or take another")
        try:
            await self._connect(migrate if holder is None else need_newest)
        except (DatabaseError, sqlite3.DatabaseError) as error:
            await self.close()
            reason = error.orig if isinstance(error, DatabaseError) else error
            raise Misconfigured("store", f"{self._path} cannot be opened: {reason}") from error
        except Misconfigured:
            await self.close()
            raise
        if self._lock is not None and not exclusive:
            self._lock.release()

    async def _connect(self, prepare: Work[None]) -> None:
        engine = _engine(self._path, self._synchronous)
        if self._path is None:
            self._finder = self._reader = self._writer = _Connected(engine, "store", "BEGIN IMMEDIATE")
            await self._writer.run(prepare)
        else:
            self._writer = _FileWriter(engine)
            await self._writer.run(prepare)
            self._reader = _Connected(_engine(self._path, self._synchronous), "store-reader", "BEGIN")
            self._finder = _Connected(_engine(self._path, self._synchronous), "store-finder", "BEGIN")
            self._copier = _Copier(_engine(self._path, self._synchronous))

    async def close(self) -> None:
        """Finish what was asked for, then let go; harmless when nothing is open."""
        copier, self._copier = self._copier, None
        if copier is not None:
            await copier.close()
        # Each once: in memory all are one.
        open_ones = dict.fromkeys((self._finder, self._reader, self._writer))
        self._finder = self._reader = self._writer = None
        for connected in open_ones:
            if connected is not None:
                await connected.close()
        if self._lock is not None:
            self._lock.release()

    async def write(self, work: Work[T], *, is_short: bool = False) -> T:
        """Do the work in one transaction that is on disk when this returns; works never overlap.

        Raises Unreachable where the file cannot be written: a full disk, a broken one, no permission.
        """
        assert self._writer is not None, "the store is not open"
        if self._copier is not None and self._copier.log_pages > MAX_LOG_PAGES:
            # It ends with copying the log, and that is nothing for the event loop.
            self._copier.log_pages, is_short = 0, False
        try:
            result = await self._writer.run(work, is_short=is_short)
        except (DatabaseError, sqlite3.DatabaseError) as error:
            if (reason := _fault_of_file(error)) is None:
                raise
            raise Unreachable(str(self._path), f"the database cannot be written: {reason}") from error
        if self._copier is not None:
            self._copier.written()
        return result

    async def read(self, work: Work[T], *, is_short: bool = False) -> T:
        """Do the work on one picture of what is on disk."""
        connected = self._finder if is_short else self._reader
        assert connected is not None, "the store is not open"
        try:
            return await connected.run(work)
        except (DatabaseError, sqlite3.DatabaseError) as error:
            if (reason := _fault_of_file(error)) is None:
                raise
            raise Unreachable(str(self._path), f"the database cannot be read: {reason}") from error


def _fault_of_file(error: DatabaseError | sqlite3.DatabaseError) -> str | None:
    """What is wrong with the file or its disk; None where a statement is to blame, which is a mistake of ours."""
    cause = error.orig if isinstance(error, DatabaseError) else error
    # What is damaged, or no database, has no class of its own.
    is_of_file = isinstance(cause, sqlite3.OperationalError) or type(cause) is sqlite3.DatabaseError
    return str(cause) if is_of_file else None


def _engine(path: Path | None, synchronous: Synchronous) -> sa.Engine:
    """An engine that begins no transaction: pysqlite by itself would begin them too late."""
    url = sa.URL.create("sqlite", database=":memory:" if path is None else str(path))
    engine = sa.create_engine(
        url,
        poolclass=sa.NullPool if path is not None else sa.SingletonThreadPool,
        connect_args={"check_same_thread": False},  # One at a time uses it, whichever it is.
    )

    def on_connect(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "journal_mode=WAL",
            f"synchronous={synchronous}",
            f"wal_autocheckpoint={MAX_LOG_PAGES}",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    event.listen(engine, "connect", on_connect)
    return engine
