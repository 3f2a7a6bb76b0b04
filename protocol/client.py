"""The client library: what a program needs to submit requests, watch them and change them."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self, TypeAlias, TypeVar

import grpc
import grpc.aio

from asterism.orchestrator.core.edits import EditBatch
from asterism.orchestrator.core.errors import (
    AsterismError,
    DataLoss,
    InvalidField,
    NotLeading,
    Overloaded,
    Unreachable,
    WrongState,
)
from asterism.orchestrator.core.ids import ConstellationId, StarId, WorkerId
from asterism.orchestrator.core.records import ConstellationEnded, ConstellationRecord, EditsApplied
from asterism.orchestrator.core.request import Budget, ConstellationState, Request
from asterism.orchestrator.core.snapshot import Summary
from asterism.orchestrator.core.star import StarInput
from asterism.orchestrator.core.values import Json
from asterism.protocol.answers import Counters, Ending, Picture, StreamedText, Submitted, WorkerStatus
from asterism.protocol.channel import open_channel
from asterism.protocol.convert import (
    budget_to_proto,
    constellation_from_proto,
    constellation_id,
    constellation_state_to_proto,
    counters_from_proto,
    ending_from_proto,
    json_from_text,
    optional_json_to_text,
    record_from_proto,
    request_to_proto,
    star_inputs_to_proto,
    streamed_text_from_proto,
    summary_from_proto,
    worker_status_from_proto,
    write_edit_batch,
)
from asterism.protocol.convert.checks import MAX_GROWTH
from asterism.protocol.credentials import Credential
from asterism.protocol.downloads import Download, begin_download
from asterism.protocol.patience import Patience, TroubleListener
from asterism.protocol.patience import delay_s as pause
from asterism.protocol.routes import Routes
from asterism.protocol.settings import DEFAULT_ADDRESS, ClientSettings
from asterism.protocol.status import from_rpc_error
from asterism.protocol.v1 import client_pb2, client_pb2_grpc, fleet_pb2, fleet_pb2_grpc

DEADLINE_S: Final = 10.0
"""For every call that is answered once."""
PATIENCE_S: Final = 60.0
"""How long a watch goes on trying after its connection has broken."""

Watched: TypeAlias = ConstellationRecord | StreamedText
P = TypeVar("P")
T = TypeVar("T")


class AsyncClient:
    """A connection to an orchestrator; use it as an async context manager.

    Every method raises leaves of AsterismError only, each of which says what to do next; `Unreachable` means that
    nobody answered in time, and that what was asked for may or may not have been done.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        credential: Credential | str | None = None,
        ca_file: Path | None = None,
        *,
        deadline_s: float = DEADLINE_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`address` is HOST:PORT, or several of orchestrators on one store: the one that leads is found and followed.

        `credential` is a text that `asterism token create` printed; `channel.py` says when TLS is used.

        `deadline_s` bounds every call that is answered once, `patience_s` how long `watch` goes on trying to reconnect.
        """
        self._routes = Routes(address)
        self._credential = credential
        self._ca_file = ca_file
        self._deadline_s = deadline_s
        self._patience_s = patience_s
        self._channels: dict[str, grpc.aio.Channel] | None = None
        """By address: a watch may still use one that others have left."""

    @classmethod
    def from_settings(cls, settings: ClientSettings) -> Self:
        """A client of the orchestrator that the user's settings name."""
        token = None if settings.token is None else settings.token.value
        return cls(settings.address.value, token, settings.ca_path)

    async def __aenter__(self) -> Self:
        """Open the channel; only where a certificate is to be compared does this speak to the server already."""
        self._channels = {}
        if not self._routes.are_several:
            await self._channel(self.address)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the channels and end what still runs on them."""
        channels, self._channels = self._channels, None
        for channel in (channels or {}).values():
            await channel.close(None)

    @property
    def address(self) -> str:
        """HOST:PORT of the orchestrator that is spoken to now."""
        return self._routes.current

    async def submit(self, request: Request, request_id: str | None = None, budget: Budget | None = None) -> Submitted:
        """Submit a request; when this returns it is on the orchestrator's disk.

        Choose `request_id` (1 to 128 characters) to be able to submit again after `Unreachable`: the same request
        under the same id is accepted once. No budget means the orchestrator's default.
        """
        message = client_pb2.SubmitRequest(
            request_id=uuid.uuid4().hex if request_id is None else request_id,
            request=request_to_proto(request),
            budget=None if budget is None else budget_to_proto(budget),
        )
        answer = await self._ask(lambda channel: _clients(channel).Submit(message, timeout=self._try_s))
        return Submitted(self._read(constellation_id, answer.constellation), answer.is_new)

    async def get(self, constellation: ConstellationId) -> Picture:
        """The whole graph as it stands, and what each star that waits is waiting for."""
        message = client_pb2.GetConstellationRequest(constellation=constellation)
        answer = await self._ask(lambda channel: _clients(channel).GetConstellation(message, timeout=self._try_s))
        return Picture(*self._read(constellation_from_proto, answer))

    async def list(self, states: Collection[ConstellationState] = (), page_size: int = 50) -> AsyncIterator[Summary]:
        """Your requests, newest first, in the given states (none given: all); pages are fetched as they are needed."""
        message = client_pb2.ListConstellationsRequest(
            page_size=page_size, states=[constellation_state_to_proto(state) for state in states]
        )
        while True:
            answer = await self._ask(lambda channel: _clients(channel).ListConstellations(message, timeout=self._try_s))
            for row in answer.constellations:
                yield self._read(summary_from_proto, row)
            if not answer.next_page_token:
                return
            message.page_token = answer.next_page_token

    async def watch(
        self,
        constellation: ConstellationId,
        after_seq: int = 0,
        with_text: bool = True,
        listener: TroubleListener | None = None,
    ) -> AsyncGenerator[Watched, None]:
        """Every record after `after_seq`, in order, without gap or repeat, until the constellation has ended.

        A broken connection is opened again, and the stream goes on after the last record that was given; after
        `patience_s` without an orchestrator it raises Unreachable. With `with_text`, text that running stars stream
        comes in between; what was streamed while the connection was broken is not seen. `listener` hears of a broken
        connection once, and that it is back.
        """
        seq = after_seq
        has_ended = False
        patience = Patience(self._patience_s, listener)
        while True:
            asked = self.address
            trouble: AsterismError
            try:
                async with patience.trying(), aclosing(self._watch_once(asked, constellation, seq, with_text)) as items:
                    async for item in items:
                        patience.restore()
                        if not isinstance(item, StreamedText):
                            if item.seq <= seq:
                                continue
                            seq = item.seq
                            has_ended = _ends(item, has_ended)
                        yield item
                if has_ended or await self._has_ended(constellation, seq):
                    return
                trouble = Unreachable(self.address, "the stream ended before the constellation did")
            except (Unreachable, NotLeading, Overloaded) as error:
                trouble = error
                if not isinstance(error, Overloaded):
                    self._routes.after(asked, error)
            await patience.spend(trouble)

    async def wait(self, constellation: ConstellationId) -> Ending:
        """Return when the constellation has ended, over broken connections too: cheaper than to watch it.

        After `patience_s` without an orchestrator it raises Unreachable.
        """
        message = client_pb2.WaitRequest(constellation=constellation)
        patience = Patience(self._patience_s)
        while True:
            asked = self.address
            trouble: AsterismError
            try:
                async with patience.trying():
                    return self._read(ending_from_proto, await _clients(await self._channel(asked)).Wait(message))
            except grpc.aio.AioRpcError as error:
                trouble = from_rpc_error(error, asked)
            except (Unreachable, NotLeading) as error:
                trouble = error
            if not isinstance(trouble, Unreachable | NotLeading | Overloaded):
                raise trouble
            if not isinstance(trouble, Overloaded):
                self._routes.after(asked, trouble)
            await patience.spend(trouble)

    async def artifact_parts(self, constellation: ConstellationId, star: StarId) -> AsyncGenerator[bytes, None]:
        """The JSON text of a star's result that is an artifact, in UTF-8, piece by piece.

        Raises DataLoss before the last piece where they are not what the artifact names: use nothing before the end.
        """
        download = await self._ask(lambda channel: self._begin_download(channel, constellation, star))
        try:
            async with aclosing(download.parts()) as parts:
                async for part in parts:
                    yield part
        finally:
            download.cancel()

    async def artifact_value(self, constellation: ConstellationId, star: StarId) -> Json:
        """The value of a star's result that is an artifact."""
        text = b"".join([part async for part in self.artifact_parts(constellation, star)])
        try:
            return await asyncio.to_thread(lambda: json_from_text(text.decode(), "result", len(text) * MAX_GROWTH))
        except (UnicodeDecodeError, InvalidField) as error:
            raise DataLoss("result", star, f"it is not JSON: {error}") from error

    async def _begin_download(
        self, channel: grpc.aio.Channel, constellation: ConstellationId, star: StarId
    ) -> Download:
        return await begin_download(channel, constellation, star, self.address, self._try_s)

    async def edit(self, constellation: ConstellationId, batch: EditBatch, reason: str = "") -> int:
        """Apply a batch of edits whole and give the new revision; StaleRevision or InvalidEdit say why it was not."""
        message = client_pb2.EditRequest(constellation=constellation, reason=reason)
        write_edit_batch(batch, message.batch)
        return (
            await self._ask(lambda channel: _clients(channel).Edit(message, timeout=self._try_s), is_repeatable=False)
        ).revision

    async def cancel(self, constellation: ConstellationId, reason: str = "") -> None:
        """End a request; harmless when it has ended already."""
        message = client_pb2.CancelRequest(constellation=constellation, reason=reason)
        await self._ask(lambda channel: _clients(channel).Cancel(message, timeout=self._try_s))

    async def retry(
        self,
        constellation: ConstellationId,
        stars: Sequence[StarId] = (),
        rebinds: Mapping[StarId, Mapping[str, StarInput]] = MappingProxyType({}),
    ) -> int:
        """Run what failed or was cancelled again, or `stars`, as new stars beside the old ones; gives the new revision.

        Some of `stars` may get other inputs. What depends on them runs again where its inputs have changed.
        """
        message = client_pb2.RetryRequest(constellation=constellation, stars=stars)
        for star, inputs in rebinds.items():
            message.rebinds.add(star=star, inputs=star_inputs_to_proto(inputs, f"rebinds[{star}]"))
        return (
            await self._ask(lambda channel: _clients(channel).Retry(message, timeout=self._try_s), is_repeatable=False)
        ).revision

    async def decide(
        self, constellation: ConstellationId, star: StarId, *, approve: bool, reason: str = "", value: Json = None
    ) -> None:
        """Answer a star that waits for a person; `value` goes with a yes. Another answer than before is refused."""
        message = client_pb2.DecideRequest(
            constellation=constellation,
            star=star,
            is_approved=approve,
            reason=reason,
            value_json=optional_json_to_text(value, "value"),
        )
        await self._ask(lambda channel: _clients(channel).Decide(message, timeout=self._try_s))

    async def replan(self, constellation: ConstellationId, why: str) -> int:
        """Have a model rewrite the graph, because of `why`; gives the revision with the star that asks it."""
        message = client_pb2.ReplanRequest(constellation=constellation, why=why)
        return (
            await self._ask(lambda channel: _clients(channel).Replan(message, timeout=self._try_s), is_repeatable=False)
        ).revision

    async def pause(self, constellation: ConstellationId, reason: str = "", *, is_paused: bool = True) -> None:
        """Hold a request back, or (False) let it go on; what runs goes on either way."""
        message = client_pb2.PauseRequest(constellation=constellation, is_paused=is_paused, reason=reason)
        await self._ask(lambda channel: _clients(channel).Pause(message, timeout=self._try_s))

    async def workers(self) -> tuple[WorkerStatus, ...]:
        """The fleet, by name."""
        answer = await self._ask(
            lambda channel: _fleet(channel).ListWorkers(fleet_pb2.ListWorkersRequest(), timeout=self._try_s)
        )
        return tuple(self._read(worker_status_from_proto, worker) for worker in answer.workers)

    async def drain(self, worker: WorkerId, *, is_draining: bool = True) -> None:
        """Give a worker no new stars, or (False) give it some again; what runs there goes on. For admins."""
        message = fleet_pb2.DrainWorkerRequest(worker=worker, is_draining=is_draining)
        await self._ask(lambda channel: _fleet(channel).DrainWorker(message, timeout=self._try_s))

    async def label(
        self, worker: WorkerId, set_labels: Mapping[str, str] | None = None, remove: Collection[str] = ()
    ) -> Mapping[str, str]:
        """Set and take away an operator's labels of a worker, and give all that it has then. For admins."""
        message = fleet_pb2.LabelWorkerRequest(worker=worker, set=set_labels or {}, remove=remove)
        return dict((await self._ask(lambda channel: _fleet(channel).LabelWorker(message, timeout=self._try_s))).labels)

    async def counters(self) -> Counters:
        """What the orchestrator has done since it started. For admins."""
        message = fleet_pb2.GetCountersRequest()
        answer = await self._ask(lambda channel: _fleet(channel).GetCounters(message, timeout=self._try_s))
        return counters_from_proto(answer)

    async def health(self) -> bool:
        """Whether the orchestrator says that it serves; needs no credential."""

        return await self._ask(lambda channel: _check_health(channel, "", self._try_s))

    async def _find_serving(self, channel: grpc.aio.Channel) -> None:
        """Raise NotLeading where the other end lives and serves no clients."""
        if not await _check_health(channel, _CLIENT_SERVICE, self._try_s):
            raise NotLeading("")

    async def _channel(self, address: str) -> grpc.aio.Channel:
        """The one to an address, opened when it is first asked for."""
        if self._channels is None:
            raise WrongState("client", address, "not open", "use it as `async with AsyncClient(...) as client`")
        channel = self._channels.get(address)
        if channel is None:
            opened = await open_channel(address, self._credential, self._ca_file)
            channel = self._channels.setdefault(address, opened)
            if channel is not opened:
                await opened.close(None)
        return channel

    @property
    def _try_s(self) -> float:
        """Of one try: where there is another orchestrator to ask, one that is silent must leave time for it."""
        return self._deadline_s / 3 if self._routes.are_several else self._deadline_s

    async def _ask(self, call: Callable[[grpc.aio.Channel], Awaitable[T]], *, is_repeatable: bool = True) -> T:
        """The answer of a call that is answered once, or a leaf; one that stands by is left for the one that leads.

        `is_repeatable`: whether it may be asked for again where nobody knows if it was done.
        """
        if self._routes.are_several and not is_repeatable:
            # There is no second try, so that the first one had better be where it can be done.
            await self._ask(self._find_serving)
        clock = asyncio.get_running_loop().time
        until = clock() + self._deadline_s
        failures = 0
        while True:
            asked = self.address
            trouble: AsterismError
            try:
                return await call(await self._channel(asked))
            except grpc.aio.AioRpcError as error:
                trouble = from_rpc_error(error, asked)
            except (Unreachable, NotLeading) as error:
                trouble = error
            if not isinstance(trouble, NotLeading | Unreachable):
                raise trouble
            self._routes.after(asked, trouble)
            if isinstance(trouble, Unreachable) and not (is_repeatable and self._routes.are_several):
                raise trouble
            delay_s = pause(failures, trouble)
            failures += 1
            if clock() + delay_s > until:
                raise trouble
            await asyncio.sleep(delay_s)

    def _read(self, convert: Callable[[P], T], proto: P) -> T:
        """What a part of an answer says. The caller cannot mend a bad field of it, so that is no InvalidField here."""
        try:
            return convert(proto)
        except InvalidField as error:
            raise Unreachable(self.address, f"its answer cannot be read: {error.message}") from error

    async def _watch_once(
        self, asked: str, constellation: ConstellationId, after_seq: int, with_text: bool
    ) -> AsyncGenerator[Watched, None]:
        """One stream, until it ends or breaks."""
        message = client_pb2.WatchRequest(constellation=constellation, after_seq=after_seq, with_text=with_text)
        call = _clients(await self._channel(asked)).Watch(message)
        try:
            async for response in call:
                for record in response.records:
                    yield self._read(record_from_proto, record)
                for text in response.texts:
                    yield self._read(streamed_text_from_proto, text)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, asked) from None
        finally:
            call.cancel()

    async def _has_ended(self, constellation: ConstellationId, seq: int) -> bool:
        """Whether it has ended and `seq` is its last record: a stream may also end because the orchestrator leaves."""
        found = (await self.get(constellation)).constellation
        return found.state.is_terminal and found.seq <= seq


async def _check_health(channel: grpc.aio.Channel, service: str, timeout_s: float) -> bool:
    """Whether a service says that it serves; "" is the server as a whole.

    By hand, because the health package is no dependency of a client: a request of one text, and an answer of one enum.
    """
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
        "/grpc.health.v1.Health/Check", request_serializer=bytes, response_deserializer=bytes
    )
    name = service.encode()
    return await call(b"\x0a" + bytes([len(name)]) + name if name else b"", timeout=timeout_s) == _SERVING


def _clients(channel: grpc.aio.Channel) -> "client_pb2_grpc.ClientServiceAsyncStub":
    return client_pb2_grpc.ClientServiceStub(channel)


def _fleet(channel: grpc.aio.Channel) -> "fleet_pb2_grpc.FleetServiceAsyncStub":
    return fleet_pb2_grpc.FleetServiceStub(channel)


_CLIENT_SERVICE: Final = client_pb2.DESCRIPTOR.services_by_name["ClientService"].full_name
_SERVING: Final = b"\x08\x01"
"""HealthCheckResponse with status SERVING."""


def _ends(record: ConstellationRecord, had_ended: bool) -> bool:
    """Whether the constellation has ended with this record; an edit leads back."""
    match record:
        case ConstellationEnded():
            return True
        case EditsApplied():
            return False
        case _:
            return had_ended
