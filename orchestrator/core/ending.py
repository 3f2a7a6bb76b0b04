"""How stars and constellations end: skips spread down the graph, what runs is told to stop, the outcome is computed."""

from collections.abc import Mapping
from typing import Final

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.effects import Stop
from asterism.orchestrator.core.ids import StarId, successor
from asterism.orchestrator.core.line import QUORUM, STREAM, SUCCESS, LineKind, TaskStarLine
from asterism.orchestrator.core.records import ConstellationEnded, StarFinished
from asterism.orchestrator.core.replan import ask_replan, is_held
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.retry import NOT_NEEDED
from asterism.orchestrator.core.star import (
    CANCELLED,
    FAILED,
    READY,
    SUCCEEDED,
    WAITING,
    Attempt,
    AttemptOutcome,
    StarError,
    StarKind,
    StarState,
    TaskStar,
)
from asterism.orchestrator.core.streams import break_streams, tell_whole
from asterism.orchestrator.core.turn import Turn
from asterism.orchestrator.core.values import Artifact, Result

SKIPPED: Final = "skipped"
"""Error code of a star that was cancelled because a parent failed: it counts as a failure of the request."""
UNCHOSEN: Final = "unchosen"
"""Error code of a star that was cancelled because a condition was false or a parent cancelled: the graph went another
way."""
REJECTED: Final = "rejected"
"""Error code of an approval that somebody said no to."""
UNREADABLE: Final = "condition_unreadable"
"""Error code of a star that failed because a condition asks for the inside of an artifact, which is not read here."""


_NO_LINES: Final[dict[StarId, TaskStarLine]] = {}


def finish_star(
    turn: Turn,
    constellation: TaskConstellation,
    star: TaskStar,
    state: StarState,
    *,
    result: Result = None,
    error: StarError | None = None,
    outcome: AttemptOutcome | None = None,
    releases_slot: bool = True,
    spreads: bool = True,
    version: str = "",
    source: str = "",
    tokens: int = 0,
) -> None:
    """End a star for good, then (`spreads`) skip, all the way down, the children that it leaves without hope.

    A live attempt ends with it, as `outcome`; when its worker still runs it (`releases_slot` False) it is told to stop.
    """
    turn.touch(constellation)
    pending = [(star, state, result, error, outcome, releases_slot)]
    first = star
    while pending:
        star, state, result, error, outcome, releases_slot = pending.pop()
        if star.state.is_terminal:
            continue
        live = star.live_attempt
        turn.record(
            StarFinished(
                turn.seq,
                turn.at,
                constellation.id,
                star.spec.id,
                state,
                result,
                error,
                None if live is None else live.number,
                None if live is None else outcome,
                releases_slot,
                version if star is first else "",
                source if star is first else "",
                0 if live is None else max(tokens if star is first else 0, _streamed(turn, live)),
            )
        )
        if live is not None and not releases_slot:
            turn.effect(Stop(live.worker, live.fencing_token, "" if error is None else error.message))
        if state is FAILED and constellation.replan is not None and spreads:
            _ask_to_save(turn, constellation, star)
        for child_id, line in reversed(constellation.children.get(star.spec.id, _NO_LINES).items()):
            if state is SUCCEEDED and line.kind is SUCCESS:
                continue
            if state is SUCCEEDED and line.kind is QUORUM:
                for other in _spare_parents(constellation, constellation.stars[child_id]):
                    reason = StarError(NOT_NEEDED, f"{child_id} has its quorum without it")
                    outcome, is_idle = AttemptOutcome.CANCELLED, other.live_attempt is None
                    pending.append((other, CANCELLED, None, reason, outcome, is_idle))
                continue
            child = constellation.stars[child_id]
            if not spreads or child.state.is_terminal:
                continue
            if line.kind is QUORUM and (child.quorum_spare >= 0 or is_held(constellation, child_id)):
                continue  # Before it looks at all voters.
            skip = find_skip(constellation, line)
            if skip is not None and not is_held(constellation, child_id):
                outcome, is_idle = AttemptOutcome.CANCELLED, child.live_attempt is None
                pending.append((child, skip_state(skip), None, skip, outcome, is_idle))
        if state is SUCCEEDED and star.spec.id in constellation.listeners:
            for child, error in tell_whole(turn, constellation, star):
                pending.append((child, FAILED, None, error, AttemptOutcome.FAILED, False))


def _streamed(turn: Turn, live: Attempt) -> int:
    return turn.state.workers[live.worker].running[live.fencing_token].tokens


def check_tokens(turn: Turn, constellation: TaskConstellation, live: int = 0) -> None:
    """End a request whose budget of tokens is used up; `live` are those of attempts that have not ended."""
    most = constellation.budget.tokens
    if most is None or constellation.state.is_terminal or constellation.tokens + live <= most:
        return
    reason = f"the budget of {most} tokens is used up"
    end_constellation(turn, constellation, ConstellationState.FAILED, reason)


def _ask_to_save(turn: Turn, constellation: TaskConstellation, star: TaskStar) -> None:
    """Ask for a rewrite that gets by without what has just failed for good; its children wait for that."""
    # A no of a person is a decision. Plans and rewrites that fail are not mended by more of them.
    if star.error is None or star.error.code == REJECTED or star.spec.kind is StarKind.PLAN:
        return
    break_streams(turn, constellation, star)
    lines = constellation.children.get(star.spec.id, {})
    held = [
        child
        for child, line in lines.items()
        if constellation.stars[child].state in (WAITING, READY) and _is_hopeless(constellation, line)
    ]
    why = f"{star.spec.id} has failed: {star.error.message} ({star.error.code})"
    ask_replan(turn, constellation, why, cause=star.spec.id, held=held)


def _is_hopeless(constellation: TaskConstellation, line: TaskStarLine) -> bool:
    """As `find_skip` says, without looking at all voters of a quorum to say why."""
    if line.kind is QUORUM:
        return constellation.stars[line.child].quorum_spare < 0
    return find_skip(constellation, line) is not None


def find_skip(constellation: TaskConstellation, line: TaskStarLine) -> StarError | None:
    """Why a terminal parent will never let the line's child run; None when it lets it."""
    parent = constellation.stars[line.parent]
    if line.kind is LineKind.COMPLETION:
        return None
    if line.kind is LineKind.GUARD:
        others = (of for of in constellation.parents[line.child].values() if of.kind is not LineKind.GUARD)
        ended = (of for of in others if constellation.stars[of.parent].state.is_terminal)
        return next((skip for of in ended if (skip := find_skip(constellation, of)) is not None), None)
    if line.kind is QUORUM:
        child = constellation.stars[line.child]
        if child.quorum_spare >= 0:
            return None
        lines = constellation.parents[line.child].values()
        voters = [constellation.stars[of.parent] for of in lines if of.kind is line.kind]
        is_failure = any(voter.state is FAILED or _is_skipped(voter) for voter in voters)
        left = child.spec.quorum + child.quorum_spare
        reason = f"its quorum of {child.spec.quorum} is out of reach: of {len(voters)} parents {left} are left"
        return StarError(SKIPPED if is_failure else UNCHOSEN, reason)
    if line.kind in (SUCCESS, STREAM):
        if parent.state is SUCCEEDED:
            return None
        code = SKIPPED if parent.state is FAILED or _is_skipped(parent) else UNCHOSEN
        return StarError(code, f"its parent {line.parent} {_how(parent)}")
    if line.condition is not None and line.condition.looks_into_result and isinstance(parent.result, Artifact):
        size = parent.result.size
        reason = f"the condition on its parent {line.parent} asks for the inside of a result that is an artifact"
        return StarError(UNREADABLE, f"{reason} ({size} bytes): give what it asks for in a result of its own")
    if line.condition is not None and line.condition.holds(constellation.outcome(line.parent)):
        return None
    return StarError(UNCHOSEN, f"the condition on its parent {line.parent} is false")


def _spare_parents(constellation: TaskConstellation, child: TaskStar) -> list[TaskStar]:
    """The parents of a star whose quorum has just been met that nobody else waits for."""
    if child.quorum_met != child.spec.quorum:
        return []
    parents = constellation.parents[child.spec.id].values()
    others = [constellation.stars[line.parent] for line in parents if line.kind is QUORUM]
    return [star for star in others if not star.state.is_terminal and not _is_awaited(constellation, star)]


def _is_awaited(constellation: TaskConstellation, star: TaskStar) -> bool:
    """Whether some child cannot do without the star."""
    for child_id, line in constellation.children[star.spec.id].items():
        child = constellation.stars[child_id]
        has_quorum = line.kind is QUORUM and child.quorum_met >= child.spec.quorum
        if not has_quorum and not child.state.is_terminal:
            return True
    return False


def skip_state(skip: StarError) -> StarState:
    """How a star ends that will never run: what nobody could decide is a failure, and no choice."""
    return FAILED if skip.code == UNREADABLE else CANCELLED


def _how(star: TaskStar) -> str:
    if star.state is FAILED and star.error is not None:
        return f"failed ({star.error.code})"
    return "was skipped" if _is_skipped(star) else "was cancelled"


def cancel_star(
    turn: Turn, constellation: TaskConstellation, star: TaskStar, reason: str, *, spreads: bool = True
) -> None:
    """Cancel a star; one that is terminal stays as it is."""
    finish_star(
        turn,
        constellation,
        star,
        CANCELLED,
        error=StarError("cancelled", reason),
        outcome=AttemptOutcome.CANCELLED,
        releases_slot=star.live_attempt is None,
        spreads=spreads,
    )


def end_constellation(turn: Turn, constellation: TaskConstellation, state: ConstellationState, reason: str) -> None:
    """End a request that has not ended by itself: cancel what is left, and record why."""
    for star in list(constellation.stars.values()):
        cancel_star(turn, constellation, star, reason, spreads=False)
    turn.record(ConstellationEnded(turn.seq, turn.at, constellation.id, state, reason))


def end_if_finished(turn: Turn, constellation: TaskConstellation) -> None:
    """Record the end of a request whose stars are all terminal."""
    if constellation.unfinished == 0 and not constellation.state.is_terminal:
        state, reason = outcome_of(constellation)
        turn.record(ConstellationEnded(turn.seq, turn.at, constellation.id, state, reason))


def outcome_of(constellation: TaskConstellation) -> tuple[ConstellationState, str]:
    """How a request ended, by the stars that nothing depends on; retried ones are represented by their successors.

    FAILED when one of them failed or was skipped for a failure; else SUCCEEDED when one of them succeeded (of the
    stars other than plans, where there are any); else CANCELLED. The reason is the earliest failure of all.
    """
    sinks = [star for star in _sinks(constellation.stars, constellation.children) if _counts(constellation, star)]
    failed = [star for star in sinks if star.state is FAILED or _is_skipped(star)]
    if failed:
        causes = [star for star in constellation.stars.values() if _is_cause(constellation, star)] or failed
        first = min(causes, key=lambda star: star.finished_at or 0.0)
        error = first.error or StarError("unknown", "no reason was given")
        return ConstellationState.FAILED, f"star {first.spec.id}: {error.message} ({error.code})"
    work = [star for star in sinks if star.spec.kind is not StarKind.PLAN] or sinks
    if any(star.state is SUCCEEDED for star in work):
        return ConstellationState.SUCCEEDED, ""
    return ConstellationState.CANCELLED, "every star was cancelled"


def _is_cause(constellation: TaskConstellation, star: TaskStar) -> bool:
    """Whether it failed, and nothing has taken its place since."""
    return star.state is FAILED and not constellation.was_retried(star.spec.id)


def _counts(constellation: TaskConstellation, star: TaskStar) -> bool:
    """A rewrite that failed stands for what it was to save, unless that has been retried; others only tried."""
    if not star.spec.asks_replan or star.state is not FAILED:
        return True
    parents = (constellation.stars[parent] for parent in constellation.parents.get(star.spec.id, ()))
    return any(parent.state is FAILED and not constellation.was_retried(parent.spec.id) for parent in parents)


def _is_skipped(star: TaskStar) -> bool:
    return star.error is not None and star.error.code == SKIPPED


def _sinks(
    stars: Mapping[StarId, TaskStar], children: Mapping[StarId, Mapping[StarId, TaskStarLine]]
) -> list[TaskStar]:
    return [star for star_id, star in stars.items() if star_id not in children and successor(star_id) not in stars]
