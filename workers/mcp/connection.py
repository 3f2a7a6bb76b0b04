"""One server of the Model Context Protocol: connected while it is wanted, started again when it died, within bounds.

The official SDK speaks the protocol (`mcp`, an extra of its own: only who names a server needs it). It is imported with
the first server.
"""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import structlog

from asterism.workers.tool_settings import McpSettings

if TYPE_CHECKING:
    from mcp import Client

_WINDOW_S: Final = 600.0
"""In which restarts are counted."""
_REASON: Final = 300
_CONNECT_S: Final = 30.0

_log = structlog.get_logger(__name__)


class Unavailable(Exception):
    """The server is not there, and the call has not begun; `str` says why."""


class Connection:
    """A server and, while it lives, a client of it. `run` owns both; everybody else asks for the client."""

    def __init__(self, name: str, settings: McpSettings, environment: Mapping[str, str] = os.environ) -> None:
        self.name = name
        self.settings = settings
        self._environment = environment
        self._client: asyncio.Future[Client] | None = None
        self._starts: deque[float] = deque()
        self._is_wanted = asyncio.Event()
        self.is_lost = asyncio.Event()
        """Whether no server runs now that could be given to anybody."""
        self._has_ended = asyncio.Event()
        self._is_closing = asyncio.Event()

    async def client(self) -> "Client":
        """The client, connected; starts the server where none runs. Raises `Unavailable`."""
        if self._client is None:
            now = asyncio.get_running_loop().time()
            while self._starts and self._starts[0] < now - _WINDOW_S:
                self._starts.popleft()
            if self._is_closing.is_set() or len(self._starts) > self.settings.restarts:
                raise Unavailable(f"{self.name} was started {len(self._starts)} times in ten minutes, and ended")
            self._starts.append(now)
            self._client = asyncio.get_running_loop().create_future()
            self._is_wanted.set()
        try:
            # The supervisor keeps the time: it fails the future when the server is late.
            return await asyncio.shield(self._client)
        except asyncio.CancelledError:
            if self._is_closing.is_set():
                raise Unavailable(f"{self.name}: this worker is leaving") from None
            raise

    def drop(self) -> None:
        """The server does not answer any more as it should: end it, so that the next call starts another one."""
        if self._client is not None and self._client.done():
            # Ending it takes a while, and nobody shall be given it meanwhile.
            self._client = None
            self._has_ended.set()
            self.is_lost.set()

    def close(self) -> None:
        """Let `run` end the server, and end."""
        self._is_closing.set()
        self._is_wanted.set()

    async def run(self) -> None:
        """Serve whoever wants the server, until `close`."""
        while True:
            await self._is_wanted.wait()
            self._is_wanted.clear()
            if self._is_closing.is_set():
                return
            await self._live_once()

    async def _live_once(self) -> None:
        """One life of the server: whoever waits for the client gets it, or the reason why there is none."""
        waiting, has_ended = self._client, asyncio.Event()
        self._has_ended = has_ended
        assert waiting is not None
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self.settings.start_s):
                    client = await stack.enter_async_context(self._connect())
                self.is_lost.clear()
                waiting.set_result(client)
                await _first_of(has_ended, self._is_closing)
        except TimeoutError:
            self._fail(waiting, f"it did not answer within {self.settings.start_s:g} s")
        except Exception as error:  # the supervisor of a server: reports, and starts another one when it is wanted
            self._fail(waiting, describe(error))
        else:
            if not self._is_closing.is_set():
                _log.warning("a server of tools ended", server=self.name)
        finally:
            if self._client is waiting:
                self._client = None
            waiting.cancel()

    def _fail(self, waiting: "asyncio.Future[Client]", reason: str) -> None:
        _log.warning("a server of tools failed", server=self.name, reason=reason)
        if not waiting.done():
            waiting.set_exception(Unavailable(f"{self.name}: {reason}"))
            waiting.exception()  # somebody may have stopped waiting

    def _connect(self) -> "AbstractAsyncContextManager[Client]":
        from mcp import Client, StdioServerParameters
        from mcp.client.stdio import stdio_client

        settings = self.settings
        if settings.command is not None:
            passed = {name: self._environment[name] for name in settings.pass_env if name in self._environment}
            process = StdioServerParameters(
                command=settings.command, args=list(settings.args), env={**settings.env, **passed}, cwd=settings.cwd
            )
            return Client(_watched(stdio_client(process), self.drop), read_timeout_seconds=settings.time_s)
        missing = [name for name in settings.headers_env.values() if name not in self._environment]
        if missing:
            raise Unavailable(f"the variable {missing[0]} is not set")
        headers = {
            **settings.headers,
            **{name: self._environment[variable] for name, variable in settings.headers_env.items()},
        }
        assert settings.url is not None
        return Client(_over_http(settings.url, headers), read_timeout_seconds=settings.time_s)


@asynccontextmanager
async def _over_http(url: str, headers: Mapping[str, str]) -> AsyncIterator[Any]:
    """A transport whose requests carry these headers; an answer may be silent for as long as a call takes."""
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    async with (
        httpx2.AsyncClient(headers=dict(headers), timeout=httpx2.Timeout(_CONNECT_S, read=None)) as client,
        streamable_http_client(url, http_client=client) as streams,
    ):
        yield streams


@asynccontextmanager
async def _watched(transport: AbstractAsyncContextManager[Any], ended: Callable[[], None]) -> AsyncIterator[Any]:
    """A transport that tells when the other side is gone, though nobody asks anything at the time."""
    import anyio

    async with transport as (reading, writing):
        send, receive = anyio.create_memory_object_stream[Any](0)

        async def forward() -> None:
            async with send:
                async for message in reading:
                    await send.send(message)
            ended()

        async with anyio.create_task_group() as group:
            group.start_soon(forward)
            yield receive, writing
            group.cancel_scope.cancel()


async def _first_of(*events: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(event.wait()) for event in events]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


def describe(error: BaseException) -> str:
    """The first thing that went wrong, in a line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:_REASON]
