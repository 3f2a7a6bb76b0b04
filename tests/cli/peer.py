"""A scripted orchestrator on loopback: it tells the story of `stories.py` to whoever asks, over real gRPC."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NoReturn

import grpc.aio

from asterism.orchestrator.core.constellation import Pause
from asterism.orchestrator.core.errors import AsterismError, InvalidField, NotFound
from asterism.orchestrator.core.events import Chunk
from asterism.orchestrator.core.ids import StarId, WorkerId
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.records import ConstellationEnded, ConstellationRecord
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.snapshot import Summary
from asterism.protocol.answers import StreamedText, WorkerStatus
from asterism.protocol.convert import (
    constellation_to_proto,
    record_to_proto,
    streamed_text_to_proto,
    summary_to_proto,
    worker_status_to_proto,
)
from asterism.protocol.status import to_rpc_status
from asterism.protocol.v1 import client_pb2, client_pb2_grpc, fleet_pb2, fleet_pb2_grpc, types_pb2
from tests.cli.stories import ID, START, constellation, story

Context = grpc.aio.ServicerContext[object, object]


@dataclass
class Peer(client_pb2_grpc.ClientServiceServicer, fleet_pb2_grpc.FleetServiceServicer):
    """The story's request has ended; one that is submitted as `slow` runs until it is cancelled, and then ends so."""

    address: str = ""
    submitted: list[client_pb2.SubmitRequest] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    decided: list[tuple[str, bool, str, str]] = field(default_factory=list)
    paused: list[tuple[bool, str]] = field(default_factory=list)
    replanned: list[str] = field(default_factory=list)
    labelled: list[tuple[dict[str, str], list[str]]] = field(default_factory=list)
    drained: list[tuple[str, bool]] = field(default_factory=list)
    pause: Pause | None = None
    is_stubborn: bool = False
    """Whether a cancelled request does not end."""
    is_watched: asyncio.Event = field(default_factory=asyncio.Event)
    _is_cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def _is_slow(self) -> bool:
        return any(request.request.text == "slow" for request in self.submitted)

    def _story(self) -> tuple[ConstellationRecord, ...]:
        if not self._is_slow:
            return tuple(story())
        end = ConstellationEnded(17, START + 9, ID, ConstellationState.CANCELLED, "interrupted by its user")
        return (*story()[:7], *([end] if self._is_cancelled.is_set() and not self.is_stubborn else []))

    async def Submit(self, request: client_pb2.SubmitRequest, context: Context) -> client_pb2.SubmitResponse:
        if request.request.text == "bad":
            await _refuse(context, InvalidField("request.text", "line 1, column 1: I do not understand 'bad'"))
        self.submitted.append(request)
        return client_pb2.SubmitResponse(constellation=ID, is_new=True)

    async def GetConstellation(
        self, request: client_pb2.GetConstellationRequest, context: Context
    ) -> types_pb2.Constellation:
        if request.constellation != ID:
            await _refuse(context, NotFound("constellation", request.constellation))
        of = constellation(7 if self._is_slow else 16)
        if self._is_slow and self._is_cancelled.is_set():
            of.state, of.reason = ConstellationState.CANCELLED, "interrupted by its user"
        of.pause = self.pause
        waits = {StarId("report"): "its parents b01-a, b01-b"} if self._is_slow else {}
        return constellation_to_proto(of, waits, self._story()[-1].seq)

    async def ListConstellations(
        self, request: client_pb2.ListConstellationsRequest, context: Context
    ) -> client_pb2.ListConstellationsResponse:
        row = Summary(
            ID, "r1", "local", "boards.txt", "boards", START, ConstellationState.SUCCEEDED, "", START + 2.8, 3, 4, 4
        )
        return client_pb2.ListConstellationsResponse(constellations=[summary_to_proto(row)])

    async def Watch(
        self, request: client_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[client_pb2.WatchResponse]:
        self.is_watched.set()
        text = StreamedText(StarId("b01-b"), 1, WorkerId("w2"), (Chunk("t1", "1 + 2 = 3", 5),))
        for record in self._story():
            if record.seq > request.after_seq:
                yield client_pb2.WatchResponse(records=[record_to_proto(record)])
            if record.seq == 7 and request.with_text:
                yield client_pb2.WatchResponse(texts=[streamed_text_to_proto(text)])
        if self._is_slow and not self._is_cancelled.is_set():
            await self._is_cancelled.wait()
            if self.is_stubborn:
                await asyncio.Event().wait()
            yield client_pb2.WatchResponse(records=[record_to_proto(self._story()[-1])])

    async def Edit(self, request: client_pb2.EditRequest, context: Context) -> client_pb2.EditResponse:
        await _refuse(context, InvalidField("batch", "this story is not edited"))

    async def Cancel(self, request: client_pb2.CancelRequest, context: Context) -> client_pb2.CancelResponse:
        self.cancelled.append(request.reason)
        self._is_cancelled.set()
        return client_pb2.CancelResponse()

    async def Retry(self, request: client_pb2.RetryRequest, context: Context) -> client_pb2.RetryResponse:
        return client_pb2.RetryResponse(revision=4)

    async def Decide(self, request: client_pb2.DecideRequest, context: Context) -> client_pb2.DecideResponse:
        self.decided.append((request.star, request.is_approved, request.reason, request.value_json))
        return client_pb2.DecideResponse(revision=4)

    async def Replan(self, request: client_pb2.ReplanRequest, context: Context) -> client_pb2.ReplanResponse:
        self.replanned.append(request.why)
        return client_pb2.ReplanResponse(revision=8)

    async def Pause(self, request: client_pb2.PauseRequest, context: Context) -> client_pb2.PauseResponse:
        self.paused.append((request.is_paused, request.reason))
        return client_pb2.PauseResponse()

    async def Wait(self, request: client_pb2.WaitRequest, context: Context) -> client_pb2.WaitResponse:
        return client_pb2.WaitResponse(state=types_pb2.CONSTELLATION_STATE_SUCCEEDED)

    async def GetCounters(
        self, request: fleet_pb2.GetCountersRequest, context: Context
    ) -> fleet_pb2.GetCountersResponse:
        return fleet_pb2.GetCountersResponse()

    async def ListWorkers(
        self, request: fleet_pb2.ListWorkersRequest, context: Context
    ) -> fleet_pb2.ListWorkersResponse:
        profile = WorkerProfile(slots=2, cores=4, memory_bytes=8 * 1024**3, models=("countdown",), version="0.1.0")
        status = WorkerStatus(WorkerId("w1"), profile, True, False, 1, {"zone": "lab"}, START)
        return fleet_pb2.ListWorkersResponse(workers=[worker_status_to_proto(status)])

    async def DrainWorker(
        self, request: fleet_pb2.DrainWorkerRequest, context: Context
    ) -> fleet_pb2.DrainWorkerResponse:
        self.drained.append((request.worker, request.is_draining))
        return fleet_pb2.DrainWorkerResponse()

    async def LabelWorker(
        self, request: fleet_pb2.LabelWorkerRequest, context: Context
    ) -> fleet_pb2.LabelWorkerResponse:
        self.labelled.append((dict(request.set), list(request.remove)))
        return fleet_pb2.LabelWorkerResponse(labels=request.set)


async def _refuse(context: Context, error: AsterismError) -> NoReturn:
    status = to_rpc_status(error)
    await context.abort(status.code, status.details, status.trailing_metadata)


@asynccontextmanager
async def serving(peer: Peer, address: str = "127.0.0.1:0") -> AsyncIterator[Peer]:
    """Serves on loopback: on a free port, or on that of an earlier time."""
    server = grpc.aio.server()
    client_pb2_grpc.add_ClientServiceServicer_to_server(peer, server)
    fleet_pb2_grpc.add_FleetServiceServicer_to_server(peer, server)
    peer.address = f"127.0.0.1:{server.add_insecure_port(address)}"
    await server.start()
    try:
        yield peer
    finally:
        await server.stop(None)
