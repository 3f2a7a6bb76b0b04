"""A network in memory under real stubs and servicers: every message is bytes that take time, and streams break.

Within one gRPC stream nothing is lost but its tail, nor doubled or swapped: TCP and HTTP/2 see to that. What may be is
all the same done to frames that the protocol says it bears it for (`_may_stray`): reports, renewals, acknowledgements.
Assignments are doubled and stay in their place: a worker starts nothing that it holds.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc
import grpc.aio

from asterism.orchestrator.core.credential import Role
from asterism.orchestrator.core.errors import AsterismError
from asterism.orchestrator.services.auth import CALLER, Identity
from asterism.protocol.status import to_rpc_status
from asterism.protocol.v1 import worker_pb2
from tests.sim.processes import Process
from tests.sim.virtual import NOBODY

EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs lack it
KEEPALIVE_S: Final = 15.0
"""After this long in silence either end gives a connection up."""
HEALTH: Final = "/grpc.health.v1.Health/Check"


@dataclass(frozen=True)
class End:
    """How a stream ends."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    trailers: tuple[tuple[str, str | bytes], ...] = ()

    def error(self) -> grpc.aio.AioRpcError:
        trailing = grpc.aio.Metadata(*self.trailers)
        return grpc.aio.AioRpcError(self.code, grpc.aio.Metadata(), trailing, self.details, None)


BROKEN: Final = End(grpc.StatusCode.UNAVAILABLE, "the connection broke")
SILENT: Final = End(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer")


class Host(Protocol):
    """A process that serves."""

    process: Process

    def find(self, path: str) -> Any:
        """The handler of a method, as the generated code registers it; raises what every call is refused with."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]": ...


class Listener(Protocol):
    """Hears what a host reads and says, as messages."""

    def heard(self, host: Host, call: "Call", message: Any) -> None: ...
    def said(self, host: Host, call: "Call", message: Any) -> None: ...


class Pipe:
    """One direction of a call."""

    def __init__(self, network: "Network", pair: tuple[str, str]) -> None:
        self.network = network
        self._pair = pair
        self._travelling: deque[tuple[tuple[bytes | End, ...], float]] = deque()
        """What arrives at one time, and when."""
        self._arrived: deque[bytes | End] = deque()
        self._ready = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self.end: End | None = None

    def send(self, item: bytes | End, *, may_stray: bool = False, may_double: bool = False) -> None:
        """`may_stray`: come twice, or after the next one. `may_double`: come twice, with nothing between the two."""
        if self.end is not None:
            return
        at = asyncio.get_running_loop().time() + self.network.latency_s()
        is_straying = self.network.is_straying()
        strays, doubles = may_stray and is_straying, may_double and is_straying
        copies = 2 if (strays or doubles) and self.network.rng.random() < 0.5 else 1
        self._travelling.extend([((item,) * copies, at)] if doubles else [((item,), at)] * copies)
        if strays and len(self._travelling) > 1 and not isinstance(self._travelling[-2][0][0], End):
            self._travelling[-1], self._travelling[-2] = self._travelling[-2], self._travelling[-1]
        self._set_timer()

    async def receive(self) -> bytes | End:
        while not self._arrived:
            if self.end is not None:
                return self.end
            self._ready.clear()
            await self._ready.wait()
        return self._arrived.popleft()

    def snap(self, end: End) -> None:
        """End now: what has not arrived never will."""
        if self.end is None:
            self.end = end
            self._travelling.clear()
            self._ready.set()

    def _set_timer(self) -> None:
        if self._timer is None and self._travelling:
            loop = asyncio.get_running_loop()
            at = max(self._travelling[0][1], self.network.healed_at(self._pair))
            self._timer = loop.call_at(max(at, loop.time()), self._deliver, context=NOBODY)

    def _deliver(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._travelling and max(self._travelling[0][1], self.network.healed_at(self._pair)) <= now:
            items, _ = self._travelling.popleft()
            self._arrived.extend(items)
            self._ready.set()
        self._set_timer()


class Call:
    """One RPC under way. To the client's code it is what the stub gives."""

    def __init__(self, network: "Network", caller: Process, address: str, path: str, options: dict[str, Any]) -> None:
        self.network = network
        self.caller = caller
        self.address = address
        self.path = path
        self._serialize: Callable[[Any], bytes] = options["request_serializer"]
        self._deserialize: Callable[[bytes], Any] = options["response_deserializer"]
        pair = (caller.machine, address)
        self.up, self.down = Pipe(network, pair), Pipe(network, pair)
        self.serving: asyncio.Task[None] | None = None
        self.host: Host | None = None
        self._arrive_at(asyncio.get_running_loop().time() + network.latency_s())

    async def write(self, message: Any) -> None:
        if self.down.end is not None:
            raise self.down.end.error()
        await self.caller.point("before send")
        self.up.send(self._serialize(message), may_stray=_may_stray(message))
        await self.caller.point("after send")

    async def read(self) -> Any:
        item = await self.down.receive()
        if not isinstance(item, End):
            return self._deserialize(item)
        self._end()
        if item.code is grpc.StatusCode.OK:
            return EOF
        raise item.error()

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not EOF:
            yield message

    def cancel(self) -> None:
        """The client goes; its other end learns of it later."""
        self.down.snap(End(grpc.StatusCode.CANCELLED))
        self._end()

    def tear(self) -> None:
        """The connection breaks: each end learns of it in its own time, and what is on the way may be lost."""
        loop, rng = asyncio.get_running_loop(), self.network.rng
        loop.call_later(rng.choice([0.0, 0.02, 2.0]), self.break_down, context=NOBODY)
        loop.call_later(rng.choice([0.0, 0.02, 2.0]), self.break_up, context=NOBODY)

    def break_down(self) -> None:
        """The client's end learns that the connection is no more."""
        self.down.snap(BROKEN)

    def break_up(self) -> None:
        """The other end does."""
        self.up.snap(BROKEN)
        self.network.calls.pop(self, None)
        if self.serving is not None:
            self.serving.cancel()

    def _end(self) -> None:
        if self in self.network.calls:
            asyncio.get_running_loop().call_later(self.network.latency_s(), self.break_up, context=NOBODY)

    def _arrive_at(self, at: float) -> None:
        loop = asyncio.get_running_loop()
        at = max(at, self.network.healed_at((self.caller.machine, self.address)))
        loop.call_at(at, self._arrive, at, context=NOBODY)

    def _arrive(self, at: float) -> None:
        healed_at = self.network.healed_at((self.caller.machine, self.address))
        if healed_at > at:
            self._arrive_at(healed_at)
            return
        host = self.host = self.network.hosts.get(self.address)
        if self.up.end is not None or host is None or host.process.is_dead:
            self.down.send(BROKEN)
            self.network.calls.pop(self, None)
            return
        self.serving = host.spawn(self._serve(host))

    async def _serve(self, host: Host) -> None:
        CALLER.set(Identity("local", Role.ADMIN, None))
        try:
            if self.path == HEALTH:
                self.down.send(host.find(self.path))
                return
            handler = host.find(self.path)
            context = Context(self, host, handler)
            if handler.stream_stream is not None:
                await handler.stream_stream(None, context)
            else:
                request = await context.read()
                if request is EOF:
                    return
                if handler.unary_stream is not None:
                    await handler.unary_stream(request, context)
                else:
                    await context.write(await handler.unary_unary(request, context))
            self.down.send(End())
        except AsterismError as error:
            status = to_rpc_status(error)
            self.down.send(End(status.code, status.details, status.trailing_metadata))
        except asyncio.CancelledError:
            # The client has gone, or this process is at its end.
            asyncio.get_running_loop().call_later(self.network.latency_s(), self.break_down, context=NOBODY)
            raise
        finally:
            self.network.calls.pop(self, None)
            self.up.snap(BROKEN)


class Context:
    """The call as a servicer sees it."""

    def __init__(self, call: Call, host: Host, handler: Any) -> None:
        self._call = call
        self._host = host
        self._handler = handler

    async def read(self) -> Any:
        item = await self._call.up.receive()
        if isinstance(item, End):
            return EOF
        message = self._handler.request_deserializer(item)
        self._call.network.listener.heard(self._host, self._call, message)
        return message

    async def write(self, message: Any) -> None:
        await self._host.process.point("before send")
        self._call.network.listener.said(self._host, self._call, message)
        data = self._handler.response_serializer(message)
        self._call.down.send(data, may_stray=_may_stray(message), may_double=_may_double(message))
        await self._host.process.point("after send")


class Channel:
    """What stubs are made of."""

    def __init__(self, network: "Network", caller: Process, address: str) -> None:
        self.network = network
        self._caller = caller
        self._address = address

    def unary_unary(self, path: str, **options: Any) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def ask(request: Any, timeout: float) -> Any:  # noqa: ASYNC109  # as the stubs have it
            call = self._open(path, options)
            try:
                async with asyncio.timeout(timeout):
                    await call.write(request)
                    if self.network.loses():
                        call.tear()
                    return await call.read()
            except TimeoutError:
                raise SILENT.error() from None
            finally:
                call.cancel()

        return ask

    def unary_stream(self, path: str, **options: Any) -> Callable[..., Call]:
        def ask(request: Any) -> Call:
            call = self._open(path, options)
            call.up.send(options["request_serializer"](request))
            return call

        return ask

    def stream_stream(self, path: str, **options: Any) -> Callable[[], Call]:
        return lambda: self._open(path, options)

    async def close(self, grace: float | None) -> None:
        """Each call is closed by whoever opened it."""

    def _open(self, path: str, options: dict[str, Any]) -> Call:
        call = Call(self.network, self._caller, self._address, path, options)
        self.network.calls[call] = None
        return call


class Network:
    """All connections, and what is wrong with them."""

    def __init__(self, rng: random.Random, listener: Listener) -> None:
        self.rng = rng
        self.listener = listener
        self.hosts: dict[str, Host] = {}
        self.calls: dict[Call, None] = {}
        self.slow_until = 0.0
        self.strays_until = 0.0
        self.loses_until = 0.0
        self._healed_at: dict[tuple[str, str], float] = {}

    def latency_s(self) -> float:
        now = asyncio.get_running_loop().time()
        return self.rng.uniform(0.2, 1.5) if now < self.slow_until else self.rng.uniform(0.0005, 0.01)

    def is_straying(self) -> bool:
        return asyncio.get_running_loop().time() < self.strays_until

    def loses(self) -> bool:
        """Whether an answer, or what asks for it, is to be lost."""
        return asyncio.get_running_loop().time() < self.loses_until and self.rng.random() < 0.5

    def healed_at(self, pair: tuple[str, str]) -> float:
        return self._healed_at.get(pair, 0.0)

    def partition(self, machine: str, address: str, seconds: float) -> None:
        """Nothing gets through between the two for a while; long silence breaks what is open, at either end."""
        loop = asyncio.get_running_loop()
        self._healed_at[machine, address] = loop.time() + seconds
        if seconds > KEEPALIVE_S:
            for call in self.between(machine, address):
                loop.call_later(KEEPALIVE_S + self.rng.random(), call.break_down, context=NOBODY)
                loop.call_later(KEEPALIVE_S + self.rng.random(), call.break_up, context=NOBODY)

    def heal(self) -> None:
        """From now on all is well."""
        self.slow_until = self.strays_until = self.loses_until = 0.0
        self._healed_at.clear()

    def between(self, machine: str, address: str) -> list[Call]:
        return [call for call in self.calls if (call.caller.machine, call.address) == (machine, address)]

    def forget(self, process: Process) -> None:
        """A client's process has died: its connections break."""
        for call in [call for call in self.calls if call.caller is process]:
            call.tear()


def _may_stray(message: Any) -> bool:
    """Whether the protocol bears the frame twice, or after the next one. A stream begins and ends with what it does."""
    match message:
        case worker_pb2.WorkerFrame():
            return not (message.HasField("hello") or message.proposed or message.goodbye or message.draining)
        case worker_pb2.OrchestratorFrame():
            apart = message.HasField("welcome") or message.assignments or message.edits_answers or message.going_away
            return not apart
        case _:
            return False


def _may_double(message: Any) -> bool:
    """Whether the protocol bears the frame twice. Not later on: then the worker may have forgotten what it has run."""
    if not isinstance(message, worker_pb2.OrchestratorFrame) or not message.assignments:
        return False
    return not (message.HasField("welcome") or message.edits_answers or message.going_away)
