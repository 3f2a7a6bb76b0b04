"""PostgreSQL through asyncpg: a connection that writes, and two that read."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from asterism.orchestrator.core.errors import AsterismError, Misconfigured, Unreachable
from asterism.store.database import Work
from asterism.store.migrate import migrate

T = TypeVar("T")

CONNECT_TIMEOUT_S: Final = 10.0
COMMAND_TIMEOUT_S: Final = 60.0
"""Of one statement: longer than any takes, so that a database which hangs is an error and not silence."""
IDLE_IN_TRANSACTION_S: Final = 10.0
"""A process that is stopped inside a transaction holds the rows that the next leader needs no longer than this."""
PARTING_S: Final = 2.0
"""For what runs when the store is closed: a server that hangs must not hold up the end of the process."""
MIGRATION_LOCK: Final = 0x617374657269736D
"""Key of the advisory lock under which one process at a time migrates: "asterism" in ASCII."""
WRITER_SETTINGS: Final = {
    "synchronous_commit": "on",
    # Every statement finds its rows by a key. Statistics of tables that were empty a second ago advise a scan instead,
    # and the plan of a prepared statement would keep it while they grow.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    # One plan for all: with an array in place of each row it cannot depend on the values, and planning costs more than
    # running (an append of one finish and one lease: 1.4 ms, so 1.2 ms).
    "plan_cache_mode": "force_generic_plan",
}
READER_SETTINGS: Final = {
    "default_transaction_read_only": "on",
    # While graphs are made of what was read the server waits, and nobody for the reader: a snapshot of 235,000 stars
    # takes 12 s.
    "idle_in_transaction_session_timeout": "0",
}
_QUERY: Final = frozenset({"host", "port", "sslmode"})


class _ConnectionLost(Exception):
    """The server is gone, or has closed the connection; of a write nobody knows whether it is on disk."""


class _NotConnected(_ConnectionLost):
    """No connection could be made: the server is away, just starting, or lets nobody else in. The cause says it."""


class _Connected:
    """One connection. It connects when it is needed, and again."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._connection: AsyncConnection | None = None

    async def do(self, work: Work[T]) -> T:
        """Do the work inside one transaction; an error undoes all of it, and a broken connection is dropped."""
        connection = self._connection
        if connection is None:
            try:
                connection = self._connection = await self._engine.connect()
            except (OSError, DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                raise _NotConnected(_words(error, CONNECT_TIMEOUT_S)) from error
        try:
            return await connection.run_sync(_transact, work)
        except AsterismError:
            raise
        except BaseException as error:
            is_lost = isinstance(error, OSError) or await _is_lost(connection)
            self._connection = None
            await connection.invalidate()
            await connection.close()
            if is_lost and isinstance(error, Exception):
                raise _ConnectionLost(_words(error, COMMAND_TIMEOUT_S)) from error
            raise

    async def leave(self) -> None:
        """Let go. A server that hangs is not waited for: SQLAlchemy gives an invalid connection's farewell 2 s."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.invalidate()
            await connection.close()
        await self._engine.dispose()


class _Writer:
    """On the event loop: it only waits for the server, and to hand a work over would cost as much as a quick one takes
    (a hop of a chain 1.6 ms, so 1.35 ms)."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._connected = _Connected(engine)
        self._turn = asyncio.Lock()
        self._works: set[asyncio.Task[Any]] = set()
        """That have not ended."""

    async def run(self, work: Work[T]) -> T:
        """Do the work; one that has begun ends, also where nobody waits for it any more."""
        doing = asyncio.ensure_future(self._in_turn(work))
        self._works.add(doing)
        doing.add_done_callback(self._works.discard)
        return await asyncio.shield(doing)

    async def _in_turn(self, work: Work[T]) -> T:
        async with self._turn:
            return await self._connected.do(work)

    async def close(self) -> None:
        """Let go, after what was asked for before, as far as it ends soon."""
        if self._works:
            _, late = await asyncio.wait(self._works, timeout=PARTING_S)
            for work in late:
                work.cancel()
            if late:
                await asyncio.wait(late)
        await self._connected.leave()


class _Reader:
    """On an OS thread and event loop of its own: the graphs of an answer are made beside the statements, and that may
    take longer than the orchestrator's event loop may be held up."""

    def __init__(self, engine: AsyncEngine, name: str) -> None:
        self._connected = _Connected(engine)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._runner: asyncio.Runner | None = None
        self._doing: asyncio.Task[Any] | None = None
        """The work that began last, on the thread's event loop."""
        self._is_leaving = False

    async def run(self, work: Work[T]) -> T:
        """Do the work."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, work)

    def _do(self, work: Work[T]) -> T:
        if self._is_leaving:
            raise _NotConnected("the store is being closed")
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(self._note(work))

    async def _note(self, work: Work[T]) -> T:
        self._doing = asyncio.current_task()
        return await self._connected.do(work)

    async def close(self) -> None:
        """Let go, after what was asked for before, as far as it ends soon."""
        own = asyncio.get_running_loop()
        # A work that does nothing ends with those that were asked for before.
        done, _ = await asyncio.wait([own.run_in_executor(self._thread, bool)], timeout=PARTING_S)
        self._is_leaving = True
        if not done and self._doing is not None:
            # It may have ended by now: then this does nothing.
            self._doing.get_loop().call_soon_threadsafe(self._doing.cancel)
        await own.run_in_executor(self._thread, self._leave)
        self._thread.shutdown()

    def _leave(self) -> None:
        if self._runner is not None:
            self._runner.run(self._connected.leave())
            self._runner.close()


def _transact(connection: sa.Connection, work: Work[T]) -> T:
    with connection.begin():
        return work(connection)


async def _is_lost(connection: AsyncConnection) -> bool:
    # An invalidated one would connect anew when asked for the driver's.
    if connection.invalidated:
        return True
    driver: Any = (await connection.get_raw_connection()).driver_connection
    return driver is None or bool(driver.is_closed())


class PostgresDatabase:
    """A database of a PostgreSQL server. Many may open it; who writes is decided by the lease in it."""

    def __init__(self, url: sa.URL) -> None:
        self._url = _driver_url(url)
        self._writer: _Writer | None = None
        self._reader: _Reader | None = None
        self._finder: _Reader | None = None
        """Reads what is short."""

    @property
    def is_shared(self) -> bool:
        """Always."""
        return True

    @property
    def address(self) -> str:
        """Where the server is, for people; never with a password."""
        host = self._url.host or self._url.query.get("host") or "localhost"
        return f"{host}:{self._url.port or 5432}"

    async def open(self, *, exclusive: bool) -> None:
        """Bring it to the newest migration; Unreachable where no server answers, or Misconfigured with what to mend."""
        self._writer = _Writer(_engine(self._url, WRITER_SETTINGS, "READ COMMITTED"))
        self._reader = _Reader(_engine(self._url, READER_SETTINGS, "REPEATABLE READ"), "store-reader")
        self._finder = _Reader(_engine(self._url, READER_SETTINGS, "REPEATABLE READ"), "store-finder")
        try:
            await self._writer.run(_prepare)
        except _ConnectionLost as error:
            await self.close()
            raise self._refusal(error.__cause__, str(error)) from error
        except (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            await self.close()
            raise self._refusal(error, _words(error, COMMAND_TIMEOUT_S)) from error
        except Misconfigured:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish what was asked for, then let go; harmless when nothing is open."""
        open_ones = (self._finder, self._reader, self._writer)
        self._finder = self._reader = self._writer = None
        await asyncio.gather(*(connected.close() for connected in open_ones if connected is not None))

    async def write(self, work: Work[T], *, is_short: bool = False) -> T:
        """Do the work in one transaction that is on disk when this returns; works never overlap.

        Raises Unreachable where the server has gone: then nobody knows whether it is on disk.
        """
        assert self._writer is not None, "the store is not open"
        try:
            return await self._writer.run(work)
        except _ConnectionLost as error:
            raise Unreachable(self.address, f"the database was lost in a write: {error}") from error

    async def read(self, work: Work[T], *, is_short: bool = False) -> T:
        """Do the work on one picture of what is on disk; a connection that was lost meanwhile is made anew, once."""
        connected = self._finder if is_short else self._reader
        assert connected is not None, "the store is not open"
        try:
            try:
                return await connected.run(work)
            except _NotConnected:
                raise
            except _ConnectionLost:
                return await connected.run(work)
        except _ConnectionLost as error:
            raise Unreachable(self.address, f"the database was lost in a read: {error}") from error

    def _refusal(self, error: BaseException | None, told: str) -> AsterismError:
        """What to mend, by SQLSTATE."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        state = str(getattr(cause, "sqlstate", None) or "")
        user, name = self._url.username or "the default user", self._url.database or "the default database"
        match state:
            case "28P01" | "28000":
                return Misconfigured("store", f"{self.address} refuses {user}, check the name and the password: {told}")
            case "3D000":
                return Misconfigured("store", f"there is no database {name} at {self.address}; create it: {told}")
            case "42501":
                return Misconfigured("store", f"{user} may not make tables in {name} at {self.address}: {told}")
            case "" | "57P03" | "53300":
                # No answer at all, a server that is still starting, or one with too many connections.
                return Unreachable(self.address, told)
            case _:
                return Misconfigured("store", f"{name} at {self.address} cannot be used: {told}")


def _prepare(connection: sa.Connection) -> None:
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise Misconfigured("store", f"the database's encoding is {encoding}; create it with ENCODING 'UTF8'")
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
    migrate(connection)


def _driver_url(url: sa.URL) -> sa.URL:
    """The URL as the driver takes it; raises Misconfigured for a parameter that means nothing here."""
    unknown = sorted(set(url.query) - _QUERY)
    if unknown:
        raise Misconfigured("store", f"its URL has {unknown[0]!r}; only host, port and sslmode may follow the '?'")
    query: dict[str, Any] = {name: value for name, value in url.query.items() if name != "sslmode"}
    if "sslmode" in url.query:
        query["ssl"] = url.query["sslmode"]
    return url.set(drivername="postgresql+asyncpg", query=query)


def _engine(url: sa.URL, settings: dict[str, str], isolation: Any) -> AsyncEngine:
    server_settings = {
        "application_name": "asterism",
        "jit": "off",
        "idle_in_transaction_session_timeout": str(int(IDLE_IN_TRANSACTION_S * 1000)),
        **settings,
    }
    return create_async_engine(
        url,
        poolclass=sa.NullPool,
        isolation_level=isolation,
        connect_args={
            "timeout": CONNECT_TIMEOUT_S,
            "command_timeout": COMMAND_TIMEOUT_S,
            "server_settings": server_settings,
        },
    )


def _words(error: object, limit_s: float) -> str:
    """What an error says, in one line; a timeout, which says nothing by itself, is that of `limit_s`."""
    if isinstance(error, TimeoutError):
        return f"no answer within {limit_s:g} s"
    if isinstance(error, DBAPIError) and error.orig is not None:
        # What SQLAlchemy and its driver say of it names classes; what the driver itself said is the cause.
        error = error.orig.__cause__ or error.orig
    return str(error).splitlines()[0] if str(error) else type(error).__name__
