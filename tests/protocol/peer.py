"""An orchestrator's protocol with a script behind it: what a client meets on the wire, without the machine."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from asterism.orchestrator.core.edits import AddStar
from asterism.orchestrator.core.errors import AsterismError
from asterism.orchestrator.core.events import Chunk
from asterism.orchestrator.core.ids import ConstellationId, StarId, WorkerId
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.records import (
    ConstellationEnded,
    ConstellationRecord,
    EditsApplied,
    RequestAccepted,
    StarFinished,
)
from asterism.orchestrator.core.request import Budget, ConstellationState, Request
from asterism.orchestrator.core.star import StarKind, StarSpec, StarState
from asterism.protocol.answers import Counters, Ending, StreamedText, WorkerStatus
from asterism.protocol.convert import (
    counters_to_proto,
    ending_to_proto,
    record_to_proto,
    streamed_text_to_proto,
    worker_status_to_proto,
)
from asterism.protocol.limits import SERVER_OPTIONS
from asterism.protocol.status import to_rpc_status
from asterism.protocol.v1 import client_pb2, client_pb2_grpc, fleet_pb2, fleet_pb2_grpc, types_pb2

CONSTELLATION = ConstellationId("c1")
STAR = StarId("a")
TEXT = StreamedText(STAR, 1, WorkerId("w1"), (Chunk("main", "hallo", 1),))
WORKER = WorkerStatus(WorkerId("w1"), WorkerProfile(2, tools=("add",)), True, False, 1, {"zone": "lab"}, 5.0)

ENDING = Ending(ConstellationState.FAILED, "star a: no (tool_error)", 2.0)
COUNTERS = Counters(1, 2, 3, 4, 5)


def story() -> list[ConstellationRecord]:
    """A whole constellation of one star."""
    spec = StarSpec(STAR, StarKind.TOOL, "add")
    return [
        RequestAccepted(3, 1.0, CONSTELLATION, "r", "local", Request("plan", "x"), Budget()),
        EditsApplied(4, 1.0, CONSTELLATION, 1, "policy", (AddStar(spec),)),
        StarFinished(7, 2.0, CONSTELLATION, STAR, StarState.SUCCEEDED, {"sum": 3}, None, None, None, False),
        ConstellationEnded(9, 2.0, CONSTELLATION, ConstellationState.SUCCEEDED, ""),
    ]


@dataclass
class Script:
    """What the peer does; it outlives the server, as a journal does."""

    journal: list[ConstellationRecord] = field(default_factory=story)
    watched_after: list[int] = field(default_factory=list)
    break_after: list[int] = field(default_factory=list)
    """For the next watches in turn: how many records to send before the stream breaks."""
    goes_quietly: bool = False
    """Whether a stream that breaks ends as if all were well."""
    replays_from: int | None = None
    """Send from this record on, whatever was asked for."""
    refuse: AsterismError | None = None
    authorization: list[str] = field(default_factory=list)
    submitted: list[client_pb2.SubmitRequest] = field(default_factory=list)
    ids: list[str] = field(default_factory=lambda: [f"c{number}" for number in range(1, 6)])
    hangs: bool = False
    stays_open: bool = False
    """A watch that begins now goes on without end after the journal's."""
    has_ended: bool = True


class Peer(client_pb2_grpc.ClientServiceServicer, fleet_pb2_grpc.FleetServiceServicer):
    """Does as the script says."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def _begin(self, context: Any) -> None:
        metadata = dict(context.invocation_metadata())
        self._script.authorization.append(metadata.get("authorization", ""))
        if self._script.hangs:
            await asyncio.Event().wait()
        if self._script.refuse is not None:
            status = to_rpc_status(self._script.refuse)
            await context.abort(status.code, status.details, status.trailing_metadata)

    async def Submit(self, request: client_pb2.SubmitRequest, context: Any) -> client_pb2.SubmitResponse:
        await self._begin(context)
        is_new = all(known.request_id != request.request_id for known in self._script.submitted)
        self._script.submitted.append(request)
        return client_pb2.SubmitResponse(constellation=CONSTELLATION, is_new=is_new)

    async def GetConstellation(
        self, request: client_pb2.GetConstellationRequest, context: Any
    ) -> types_pb2.Constellation:
        await self._begin(context)
        is_terminal = self._script.has_ended
        return types_pb2.Constellation(
            id=request.constellation,
            request_id="r",
            request=types_pb2.Request(form="plan"),
            budget=types_pb2.Budget(stars=1, attempts=1),
            state=types_pb2.CONSTELLATION_STATE_SUCCEEDED if is_terminal else types_pb2.CONSTELLATION_STATE_RUNNING,
            seq=self._script.journal[-1].seq,
        )

    async def Decide(self, request: client_pb2.DecideRequest, context: Any) -> client_pb2.DecideResponse:
        await self._begin(context)
        return client_pb2.DecideResponse(revision=1)

    async def Replan(self, request: client_pb2.ReplanRequest, context: Any) -> client_pb2.ReplanResponse:
        await self._begin(context)
        return client_pb2.ReplanResponse(revision=8)

    async def Pause(self, request: client_pb2.PauseRequest, context: Any) -> client_pb2.PauseResponse:
        await self._begin(context)
        return client_pb2.PauseResponse()

    async def ListConstellations(
        self, request: client_pb2.ListConstellationsRequest, context: Any
    ) -> client_pb2.ListConstellationsResponse:
        await self._begin(context)
        start = self._script.ids.index(request.page_token) if request.page_token else 0
        page = self._script.ids[start : start + request.page_size]
        rest = self._script.ids[start + request.page_size :]
        rows = [
            client_pb2.Summary(id=id_, request_id="r", form="plan", state=types_pb2.CONSTELLATION_STATE_RUNNING)
            for id_ in page
        ]
        return client_pb2.ListConstellationsResponse(constellations=rows, next_page_token=rest[0] if rest else "")

    async def Watch(self, request: client_pb2.WatchRequest, context: Any) -> None:  # type: ignore[override]  # writes by context
        await self._begin(context)
        script = self._script
        script.watched_after.append(request.after_seq)
        after = request.after_seq if script.replays_from is None else script.replays_from
        left = script.break_after.pop(0) if script.break_after else None
        stays_open = script.stays_open
        for record in [record for record in script.journal if record.seq > after][:left]:
            texts = [streamed_text_to_proto(TEXT)] if request.with_text and isinstance(record, EditsApplied) else []
            await context.write(client_pb2.WatchResponse(records=[record_to_proto(record)], texts=texts))
        if left is not None and not script.goes_quietly:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "broken on purpose")
        if stays_open:
            await asyncio.Event().wait()

    async def Wait(self, request: client_pb2.WaitRequest, context: Any) -> client_pb2.WaitResponse:
        await self._begin(context)
        if self._script.break_after and self._script.break_after.pop(0) == 0:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "broken on purpose")
        return ending_to_proto(ENDING)

    async def Edit(self, request: client_pb2.EditRequest, context: Any) -> client_pb2.EditResponse:
        await self._begin(context)
        return client_pb2.EditResponse(revision=len(request.batch.edits) + 1)

    async def Cancel(self, request: client_pb2.CancelRequest, context: Any) -> client_pb2.CancelResponse:
        await self._begin(context)
        return client_pb2.CancelResponse()

    async def Retry(self, request: client_pb2.RetryRequest, context: Any) -> client_pb2.RetryResponse:
        await self._begin(context)
        return client_pb2.RetryResponse(revision=8)

    async def ListWorkers(self, request: fleet_pb2.ListWorkersRequest, context: Any) -> fleet_pb2.ListWorkersResponse:
        await self._begin(context)
        return fleet_pb2.ListWorkersResponse(workers=[worker_status_to_proto(WORKER)])

    async def DrainWorker(self, request: fleet_pb2.DrainWorkerRequest, context: Any) -> fleet_pb2.DrainWorkerResponse:
        await self._begin(context)
        return fleet_pb2.DrainWorkerResponse()

    async def LabelWorker(self, request: fleet_pb2.LabelWorkerRequest, context: Any) -> fleet_pb2.LabelWorkerResponse:
        await self._begin(context)
        labels = {"zone": "lab", **request.set}
        return fleet_pb2.LabelWorkerResponse(labels={k: v for k, v in labels.items() if k not in request.remove})

    async def GetCounters(self, request: fleet_pb2.GetCountersRequest, context: Any) -> fleet_pb2.GetCountersResponse:
        await self._begin(context)
        return counters_to_proto(COUNTERS)


@asynccontextmanager
async def serving(
    script: Script, *, port: int = 0, tls: tuple[bytes, bytes] | None = None, handlers: Sequence[Any] = ()
) -> AsyncIterator[int]:
    """A server on loopback that follows the script; gives its port. `tls`: private key and chain, PEM."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    peer = Peer(script)
    client_pb2_grpc.add_ClientServiceServicer_to_server(peer, server)
    fleet_pb2_grpc.add_FleetServiceServicer_to_server(peer, server)
    server.add_generic_rpc_handlers(tuple(handlers))
    address = f"127.0.0.1:{port}"
    if tls is None:
        bound = server.add_insecure_port(address)
    else:
        bound = server.add_secure_port(address, grpc.ssl_server_credentials([tls]))
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(None)
