"""Journal records of a constellation, both ways."""

from typing import assert_never

from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import FencingToken, WorkerId
from asterism.orchestrator.core.records import (
    AttemptEnded,
    AttemptLeased,
    ConstellationEnded,
    ConstellationPaused,
    ConstellationRecord,
    EditsApplied,
    EditsRefused,
    RequestAccepted,
    SlotReleased,
    StarFinished,
)
from asterism.protocol.convert import checks, enums
from asterism.protocol.convert.constellation import (
    budget_from_proto,
    budget_to_proto,
    constellation_id,
    constellation_state_from_proto,
    request_from_proto,
    request_id_from_proto,
    request_to_proto,
)
from asterism.protocol.convert.edits import edits_from_proto, write_edits
from asterism.protocol.convert.star import (
    artifact_from_proto,
    result_to_proto,
    star_error_from_proto,
    star_error_to_proto,
    star_id,
    star_spec_from_proto,
    star_spec_to_proto,
)
from asterism.protocol.v1 import types_pb2 as pb


def record_to_proto(record: ConstellationRecord) -> pb.Record:
    """One member of the oneof for each class."""
    proto = pb.Record(seq=record.seq, at=record.at, constellation=record.constellation)
    match record:
        case RequestAccepted():
            proto.request_accepted.CopyFrom(
                pb.Record.RequestAccepted(
                    request_id=record.request_id,
                    owner=record.owner,
                    request=request_to_proto(record.request),
                    budget=budget_to_proto(record.budget),
                    replan=None if record.replan is None else star_spec_to_proto(record.replan, "replan"),
                )
            )
        case EditsApplied():
            applied = proto.edits_applied
            applied.revision = record.revision
            applied.by = record.by
            applied.reason = record.reason
            applied.proposal = record.proposal
            write_edits(record.edits, applied.edits)
        case EditsRefused():
            reasons = [checks.clipped(reason) for reason in record.reasons]
            proto.edits_refused.CopyFrom(
                pb.Record.EditsRefused(by=record.by, reasons=reasons, proposal=record.proposal)
            )
        case AttemptLeased():
            proto.attempt_leased.CopyFrom(
                pb.Record.AttemptLeased(
                    star=record.star,
                    attempt=record.attempt,
                    worker=record.worker,
                    fencing_token=record.fencing_token,
                )
            )
        case AttemptEnded():
            proto.attempt_ended.CopyFrom(
                pb.Record.AttemptEnded(
                    star=record.star,
                    attempt=record.attempt,
                    outcome=enums.OUTCOMES[record.outcome],
                    error=star_error_to_proto(record.error),
                    retry_at=record.retry_at,
                    releases_slot=record.releases_slot,
                    tokens=record.tokens,
                )
            )
        case StarFinished():
            proto.star_finished.CopyFrom(_star_finished_to_proto(record))
        case SlotReleased():
            proto.slot_released.CopyFrom(pb.Record.SlotReleased(star=record.star, attempt=record.attempt))
        case ConstellationPaused(by=by, reason=reason, is_paused=is_paused):
            paused = pb.Record.ConstellationPaused(by=by, reason=checks.clipped(reason), is_paused=is_paused)
            proto.constellation_paused.CopyFrom(paused)
        case ConstellationEnded():
            state = enums.CONSTELLATION_STATES[record.state]
            proto.constellation_ended.CopyFrom(
                pb.Record.ConstellationEnded(state=state, reason=checks.clipped(record.reason))
            )
        case _:
            assert_never(record)
    return proto


def _star_finished_to_proto(record: StarFinished) -> pb.Record.StarFinished:
    result_json, artifact = result_to_proto(record.result)
    return pb.Record.StarFinished(
        star=record.star,
        state=enums.STAR_STATES[record.state],
        result_json=result_json,
        artifact=artifact,
        error=None if record.error is None else star_error_to_proto(record.error),
        attempt=record.attempt,
        outcome=None if record.outcome is None else enums.OUTCOMES[record.outcome],
        releases_slot=record.releases_slot,
        version=record.version,
        source=record.source,
        tokens=record.tokens,
    )


def record_from_proto(proto: pb.Record, at: str = "record") -> ConstellationRecord:
    """Refuses a record of no kind, which is also what a newer peer's unknown kind looks like."""
    seq = checks.integer(proto.seq, f"{at}.seq", 1)
    when = checks.number(proto.at, f"{at}.at")
    of = constellation_id(proto.constellation, f"{at}.constellation")
    kind = proto.WhichOneof("record")
    at = f"{at}.{kind}"
    match kind:
        case "request_accepted":
            accepted = proto.request_accepted
            return RequestAccepted(
                seq,
                when,
                of,
                request_id_from_proto(accepted.request_id, f"{at}.request_id"),
                checks.text(accepted.owner, f"{at}.owner", checks.MAX_TITLE),
                request_from_proto(accepted.request, f"{at}.request"),
                budget_from_proto(accepted.budget, f"{at}.budget"),
                star_spec_from_proto(accepted.replan, f"{at}.replan") if accepted.HasField("replan") else None,
            )
        case "edits_applied":
            applied = proto.edits_applied
            revision = checks.integer(applied.revision, f"{at}.revision")
            by = checks.text(applied.by, f"{at}.by", checks.MAX_TITLE)
            edits = edits_from_proto(applied.edits, f"{at}.edits")
            reason = checks.text(applied.reason, f"{at}.reason", checks.MAX_REASON)
            return EditsApplied(seq, when, of, revision, by, edits, reason, applied.proposal)
        case "edits_refused":
            refused = proto.edits_refused
            by = checks.text(refused.by, f"{at}.by", checks.MAX_TITLE)
            reasons = (checks.text(reason, f"{at}.reasons", checks.MAX_REASON) for reason in refused.reasons)
            return EditsRefused(seq, when, of, by, tuple(reasons), refused.proposal)
        case "attempt_leased":
            leased = proto.attempt_leased
            return AttemptLeased(
                seq,
                when,
                of,
                star_id(leased.star, f"{at}.star"),
                checks.integer(leased.attempt, f"{at}.attempt", 1),
                WorkerId(checks.name(leased.worker, f"{at}.worker")),
                FencingToken(checks.integer(leased.fencing_token, f"{at}.fencing_token")),
            )
        case "attempt_ended":
            ended = proto.attempt_ended
            return AttemptEnded(
                seq,
                when,
                of,
                star_id(ended.star, f"{at}.star"),
                checks.integer(ended.attempt, f"{at}.attempt", 1),
                checks.known(enums.OUTCOMES_BACK, ended.outcome, f"{at}.outcome"),
                star_error_from_proto(ended.error, f"{at}.error"),
                checks.number(ended.retry_at, f"{at}.retry_at") if ended.HasField("retry_at") else None,
                ended.releases_slot,
                checks.integer(ended.tokens, f"{at}.tokens"),
            )
        case "star_finished":
            finished = proto.star_finished
            is_unrun = finished.outcome == pb.ATTEMPT_OUTCOME_UNSPECIFIED
            return StarFinished(
                seq,
                when,
                of,
                star_id(finished.star, f"{at}.star"),
                checks.known(enums.STAR_STATES_BACK, finished.state, f"{at}.state"),
                artifact_from_proto(finished.artifact, f"{at}.artifact")
                if finished.HasField("artifact")
                else checks.optional_json_from_text(finished.result_json, f"{at}.result_json"),
                star_error_from_proto(finished.error, f"{at}.error") if finished.HasField("error") else None,
                checks.integer(finished.attempt, f"{at}.attempt", 1) if finished.HasField("attempt") else None,
                None if is_unrun else checks.known(enums.OUTCOMES_BACK, finished.outcome, f"{at}.outcome"),
                finished.releases_slot,
                checks.text(finished.version, f"{at}.version", checks.MAX_TITLE),
                checks.text(finished.source, f"{at}.source", checks.MAX_TITLE),
                checks.integer(finished.tokens, f"{at}.tokens"),
            )
        case "slot_released":
            released = proto.slot_released
            star = star_id(released.star, f"{at}.star")
            return SlotReleased(seq, when, of, star, checks.integer(released.attempt, f"{at}.attempt", 1))
        case "constellation_paused":
            paused = proto.constellation_paused
            by = checks.text(paused.by, f"{at}.by", checks.MAX_REASON)
            reason = checks.text(paused.reason, f"{at}.reason", checks.MAX_REASON)
            return ConstellationPaused(seq, when, of, by, reason, paused.is_paused)
        case "constellation_ended":
            end = proto.constellation_ended
            state = constellation_state_from_proto(end.state, f"{at}.state")
            return ConstellationEnded(seq, when, of, state, checks.text(end.reason, f"{at}.reason", checks.MAX_REASON))
        case _:
            raise InvalidField(at, "must be one of the known records")
