"""An orchestrator for state machines: asked from plain code over real gRPC, ended or killed, and started again."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import grpc.aio

from asterism.orchestrator.app import running
from asterism.orchestrator.clock import ManualClock
from asterism.orchestrator.config import Settings
from asterism.orchestrator.core.credential import Role
from asterism.orchestrator.core.records import Record
from asterism.protocol.credentials import Credential
from asterism.store.sql import SqlStore
from tests.orchestrator.serving import Peer, granted

T = TypeVar("T")

DEADLINE_S: Final = 10.0
"""Of whatever is waited for: a thousand times what it takes."""
ALL: Final = 100_000


class Blank:
    """A database with nothing but credentials, from which each story begins: migrations take longer than a copy."""

    def __init__(self, runner: asyncio.Runner, folder: Path, roles: Mapping[str, Role]) -> None:
        self.runner = runner
        self.folder = folder
        self.credentials: Mapping[str, Credential] = runner.run(self._fill(roles))

    @property
    def file(self) -> Path:
        return self.folder / "blank.db"

    async def _fill(self, roles: Mapping[str, Role]) -> Mapping[str, Credential]:
        async with opened(self.file) as store:
            return {name: await granted(store, role, name) for name, role in roles.items()}


class Lives:
    """The processes that serve one story, one after the other, and a connection to the latest for each name.

    Between two calls nothing runs, so that a story is the same each time.
    """

    def __init__(self, blank: Blank) -> None:
        self.clock = ManualClock(1e9)
        self.peers: dict[str, Peer] = {}
        self._blank = blank
        self._copies = 0
        self._file = self._copy(blank.file)
        self.wait(self._start())

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What it gives; what never comes is an error, and no test that hangs."""
        return self._blank.runner.run(_within(work))

    def ask(self, who: str, method: str, *messages: Any) -> list[Any]:
        """The answers to some calls of a method that are made at one time: messages, or the codes of refusals."""
        self.clock.advance(0.01)
        return self.wait(self._ask(who, method, messages))

    def stream(self, who: str, method: str, message: Any) -> Any:
        """A call whose answers are read one by one."""
        self.clock.advance(0.01)
        return self.wait(self._open(who, method, message))

    def journal(self, after_seq: int) -> Sequence[Record]:
        """What is on disk after a sequence number, of all requests and workers."""
        return self.wait(self._store.read_whole_journal(after_seq=after_seq, limit=ALL))

    def end(self) -> None:
        """An orderly end."""
        self.wait(self._end())

    def restart(self, *, is_killed: bool) -> None:
        """End it and start another; `is_killed`: on the file as it was before the end, of which it then has nothing."""
        file = self._copy(self._file) if is_killed else self._file
        self.end()
        self._file = file
        self.clock.advance(0.1)
        self.wait(self._start())

    def _copy(self, file: Path) -> Path:
        """The database as it is on disk now, with what its log holds."""
        self._copies += 1
        copy = self._blank.folder / f"{self._copies}.db"
        for suffix in ("", "-wal"):
            part, copied = (path.with_name(path.name + suffix) for path in (file, copy))
            copied.unlink(missing_ok=True)
            if part.exists():
                shutil.copyfile(part, copied)
        return copy

    async def _start(self) -> None:
        self._told = asyncio.Event()
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._life = asyncio.create_task(self._live(ready))
        waiting: list[asyncio.Future[Any]] = [self._life, ready]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self._life.done():
            await self._life
        self._connections = AsyncExitStack()
        for name, credential in self._blank.credentials.items():
            self.peers[name] = await self._connections.enter_async_context(Peer(ready.result(), credential))

    async def _live(self, ready: "asyncio.Future[str]") -> None:
        settings = Settings(
            listen="127.0.0.1:0", data_dir=self._blank.folder, lease_s=3600.0, change_burst=ALL, drain_s=2.0
        )
        async with opened(self._file) as self._store, running(settings, self._store, self.clock) as orchestrator:
            ready.set_result(orchestrator.address)
            await self._told.wait()

    async def _end(self) -> None:
        await self._connections.aclose()
        self._told.set()
        await self._life

    async def _ask(self, who: str, method: str, messages: Sequence[Any]) -> list[Any]:
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(self._ask_once(who, method, message)) for message in messages]
        return [task.result() for task in asked]

    async def _ask_once(self, who: str, method: str, message: Any) -> Any:
        call = self._call(who, method, message)
        try:
            # Of a stream the first answer, which is none where it is refused.
            return await (call.read() if hasattr(call, "read") else call)
        except grpc.aio.AioRpcError as error:
            return error.code()

    async def _open(self, who: str, method: str, message: Any) -> Any:
        return self._call(who, method, message)

    def _call(self, who: str, method: str, message: Any) -> Any:
        peer = self.peers[who]
        return getattr(peer.client, method)(message, metadata=peer.metadata)


async def _within(work: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(DEADLINE_S):
        return await work


@asynccontextmanager
async def opened(file: Path) -> AsyncIterator[SqlStore]:
    """A store that is open while the block runs; what it has written outlives the process, and no power cut."""
    store = SqlStore(file, synchronous="NORMAL")
    await store.open()
    try:
        yield store
    finally:
        await store.close()
