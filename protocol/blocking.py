"""The client library for programs without an event loop."""

import asyncio
import threading
from collections.abc import Awaitable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self, TypeAlias, TypeVar

from asterism.orchestrator.core.edits import EditBatch
from asterism.orchestrator.core.errors import WrongState
from asterism.orchestrator.core.ids import ConstellationId, StarId, WorkerId
from asterism.orchestrator.core.request import Budget, ConstellationState, Request
from asterism.orchestrator.core.snapshot import Summary
from asterism.orchestrator.core.star import StarInput
from asterism.orchestrator.core.values import Json
from asterism.protocol.answers import Counters, Ending, Picture, Submitted, WorkerStatus
from asterism.protocol.client import DEADLINE_S, PATIENCE_S, AsyncClient, Watched
from asterism.protocol.credentials import Credential
from asterism.protocol.settings import DEFAULT_ADDRESS, ClientSettings

T = TypeVar("T")
_Opened: TypeAlias = Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]


class Client:
    """`AsyncClient` with blocking methods of the same names; use it as a context manager, from any thread."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        credential: Credential | str | None = None,
        ca_file: Path | None = None,
        *,
        deadline_s: float = DEADLINE_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """As of `AsyncClient`."""
        self._inner = AsyncClient(address, credential, ca_file, deadline_s=deadline_s, patience_s=patience_s)
        self._opened: _Opened | None = None
        """None before `__enter__` and after `__exit__`."""
        self._thread: threading.Thread | None = None

    @classmethod
    def from_settings(cls, settings: ClientSettings) -> Self:
        """A client of the orchestrator that the user's settings name."""
        token = None if settings.token is None else settings.token.value
        return cls(settings.address.value, token, settings.ca_path)

    def __enter__(self) -> Self:
        """Start the thread that the event loop runs in."""
        opened: _Opened = Future()
        work = self._serve
        self._thread = threading.Thread(target=lambda: asyncio.run(work(opened)), name="asterism-client", daemon=True)
        self._thread.start()
        try:
            opened.result()
        except BaseException:
            self._thread.join()
            raise
        self._opened = opened
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection, and wait until the thread has ended."""
        loop, closing = self._running()
        self._opened = None
        loop.call_soon_threadsafe(closing.set)
        assert self._thread is not None
        self._thread.join()

    def submit(self, request: Request, request_id: str | None = None, budget: Budget | None = None) -> Submitted:
        """Submit a request; when this returns it is on the orchestrator's disk."""
        return self._wait(self._client.submit(request, request_id, budget))

    def get(self, constellation: ConstellationId) -> Picture:
        """The whole graph as it stands, and what each star that waits is waiting for."""
        return self._wait(self._client.get(constellation))

    def list(self, states: Collection[ConstellationState] = (), page_size: int = 50) -> Iterator[Summary]:
        """Your requests, newest first; pages are fetched as they are needed."""
        rows = self._client.list(states, page_size)
        while (row := self._wait(anext(rows, None))) is not None:
            yield row

    def watch(self, constellation: ConstellationId, after_seq: int = 0, with_text: bool = True) -> Iterator[Watched]:
        """Every record after `after_seq` until the constellation has ended, over broken connections too."""
        items = self._client.watch(constellation, after_seq, with_text)
        while (item := self._wait(anext(items, None))) is not None:
            yield item

    def wait(self, constellation: ConstellationId) -> Ending:
        """Return when the constellation has ended."""
        return self._wait(self._client.wait(constellation))

    def artifact_parts(self, constellation: ConstellationId, star: StarId) -> Iterator[bytes]:
        """The JSON text of a star's result that is an artifact, piece by piece; use nothing before the end."""
        parts = self._client.artifact_parts(constellation, star)
        while (part := self._wait(anext(parts, None))) is not None:
            yield part

    def artifact_value(self, constellation: ConstellationId, star: StarId) -> Json:
        """The value of a star's result that is an artifact."""
        return self._wait(self._client.artifact_value(constellation, star))

    def edit(self, constellation: ConstellationId, batch: EditBatch, reason: str = "") -> int:
        """Apply a batch of edits whole and give the new revision."""
        return self._wait(self._client.edit(constellation, batch, reason))

    def cancel(self, constellation: ConstellationId, reason: str = "") -> None:
        """End a request; harmless when it has ended already."""
        self._wait(self._client.cancel(constellation, reason))

    def retry(
        self,
        constellation: ConstellationId,
        stars: Sequence[StarId] = (),
        rebinds: Mapping[StarId, Mapping[str, StarInput]] = MappingProxyType({}),
    ) -> int:
        """Run what failed or was cancelled again, or `stars` with other inputs, and give the new revision."""
        return self._wait(self._client.retry(constellation, stars, rebinds))

    def decide(
        self, constellation: ConstellationId, star: StarId, *, approve: bool, reason: str = "", value: Json = None
    ) -> None:
        """Answer a star that waits for a person."""
        self._wait(self._client.decide(constellation, star, approve=approve, reason=reason, value=value))

    def replan(self, constellation: ConstellationId, why: str) -> int:
        """Have a model rewrite the graph, because of `why`; gives the revision with the star that asks it."""
        return self._wait(self._client.replan(constellation, why))

    def pause(self, constellation: ConstellationId, reason: str = "", *, is_paused: bool = True) -> None:
        """Hold a request back, or (False) let it go on."""
        self._wait(self._client.pause(constellation, reason, is_paused=is_paused))

    def workers(self) -> tuple[WorkerStatus, ...]:
        """The fleet, by name."""
        return self._wait(self._client.workers())

    def drain(self, worker: WorkerId, *, is_draining: bool = True) -> None:
        """Give a worker no new stars, or (False) give it some again. For admins."""
        self._wait(self._client.drain(worker, is_draining=is_draining))

    def label(
        self, worker: WorkerId, set_labels: Mapping[str, str] | None = None, remove: Collection[str] = ()
    ) -> Mapping[str, str]:
        """Set and take away an operator's labels of a worker, and give all that it has then. For admins."""
        return self._wait(self._client.label(worker, set_labels, remove))

    def counters(self) -> Counters:
        """What the orchestrator has done since it started. For admins."""
        return self._wait(self._client.counters())

    def health(self) -> bool:
        """Whether the orchestrator says that it serves."""
        return self._wait(self._client.health())

    @property
    def _client(self) -> AsyncClient:
        """The one that does the work, where it can: a call of it that nothing runs must not be made."""
        self._running()
        return self._inner

    def _running(self) -> tuple[asyncio.AbstractEventLoop, asyncio.Event]:
        """The loop, and what ends it; raises WrongState where there is none, or none any more."""
        if self._opened is None:
            raise WrongState("client", self._inner.address, "not open", "use it as `with Client(...) as client`")
        return self._opened.result()

    async def _serve(self, opened: _Opened) -> None:
        """Hold the connection until `__exit__`; the end of the loop cancels what still waits."""
        closing = asyncio.Event()
        try:
            async with self._inner:
                opened.set_result((asyncio.get_running_loop(), closing))
                await closing.wait()
        except Exception as error:
            # The supervisor of the thread: whoever opens the client gets the error, if it is not open yet.
            if opened.done():
                raise
            opened.set_exception(error)

    def _wait(self, work: Awaitable[T]) -> T:
        """Run it in the client's loop; an interrupt of the waiting thread cancels it there."""
        loop, _ = self._running()

        async def run() -> T:
            return await work

        future = asyncio.run_coroutine_threadsafe(run(), loop)
        try:
            return future.result()
        finally:
            future.cancel()
