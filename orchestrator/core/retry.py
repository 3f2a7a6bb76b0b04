"""When to run something again: the backoff of an attempt, and the edits that retry a whole request."""

from dataclasses import replace
from typing import Final

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.edits import AddLine, AddStar, CancelStar, Edit, EditBatch
from asterism.orchestrator.core.errors import WrongState
from asterism.orchestrator.core.ids import StarId
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
    failures = len(ended) - ended.count(AttemptOutcome.LOST)
    if not retryable or failures >= star.spec.retry.max_attempts:
        return None
    return at + backoff_s(star.spec.retry, failures, chance)


def retry_batch(constellation: TaskConstellation) -> EditBatch:
    """The edits that run again what failed or was cancelled, and all that depends on it, as new stars.

    A terminal star never changes, so each gets a successor `name~n` with the same specification; lines and inputs
    between retried stars lead to the successors. Raises WrongState where nothing is to be retried.
    """
    if constellation.state not in (constellation.state.FAILED, constellation.state.CANCELLED):
        raise WrongState(
            "request", constellation.id, constellation.state.value, "only what failed or was cancelled can be retried"
        )
    chosen: dict[StarId, None] = {
        star_id: None
        for star_id, star in constellation.stars.items()
        if star.state in (StarState.FAILED, StarState.CANCELLED)
        and not (star.error is not None and star.error.code == NOT_NEEDED)
        and not has_successor(constellation, star_id)
    }
    pending = list(chosen)
    while pending:
        for child in constellation.children.get(pending.pop(), ()):
            if child not in chosen and not has_successor(constellation, child):
                chosen[child] = None
                pending.append(child)
    successors = {star_id: successor(star_id) for star_id in constellation.stars if star_id in chosen}
    edits: list[Edit] = []
    for old, new in successors.items():
        spec = constellation.stars[old].spec
        inputs = {name: _redirect(source, successors) for name, source in spec.inputs.items()}
        edits.append(AddStar(replace(spec, id=new, inputs=inputs)))
    edits.extend(
        AddLine(replace(line, parent=successors.get(line.parent, line.parent), child=new))
        for old, new in successors.items()
        for line in constellation.parents.get(old, {}).values()
    )
    return EditBatch(tuple(edits))


def successor(star: StarId) -> StarId:
    """The name of the star that retries `star`: `b`, `b~2`, `b~3`."""
    name, tilde, number = star.rpartition("~")
    if tilde and number.isdecimal():
        return StarId(f"{name}~{int(number) + 1}")
    return StarId(f"{star}~2")


def is_successor(star: StarId) -> bool:
    """Whether `star` has the name of a retry."""
    _, tilde, number = star.rpartition("~")
    return bool(tilde) and number.isdecimal()


def has_successor(constellation: TaskConstellation, star: StarId) -> bool:
    """Whether `star` has been retried already."""
    return successor(star) in constellation.stars


def to_latest(constellation: TaskConstellation, batch: EditBatch) -> EditBatch:
    """The batch of a star, with the latest successor of each star that it names in lines, inputs or to cancel.

    A plan names stars as it knew them: when some were retried meanwhile, it means what runs in their place.
    """
    return EditBatch(tuple(_edit_to_latest(constellation, edit) for edit in batch.edits), batch.base_revision)


def _edit_to_latest(constellation: TaskConstellation, edit: Edit) -> Edit:
    match edit:
        case AddLine(line):
            parent, child = _latest(constellation, line.parent), _latest(constellation, line.child)
            return AddLine(replace(line, parent=parent, child=child))
        case CancelStar(star):
            return CancelStar(_latest(constellation, star))
        case AddStar(spec):
            named = {source.star for source in spec.inputs.values() if isinstance(source, OutputOf)}
            latest = {star: _latest(constellation, star) for star in named}
            inputs = {name: _redirect(source, latest) for name, source in spec.inputs.items()}
            return AddStar(replace(spec, inputs=inputs))
        case _:
            return edit


def _latest(constellation: TaskConstellation, star: StarId) -> StarId:
    while has_successor(constellation, star):
        star = successor(star)
    return star


def _redirect(source: StarInput, successors: dict[StarId, StarId]) -> StarInput:
    if isinstance(source, OutputOf):
        return replace(source, star=successors.get(source.star, source.star))
    return source
