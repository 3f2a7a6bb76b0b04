"""SQLite: a connection that writes, one that reads, and one that keeps the log short, each on its own OS thread."""

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import sqlalchemy as sa
import structlog
from sqlalchemy import event
from sqlalchemy.exc import DatabaseError, OperationalError

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


class _Connected:
    """One connection, and the only OS thread that uses it."""

    def __init__(self, engine: sa.Engine, name: str, begin: str | None) -> None:
        """`begin`: the statement that begins a transaction; None for work that takes no part in one."""
        self._engine = engine
        self._begin = begin
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._connection: sa.Connection | None = None
        self._driver: sqlite3.Connection | None = None

    async def run(self, work: Work[T]) -> T:
        """Do the work, inside one transaction where there is to be one; an error undoes all of it then."""
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
            driver.commit()
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


class _Copier:
    """Copies what is in the write-ahead log into the database. It holds up nobody, and nobody waits for it."""

    def __init__(self, engine: sa.Engine) -> None:
        self._connected = _Connected(engine, "store-copier", None)
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
            await self._connected.run(
                lambda connection: connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").close()
            )
        except (DatabaseError, sqlite3.DatabaseError) as error:
            # Nothing is lost, for the log has it all; what a broken disk means for a write, the next write says.
            _log.warning("the log could not be copied into the database", reason=str(error))

    async def close(self) -> None:
        """Let go, after what has begun."""
        if self._copying is not None:
            await self._copying
        await self._connected.close()


class SqliteDatabase:
    """A file, or (None) a database that ends with this object."""

    def __init__(self, path: Path | None, *, synchronous: Synchronous = "FULL") -> None:
        self._path = path
        self._synchronous: Synchronous = synchronous
        self._lock = None if self._path is None else FileLock(self._path.with_name(self._path.name + ".lock"))
        self._writer: _Connected | None = None
        self._reader: _Connected | None = None
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
        self._writer = _Connected(_engine(self._path, self._synchronous), "store-writer", "BEGIN IMMEDIATE")
        await self._writer.run(prepare)
        if self._path is None:
            self._reader = self._writer
        else:
            self._reader = _Connected(_engine(self._path, self._synchronous), "store-reader", "BEGIN")
            self._copier = _Copier(_engine(self._path, self._synchronous))

    async def close(self) -> None:
        """Finish what was asked for, then let go; harmless when nothing is open."""
        copier, self._copier = self._copier, None
        if copier is not None:
            await copier.close()
        writer, reader, self._writer, self._reader = self._writer, self._reader, None, None
        if reader is not None and reader is not writer:
            await reader.close()
        if writer is not None:
            await writer.close()
        if self._lock is not None:
            self._lock.release()

    async def write(self, work: Work[T]) -> T:
        """Do the work in one transaction that is on disk when this returns; works never overlap.

        Raises Unreachable where the file cannot be written: a full disk, a broken one, no permission.
        """
        assert self._writer is not None, "the store is not open"
        try:
            result = await self._writer.run(work)
        except (OperationalError, sqlite3.OperationalError) as error:
            reason = error.orig if isinstance(error, OperationalError) else error
            raise Unreachable(str(self._path), f"the database cannot be written: {reason}") from error
        if self._copier is not None:
            self._copier.written()
        return result

    async def read(self, work: Work[T]) -> T:
        """Do the work on one picture of what is on disk."""
        assert self._reader is not None, "the store is not open"
        return await self._reader.run(work)


def _engine(path: Path | None, synchronous: Synchronous) -> sa.Engine:
    """An engine that begins no transaction: pysqlite by itself would begin them too late."""
    url = sa.URL.create("sqlite", database=":memory:" if path is None else str(path))
    engine = sa.create_engine(url, poolclass=sa.NullPool if path is not None else sa.SingletonThreadPool)

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
