"""What an operator sees and does of the fleet."""

from typing import Any

from asterism.orchestrator.clock import Clock
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.events import DrainRequested, LabelRequested
from asterism.orchestrator.core.ids import WorkerId, is_name
from asterism.orchestrator.core.state import Worker
from asterism.orchestrator.loop import Loop
from asterism.protocol.answers import Counters, WorkerStatus
from asterism.protocol.convert import counters_to_proto, worker_status_to_proto
from asterism.protocol.v1 import fleet_pb2, fleet_pb2_grpc


class FleetService(fleet_pb2_grpc.FleetServiceServicer):
    """Translates; the machine decides."""

    def __init__(self, loop: Loop, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock

    async def ListWorkers(self, request: fleet_pb2.ListWorkersRequest, context: Any) -> fleet_pb2.ListWorkersResponse:
        """The workers that are in the fleet, by name; one that has left is not."""
        workers = sorted(self._loop.machine.workers.values(), key=lambda worker: worker.id)
        return fleet_pb2.ListWorkersResponse(
            workers=[worker_status_to_proto(_status(worker)) for worker in workers if not worker.has_left]
        )

    async def DrainWorker(self, request: fleet_pb2.DrainWorkerRequest, context: Any) -> fleet_pb2.DrainWorkerResponse:
        """No new stars from now on, or again."""
        worker = _name(request.worker)
        await self._loop.ask(DrainRequested(self._clock.now(), worker, request.is_draining))
        return fleet_pb2.DrainWorkerResponse()

    async def LabelWorker(self, request: fleet_pb2.LabelWorkerRequest, context: Any) -> fleet_pb2.LabelWorkerResponse:
        """Set and take away labels; gives all that there are then."""
        worker = _name(request.worker)
        both = set(request.set) & set(request.remove)
        if both:
            raise InvalidField("remove", f"{min(both)!r} is to be set as well")
        labels = {**dict.fromkeys(request.remove), **request.set}
        await self._loop.ask(LabelRequested(self._clock.now(), worker, labels))
        return fleet_pb2.LabelWorkerResponse(labels=self._loop.machine.workers[worker].labels)

    async def GetCounters(self, request: fleet_pb2.GetCountersRequest, context: Any) -> fleet_pb2.GetCountersResponse:
        """As they stand now."""
        counts = self._loop.counts
        return counters_to_proto(
            Counters(counts.appends, counts.records, counts.frames_received, counts.frames_sent, counts.dropped)
        )


def _name(text: str) -> WorkerId:
    if not is_name(text):
        raise InvalidField("worker", f"{text!r} is not a worker's name")
    return WorkerId(text)


def _status(worker: Worker) -> WorkerStatus:
    return WorkerStatus(
        worker.id,
        worker.profile,
        worker.is_attached,
        worker.is_draining,
        len(worker.running),
        worker.labels,
        worker.last_seen_at,
    )
