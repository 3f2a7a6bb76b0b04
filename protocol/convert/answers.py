"""Streamed text, endings, the state of workers and what an orchestrator counts, both ways."""

from asterism.orchestrator.core.effects import Broadcast
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import WorkerId
from asterism.protocol.answers import Counters, Ending, StreamedText, WorkerStatus
from asterism.protocol.convert import checks
from asterism.protocol.convert.constellation import constellation_state_from_proto, constellation_state_to_proto
from asterism.protocol.convert.star import star_id
from asterism.protocol.convert.worker import (
    chunk_from_proto,
    chunk_to_proto,
    worker_profile_from_proto,
    worker_profile_to_proto,
)
from asterism.protocol.v1 import client_pb2, fleet_pb2


def streamed_text_to_proto(streamed: StreamedText | Broadcast) -> client_pb2.StreamedText:
    """A broadcast's constellation is the one that is watched."""
    return client_pb2.StreamedText(
        star=streamed.star,
        attempt=streamed.attempt,
        worker=streamed.worker,
        chunks=[chunk_to_proto(chunk) for chunk in streamed.chunks],
    )


def streamed_text_from_proto(proto: client_pb2.StreamedText, at: str = "text") -> StreamedText:
    """Field by field."""
    return StreamedText(
        star_id(proto.star, f"{at}.star"),
        checks.integer(proto.attempt, f"{at}.attempt", 1),
        WorkerId(checks.name(proto.worker, f"{at}.worker")),
        tuple(chunk_from_proto(chunk, f"{at}.chunks[{index}]") for index, chunk in enumerate(proto.chunks)),
    )


def worker_status_to_proto(status: WorkerStatus) -> fleet_pb2.Worker:
    """Field by field."""
    return fleet_pb2.Worker(
        id=status.id,
        profile=worker_profile_to_proto(status.profile),
        is_attached=status.is_attached,
        is_draining=status.is_draining,
        slots_held=status.slots_held,
        labels=status.labels,
        last_seen_at=status.last_seen_at,
    )


def worker_status_from_proto(proto: fleet_pb2.Worker, at: str = "worker") -> WorkerStatus:
    """Field by field."""
    return WorkerStatus(
        WorkerId(checks.name(proto.id, f"{at}.id")),
        worker_profile_from_proto(proto.profile, f"{at}.profile"),
        proto.is_attached,
        proto.is_draining,
        proto.slots_held,
        checks.labels(proto.labels, f"{at}.labels"),
        checks.number(proto.last_seen_at, f"{at}.last_seen_at"),
    )


def ending_to_proto(ending: Ending) -> client_pb2.WaitResponse:
    """Field by field."""
    state = constellation_state_to_proto(ending.state)
    return client_pb2.WaitResponse(state=state, reason=checks.clipped(ending.reason), ended_at=ending.ended_at)


def ending_from_proto(proto: client_pb2.WaitResponse, at: str = "ending") -> Ending:
    """Refuses a state that is no end."""
    state = constellation_state_from_proto(proto.state, f"{at}.state")
    if not state.is_terminal:
        raise InvalidField(f"{at}.state", f"{state.value} is not terminal")
    reason = checks.text(proto.reason, f"{at}.reason", checks.MAX_REASON)
    return Ending(state, reason, checks.number(proto.ended_at, f"{at}.ended_at"))


def counters_to_proto(counters: Counters) -> fleet_pb2.GetCountersResponse:
    """Field by field."""
    return fleet_pb2.GetCountersResponse(
        appends=counters.appends,
        records=counters.records,
        frames_received=counters.frames_received,
        frames_sent=counters.frames_sent,
        dropped=counters.dropped,
    )


def counters_from_proto(proto: fleet_pb2.GetCountersResponse) -> Counters:
    """Field by field."""
    return Counters(proto.appends, proto.records, proto.frames_received, proto.frames_sent, proto.dropped)
