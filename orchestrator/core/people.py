"""What people do to a request while it runs: decide an approval, hold it back, let it go on."""

from collections.abc import Mapping

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.ending import REJECTED, finish_star
from asterism.orchestrator.core.errors import InvalidField, NotFound, WrongState
from asterism.orchestrator.core.events import Decided, PauseRequested
from asterism.orchestrator.core.records import ConstellationPaused
from asterism.orchestrator.core.star import StarError, StarState, TaskStar
from asterism.orchestrator.core.turn import Turn
from asterism.orchestrator.core.values import MAX_INLINE_BYTES, Json, json_bytes


def on_decided(turn: Turn, constellation: TaskConstellation, event: Decided) -> None:
    """End an approval: a yes is its result, a no its failure. The same answer again changes nothing."""
    star = constellation.stars.get(event.star)
    if star is None:
        raise NotFound("star", event.star)
    if not star.spec.is_decided_by_people:
        raise InvalidField("star", f"{event.star} is of kind {star.spec.kind}; only approvals are decided")
    if json_bytes(event.value) > MAX_INLINE_BYTES:
        raise InvalidField("value", f"more than {MAX_INLINE_BYTES} bytes; give a reference to it instead")
    if star.state is StarState.WAITING:
        raise WrongState("star", event.star, star.state.value, "what it waits for has not ended yet")
    if star.state.is_terminal:
        if event.is_approved is not _answer(star):
            raise WrongState("star", event.star, star.state.value, "it has been decided already")
        if event.is_approved and event.value is not None and event.value != _value(star):
            raise WrongState("star", event.star, star.state.value, "it has been decided already, with another value")
        return
    if event.is_approved:
        result: Mapping[str, Json] = {
            "approved": True,
            "by": event.by,
            "reason": event.reason,
            "value": event.value,
        }
        finish_star(turn, constellation, star, StarState.SUCCEEDED, result=result)
        return
    why = f": {event.reason}" if event.reason else ""
    finish_star(turn, constellation, star, StarState.FAILED, error=StarError(REJECTED, f"rejected by {event.by}{why}"))


def _answer(star: TaskStar) -> bool | None:
    """What was decided; None where the star ended in another way."""
    if star.state is StarState.SUCCEEDED:
        return True
    return False if star.error is not None and star.error.code == REJECTED else None


def _value(star: TaskStar) -> Json:
    """What came with a yes."""
    return star.result.get("value") if isinstance(star.result, Mapping) else None


def on_pause(turn: Turn, constellation: TaskConstellation, event: PauseRequested) -> None:
    """Hold the request back, or let it go on; what is so already is left as it is."""
    if constellation.state.is_terminal:
        raise WrongState("request", constellation.id, constellation.state.value, "it has ended already")
    if event.is_paused is not (constellation.pause is not None):
        turn.record(ConstellationPaused(turn.seq, turn.at, constellation.id, event.by, event.reason, event.is_paused))
