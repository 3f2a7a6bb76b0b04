"""A database: a connection that writes and one that reads, each on its own OS thread; what SQLite needs is here."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DatabaseError

from asterism.orchestrator.core.errors import Misconfigured
from asterism.store.lock import FileLock
from asterism.store.migrate import migrate, need_newest

T = TypeVar("T")
Work: TypeAlias = Callable[[sa.Connection], T]
Synchronous: TypeAlias = Literal["FULL", "NORMAL"]
"""FULL survives a power cut; NORMAL only the death of the process."""

IN_MEMORY: Final = ":memory:"
BUSY_TIMEOUT_MS: Final = 5_000
"""How long a writer waits for another process: `asterism token` writes one small row at a time."""


class Connected:
    """One connection, and the only OS thread that uses it."""

    def __init__(self, engine: sa.Engine, name: str) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._connection: sa.Connection | None = None

    async def run(self, work: Work[T]) -> T:
        """Do the work inside one transaction; an error undoes all of it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work)

    def _transact(self, work: Work[T]) -> T:
        if self._connection is None:
            self._connection = self._engine.connect()
        with self._connection.begin():
            return work(self._connection)

    async def close(self) -> None:
        """Let go, after what was asked for before."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._engine.dispose()


class Database:
    """A SQLite file, or (":memory:") one that ends with this object."""

    def __init__(self, location: str | Path, *, synchronous: Synchronous = "FULL") -> None:
        self._path = _path(location)
        self._synchronous: Synchronous = synchronous
        self._lock = None if self._path is None else FileLock(self._path.with_name(self._path.name + ".lock"))
        self._writer: Connected | None = None
        self._reader: Connected | None = None

    async def open(self, *, exclusive: bool) -> None:
        """Bring it to the newest migration. `exclusive`: keep every other process from opening it so.

        Raises Misconfigured where another process has it, or where it is newer than this asterism or no database.
        """
        holder = None if self._lock is None else self._lock.acquire()
        if holder is not None and exclusive:
            raise Misconfigured("store", f"{self._path} is in use by process {holder}; stop that one, or take another")
        try:
            await self._connect(migrate if holder is None else need_newest)
        except DatabaseError as error:
            await self.close()
            raise Misconfigured("store", f"{self._path} cannot be opened: {error.orig}") from error
        except Misconfigured:
            await self.close()
            raise
        if self._lock is not None and not exclusive:
            self._lock.release()

    async def _connect(self, prepare: Work[None]) -> None:
        self._writer = Connected(_engine(self._path, self._synchronous, "BEGIN IMMEDIATE"), "store-writer")
        await self._writer.run(prepare)
        if self._path is None:
            self._reader = self._writer
        else:
            self._reader = Connected(_engine(self._path, self._synchronous, "BEGIN"), "store-reader")

    async def close(self) -> None:
        """Finish what was asked for, then let go; harmless when nothing is open."""
        writer, reader, self._writer, self._reader = self._writer, self._reader, None, None
        if reader is not None and reader is not writer:
            await reader.close()
        if writer is not None:
            await writer.close()
        if self._lock is not None:
            self._lock.release()

    async def write(self, work: Work[T]) -> T:
        """Do the work in one transaction that is on disk when this returns; works never overlap."""
        assert self._writer is not None, "the store is not open"
        return await self._writer.run(work)

    async def read(self, work: Work[T]) -> T:
        """Do the work on one picture of what is on disk."""
        assert self._reader is not None, "the store is not open"
        return await self._reader.run(work)


def _path(location: str | Path) -> Path | None:
    """The file that a path or a `sqlite:` URL names; None for one in memory."""
    text = str(location)
    if "://" in text:
        try:
            url = sa.make_url(text)
        except ArgumentError as error:
            raise Misconfigured("store", f"{text} is no URL of a database") from error
        if url.get_backend_name() != "sqlite":
            raise Misconfigured("store", f"{url.get_backend_name()} is not supported; give a path or sqlite:///PATH")
        text = url.database or IN_MEMORY
    return None if text == IN_MEMORY else Path(text)


def _engine(path: Path | None, synchronous: Synchronous, begin: str) -> sa.Engine:
    """An engine whose transactions start with `begin`: pysqlite by itself would start them too late."""
    url = sa.URL.create("sqlite", database=IN_MEMORY if path is None else str(path))
    engine = sa.create_engine(url, poolclass=sa.NullPool if path is not None else sa.SingletonThreadPool)

    def on_connect(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "journal_mode=WAL",
            f"synchronous={synchronous}",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    def on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)
    return engine
