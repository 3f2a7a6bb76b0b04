"""What a star that does not run waits for, in words: nothing waits in silence."""

from collections.abc import Mapping

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.star import StarState, TaskStar
from asterism.orchestrator.core.state import State


def waiting_for(state: State, constellation: TaskConstellation) -> Mapping[StarId, str]:
    """One line for each star that is WAITING or READY."""
    fleet = _Fleet(state)
    return {
        star_id: _reason(state, constellation, star, fleet)
        for star_id, star in constellation.stars.items()
        if star.state in (StarState.WAITING, StarState.READY)
    }


class _Fleet:
    """What the workers lack for stars: looked at once for all that need the same, for both may be thousands."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._attached = [worker for worker in state.workers.values() if worker.is_attached]
        self._offered = frozenset[str]().union(*(worker.capabilities for worker in self._attached))
        self._lacks: dict[frozenset[str], str] = {}

    def lacks(self, needed: frozenset[str]) -> str:
        """What a star waits for that needs those capabilities and nothing else."""
        found = self._lacks.get(needed)
        if found is None:
            found = self._lacks[needed] = self._find(needed)
        return found

    def _find(self, needed: frozenset[str]) -> str:
        if self._state.is_offered(needed):
            return "a free slot"
        if not self._attached:
            return "a worker: none is attached"
        lacking = sorted(needed - self._offered)
        if lacking:
            return f"a worker with {', '.join(lacking)}: none that is attached has it"
        if any(needed <= worker.capabilities for worker in self._attached):
            return "a worker that takes stars: those that could run it are draining"
        return f"one worker with all of {', '.join(sorted(needed))}"


def _reason(state: State, constellation: TaskConstellation, star: TaskStar, fleet: _Fleet) -> str:
    if star.unmet > 0:
        parents = constellation.parents.get(star.spec.id, {})
        open_ones = [parent for parent, line in parents.items() if not line.is_met(constellation.stars[parent].state)]
        more = f" and {len(open_ones) - 3} more" if len(open_ones) > 3 else ""
        quorum = star.spec.quorum - star.quorum_met
        of = f"{quorum} of " if quorum > 0 else ""
        return f"{of}{', '.join(open_ones[:3])}{more}"
    if star.retry_at is not None and not state.is_queued(constellation.id, star.spec.id):
        return f"the backoff after attempt {len(star.attempts)}, until {star.retry_at:.3f}"
    if constellation.pause is not None and not star.spec.is_decided_by_people:
        why = f" ({constellation.pause.reason})" if constellation.pause.reason else ""
        return f"asterism resume {constellation.id}: {constellation.pause.by} paused it{why}"
    if star.spec.is_decided_by_people:
        return f"a decision: asterism approve {constellation.id} {star.spec.id}, or reject"
    return fleet.lacks(star.spec.capabilities)
