"""Frames of the worker's stream to and from plain values; the protocol's types stop here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from asterism.orchestrator.core.effects import AnswerEdits, Assign, InputText, InputValue
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import FencingToken, WorkerId
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.values import MAX_ARTIFACT_BYTES
from asterism.protocol.convert import (
    answer_edits_from_proto,
    artifact_to_proto,
    assign_from_proto,
    chunk_to_proto,
    edit_batch_to_proto,
    hello_to_proto,
    input_part_from_proto,
    star_error_to_proto,
)
from asterism.protocol.v1 import types_pb2, worker_pb2
from asterism.workers.reports import Failed, Outgoing, Report, Stopped, Succeeded, describe_error


@dataclass(frozen=True, slots=True)
class Welcome:
    """The orchestrator's first words: who we are to it, how long a silence it bears, how large a frame."""

    worker: WorkerId
    lease_s: float
    max_frame_bytes: int
    max_artifact_bytes: int = MAX_ARTIFACT_BYTES


@dataclass(frozen=True, slots=True)
class Incoming:
    """All that one frame brought, in the order in which it is to be taken."""

    welcome: Welcome | None
    assignments: tuple[Assign | Failed, ...]
    """An assignment that cannot be read comes as the report to answer it with."""
    stops: tuple[FencingToken, ...]
    acknowledged: tuple[FencingToken, ...]
    answers: tuple[AnswerEdits, ...]
    inputs: tuple[InputText | InputValue, ...]
    """Of attempts that run, or that begin with this frame."""
    is_going_away: bool


def frame_to_proto(outgoing: Outgoing) -> worker_pb2.WorkerFrame:
    """A frame of everything in `outgoing`."""
    return worker_pb2.WorkerFrame(
        progress=[
            worker_pb2.Progress(fencing_token=token, chunks=[chunk_to_proto(chunk) for chunk in chunks])
            for token, chunks in outgoing.progress
        ],
        proposed=[
            worker_pb2.ProposedEdits(
                fencing_token=proposal.fencing_token,
                proposal=proposal.number,
                batch=edit_batch_to_proto(proposal.batch),
            )
            for proposal in outgoing.proposals
        ],
        finished=[_report_to_proto(report) for report in outgoing.reports],
        goodbye=outgoing.is_goodbye,
        draining=outgoing.is_draining,
    )


def hello_frame(
    worker: WorkerId, instance: str, profile: WorkerProfile, held: Sequence[FencingToken]
) -> worker_pb2.WorkerFrame:
    """The first frame of a stream."""
    return worker_pb2.WorkerFrame(hello=hello_to_proto(worker, instance, profile, held))


def frame_from_proto(proto: worker_pb2.OrchestratorFrame, worker: WorkerId) -> Incoming:
    """What a frame says. Raises InvalidField for an answer that cannot be read."""
    welcome = None
    if proto.HasField("welcome"):
        said = proto.welcome
        longest = said.max_artifact_bytes or MAX_ARTIFACT_BYTES
        welcome = Welcome(WorkerId(said.worker), said.lease_s, said.max_frame_bytes, longest)
    return Incoming(
        welcome,
        tuple(_read_assignment(assignment, worker) for assignment in proto.assignments),
        tuple(FencingToken(stop.fencing_token) for stop in proto.stops),
        tuple(FencingToken(token) for token in proto.acknowledged),
        tuple(answer_edits_from_proto(answer, worker) for answer in proto.edits_answers),
        tuple(input_part_from_proto(part, worker) for part in proto.inputs),
        proto.going_away,
    )


def _read_assignment(proto: worker_pb2.Assignment, worker: WorkerId) -> Assign | Failed:
    try:
        return assign_from_proto(proto, worker)
    except InvalidField as error:
        return Failed(FencingToken(proto.fencing_token), describe_error("invalid_assignment", error.message))


def _report_to_proto(report: Report) -> worker_pb2.Finished:
    match report:
        case Succeeded():
            edits = None if report.edits is None else edit_batch_to_proto(report.edits)
            token = report.fencing_token
            if report.artifact is not None:
                artifact = artifact_to_proto(report.artifact)
                return worker_pb2.Finished(fencing_token=token, artifact=artifact, edits=edits, tokens=report.tokens)
            return worker_pb2.Finished(
                fencing_token=token, result_json=report.result_json, edits=edits, tokens=report.tokens
            )
        case Failed():
            error = star_error_to_proto(report.error)
            return worker_pb2.Finished(fencing_token=report.fencing_token, error=error, tokens=report.tokens)
        case Stopped():
            return worker_pb2.Finished(
                fencing_token=report.fencing_token,
                error=types_pb2.StarError(code="stopped", message="stopped as told"),
                is_stopped=True,
                tokens=report.tokens,
            )
        case _:
            assert_never(report)
