"""When to run something again: the backoff of an attempt, and the edits that retry a whole request."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.edits import AddLine, AddStar, CancelStar, Edit, EditBatch
from asterism.orchestrator.core.errors import InvalidEdit, NotFound, WrongState
from asterism.orchestrator.core.ids import StarId, successor
from asterism.orchestrator.core.line import LineKind
from asterism.orchestrator.core.profile import Description, Effect
from asterism.orchestrator.core.star import AttemptOutcome, OutputOf, RetryPolicy, StarInput, StarState, TaskStar

NOT_NEEDED: Final = "not_needed"
"""Error code of a star that was cancelled because the quorum which waited for it was met by others."""
MAX_LOST: Final = 8
"""Attempts that a star may lose with their workers before it fails: a star that kills its workers must end."""


def backoff_s(policy: RetryPolicy, failures: int, chance: float) -> float:
    """Seconds to wait after the `failures`-th failure; `chance` in [0, 1) draws within the jittered share."""
    # A float overflows beyond 1.8e308; the exponent of 2 at which max_backoff_s has long been reached is far below.
    exponent = min(failures - 1, 64)
    longest = min(policy.backoff_s * policy.multiplier**exponent, policy.max_backoff_s)
    return longest * (1.0 - policy.jitter * chance)


def may_run_again(star: TaskStar, description: Description) -> bool:
    """Whether an attempt of which nobody knows how far it came may be followed by another."""
    said = star.spec.is_idempotent
    return description.effect is not Effect.NONE if said is None else said


def retry_at(star: TaskStar, outcome: AttemptOutcome, retryable: bool, *, at: float, chance: float) -> float | None:
    """When the star may run again after its live attempt ended with `outcome`; None: never, it has failed.

    A lost worker is not the star's fault: it is retried at once, and counted apart.
    """
    ended = [attempt.outcome for attempt in star.attempts[:-1]] + [outcome]
    if outcome is AttemptOutcome.LOST:
        return at if ended.count(AttemptOutcome.LOST) <= MAX_LOST else None
    failures = sum(outcome.is_failure for outcome in ended if outcome is not None)
    if not retryable or failures >= star.spec.retry.max_attempts:
        return None
    return at + backoff_s(star.spec.retry, failures, chance)


def retry_batch(
    constellation: TaskConstellation,
    stars: Sequence[StarId] = (),
    rebinds: Mapping[StarId, Mapping[str, StarInput]] = MappingProxyType({}),
) -> EditBatch:
    """The edits that run `stars` again, or else what failed or was cancelled, and all that depends on it, as new stars.

    A terminal star never changes, so each gets a successor `name~n` with the same specification; lines and inputs
    between retried stars lead to the successors. Of those that only depend on others, one that had succeeded has its
    result again where its inputs turn out to be as they were (`StarSpec.reuses`). Raises WrongState where nothing is to
    be retried or no budget is left for it, and InvalidEdit for a star that cannot be.
    """
    named = _named(constellation, stars, rebinds) if stars else _unsuccessful(constellation)
    check_left(constellation)
    chosen = dict.fromkeys(named)
    pending = list(chosen)
    while pending:
        for child in constellation.children.get(pending.pop(), ()):
            is_new = child not in chosen and not constellation.was_retried(child)
            if is_new and not constellation.stars[child].spec.asks_replan:
                chosen[child] = None
                pending.append(child)
    successors = {star_id: successor(star_id) for star_id in constellation.stars if star_id in chosen}
    edits: list[Edit] = []
    reusing: set[StarId] = set()
    for old, new in successors.items():
        star = constellation.stars[old]
        inputs = {name: _redirect(source, successors) for name, source in star.spec.inputs.items()}
        inputs.update(rebinds.get(old, {}))
        reuses = old if star.state is StarState.SUCCEEDED and old not in named else None
        edits.append(AddStar(replace(star.spec, id=new, inputs=inputs, reuses=reuses)))
        if reuses is not None:
            reusing.add(new)
    for old, new in successors.items():
        for line in constellation.parents.get(old, {}).values():
            if line.kind is LineKind.GUARD:
                continue
            # Whether its inputs are as they were is known once they are whole.
            is_late = line.kind is LineKind.STREAM and new in reusing
            kind = LineKind.SUCCESS if is_late else line.kind
            edits.append(AddLine(replace(line, parent=successors.get(line.parent, line.parent), child=new, kind=kind)))
    return EditBatch(tuple(edits))


def _unsuccessful(constellation: TaskConstellation) -> dict[StarId, None]:
    if constellation.state not in (constellation.state.FAILED, constellation.state.CANCELLED):
        reason = "only what failed or was cancelled can be retried, unless its stars are named"
        raise WrongState("request", constellation.id, constellation.state.value, reason)
    return {
        star_id: None
        for star_id, star in constellation.stars.items()
        if star.state in (StarState.FAILED, StarState.CANCELLED)
        and not (star.error is not None and star.error.code == NOT_NEEDED)
        and not constellation.was_retried(star_id)
        and not star.spec.asks_replan
    }


def _named(
    constellation: TaskConstellation, stars: Sequence[StarId], rebinds: Mapping[StarId, Mapping[str, StarInput]]
) -> dict[StarId, None]:
    if not constellation.state.is_terminal:
        reason = "a star can be run again once the request has ended"
        raise WrongState("request", constellation.id, constellation.state.value, reason)
    for star_id in (*stars, *rebinds):
        star = constellation.stars.get(star_id)
        if star is None:
            raise NotFound("star", star_id)
        if star.spec.asks_replan:
            raise InvalidEdit(star_id, "asked for a rewrite; asterism replan asks for another one")
        if constellation.was_retried(star_id):
            raise InvalidEdit(
                star_id, f"has been run again already, as {latest(constellation, star_id)}: name that one"
            )
        if star_id not in stars:
            raise InvalidEdit(star_id, "gets other inputs, and is not among the stars to run again")
    return dict.fromkeys(stars)


def check_left(constellation: TaskConstellation) -> None:
    """Refuse to bring back what would end at its first attempt: WrongState. Seconds are counted anew, and stars with
    each edit."""
    budget = constellation.budget
    for used, most, what in (
        (constellation.tokens, budget.tokens, "tokens"),
        (constellation.attempts, budget.attempts, "attempts"),
    ):
        if most is not None and used >= most:
            reason = f"its budget of {most} {what} is used up: submit it anew with a larger one"
            raise WrongState("request", constellation.id, constellation.state.value, reason)


def to_latest(constellation: TaskConstellation, batch: EditBatch) -> EditBatch:
    """The batch of a star, with the latest successor of each star that it names in lines, inputs or to cancel.

    A plan names stars as it knew them: when some were retried meanwhile, it means what runs in their place.
    """
    return EditBatch(tuple(edit_to_latest(constellation, edit) for edit in batch.edits), batch.base_revision)


def edit_to_latest(constellation: TaskConstellation, edit: Edit) -> Edit:
    """One edit of such a batch."""
    match edit:
        case AddLine(line):
            parent, child = latest(constellation, line.parent), latest(constellation, line.child)
            if parent is line.parent and child is line.child:
                return edit
            return AddLine(replace(line, parent=parent, child=child))
        case CancelStar(star):
            return CancelStar(latest(constellation, star))
        case AddStar(spec, after) if spec.inputs or after:
            named = {source.star for source in spec.inputs.values() if isinstance(source, OutputOf)}
            now = {star: latest(constellation, star) for star in named}
            inputs = {name: _redirect(source, now) for name, source in spec.inputs.items()}
            return AddStar(replace(spec, inputs=inputs), tuple(latest(constellation, parent) for parent in after))
        case _:
            return edit


def latest(constellation: TaskConstellation, star: StarId) -> StarId:
    """The star that runs in the place of `star` now."""
    while constellation.was_retried(star):
        star = successor(star)
    return star


def _redirect(source: StarInput, successors: dict[StarId, StarId]) -> StarInput:
    if isinstance(source, OutputOf):
        return replace(source, star=successors.get(source.star, source.star))
    return source
