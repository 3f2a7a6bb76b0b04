"""What workers report: results, failures, edits, text. Who does not hold the attempt changes nothing."""

from typing import Final

from asterism.orchestrator.core.check import MAX_EDITS, check_batch
from asterism.orchestrator.core.constellation import BY_STAR, TaskConstellation
from asterism.orchestrator.core.edits import AddLine, AddStar, CancelStar, Edit, EditBatch
from asterism.orchestrator.core.effects import AnswerEdits, Broadcast, Stop
from asterism.orchestrator.core.ending import cancel_star, check_tokens, find_skip, finish_star, skip_state
from asterism.orchestrator.core.errors import AsterismError, InvalidEdit
from asterism.orchestrator.core.events import AttemptFailed, AttemptProgressed, AttemptSucceeded, EditsProposed
from asterism.orchestrator.core.ids import FencingToken, StarId, WorkerId
from asterism.orchestrator.core.line import TaskStarLine
from asterism.orchestrator.core.records import AttemptEnded, EditsApplied, EditsRefused, SlotReleased
from asterism.orchestrator.core.replan import hold_for, is_pressing, on_pressure, on_surprise
from asterism.orchestrator.core.retry import edit_to_latest, may_run_again, retry_at, to_latest
from asterism.orchestrator.core.reuse import keep_result
from asterism.orchestrator.core.star import (
    FAILED,
    SUCCEEDED,
    Answer,
    Attempt,
    AttemptOutcome,
    StarError,
    TaskStar,
    program_capability,
)
from asterism.orchestrator.core.state import Lease
from asterism.orchestrator.core.streams import break_streams, on_written
from asterism.orchestrator.core.turn import Turn

MAY_HAVE_RUN: Final = "may_have_run"
"""Error code of a star that was lost or timed out, and that must not run twice."""


def find_live(turn: Turn, worker: WorkerId, token: FencingToken) -> tuple[Lease, TaskConstellation, TaskStar] | None:
    """The lease, if `worker` holds the live attempt that the fencing token names."""
    lease = turn.state.workers[worker].running.get(token)
    if lease is None or lease.is_stopping:
        return None
    constellation = turn.state.constellations[lease.constellation]
    return lease, constellation, constellation.stars[lease.star]


def on_progressed(turn: Turn, event: AttemptProgressed) -> None:
    """Pass streamed text on; tell whoever streams for an attempt that is not his to stop."""
    found = find_live(turn, event.worker, event.fencing_token)
    if found is None:
        turn.effect(Stop(event.worker, event.fencing_token, "this attempt has ended"))
        return
    lease, constellation, star = found
    lease.last_progress_at = event.at
    if event.chunks:
        on_written(turn, constellation, star, lease, event.chunks)
        turn.effect(Broadcast(constellation.id, lease.star, lease.attempt, event.worker, event.chunks))
        lease.tokens += sum(chunk.tokens for chunk in event.chunks)
        check_tokens(turn, constellation, lease.tokens)


def on_proposed(turn: Turn, event: EditsProposed) -> None:
    """Apply the edits that a running attempt proposes, or refuse them whole with the reason.

    A proposal that comes again, since its worker never had the answer, changes nothing and is answered as before.
    """
    found = find_live(turn, event.worker, event.fencing_token)
    if found is None:
        turn.effect(Stop(event.worker, event.fencing_token, "this attempt has ended"))
        return
    lease, constellation, star = found
    lease.last_progress_at = event.at
    answers = star.attempts[-1].answers
    answer = answers.get(event.proposal) if answers else None
    if answer is None:
        refusal = edit_for_star(turn, constellation, star, event.batch, event.proposal)
        answer = Answer(constellation.revision, () if refusal is None else (refusal,))
    token, is_accepted = event.fencing_token, not answer.reasons
    turn.effect(AnswerEdits(event.worker, token, event.proposal, is_accepted, answer.reasons, answer.revision))


def on_succeeded(turn: Turn, event: AttemptSucceeded) -> None:
    """Take a result, together with the edits that come with it: both, or the star has failed."""
    turn.reported.append(event.fencing_token)
    found = find_live(turn, event.worker, event.fencing_token)
    if found is None:
        _confirm_stopped(turn, event.worker, event.fencing_token)
        return
    _, constellation, star = found
    worker = turn.state.workers[event.worker]
    description = worker.describe(program_capability(star.spec.kind, star.spec.program))
    if event.batch is not None:
        refusal = edit_for_star(turn, constellation, star, event.batch)
        if refusal is not None:
            error = StarError("edit_refused", refusal)
            outcome = AttemptOutcome.FAILED
            finish_star(turn, constellation, star, FAILED, error=error, outcome=outcome, tokens=event.tokens)
            _look_at_tokens(turn, constellation, event.tokens)
            return
        if star.live_attempt is None:
            # The batch cancelled what the star listens to, and with it this attempt.
            _confirm_stopped(turn, event.worker, event.fencing_token)
            return
    finish_star(
        turn,
        constellation,
        star,
        SUCCEEDED,
        result=event.result,
        outcome=AttemptOutcome.SUCCEEDED,
        version=description.version,
        tokens=event.tokens,
    )
    _look_at_tokens(turn, constellation, event.tokens)
    if turn.state.results is not None:
        keep_result(turn.state, constellation, star, description)
    if star.spec.replan_when is not None:
        on_surprise(turn, constellation, star, star.spec.replan_when)


def on_failed(turn: Turn, event: AttemptFailed) -> None:
    """Retry an attempt that failed, where its policy allows, else fail the star."""
    turn.reported.append(event.fencing_token)
    found = find_live(turn, event.worker, event.fencing_token)
    if found is None:
        _confirm_stopped(turn, event.worker, event.fencing_token)
        return
    lease, constellation, _ = found
    # A worker that stops an attempt unasked is leaving: that is not the star's fault.
    outcome = AttemptOutcome.LOST if event.is_stopped else AttemptOutcome.FAILED
    end_attempt(turn, lease, outcome, event.error, releases_slot=True, tokens=event.tokens)
    _look_at_tokens(turn, constellation, event.tokens)


def _look_at_tokens(turn: Turn, constellation: TaskConstellation, tokens: int) -> None:
    """Whether the budget of tokens is used up, or nearly, with those of an attempt that has ended."""
    most = constellation.budget.tokens
    if most is None or not tokens:
        return
    check_tokens(turn, constellation)
    if is_pressing(constellation.tokens, constellation.tokens - tokens, most):
        on_pressure(turn, constellation, f"{most} tokens")


def _confirm_stopped(turn: Turn, worker: WorkerId, token: FencingToken) -> None:
    lease = turn.state.workers[worker].running.get(token)
    if lease is not None:
        release(turn, lease)


def release(turn: Turn, lease: Lease) -> None:
    """Give back the slot of an attempt that had ended before."""
    turn.record(SlotReleased(turn.seq, turn.at, lease.constellation, lease.star, lease.attempt))


def end_attempt(
    turn: Turn, lease: Lease, outcome: AttemptOutcome, error: StarError, *, releases_slot: bool, tokens: int = 0
) -> None:
    """End a live attempt badly: the star waits for its next one, or has failed."""
    constellation = turn.state.constellations[lease.constellation]
    star = constellation.stars[lease.star]
    live = star.attempts[-1]
    again_at = retry_at(star, outcome, error.retryable, at=turn.at, chance=turn.chance)
    if again_at is not None and outcome is not AttemptOutcome.FAILED:
        again_at, error = _unless_it_may_have_run(turn, star, live, again_at, error)
    if again_at is None:
        finish_star(
            turn,
            constellation,
            star,
            FAILED,
            error=error,
            outcome=outcome,
            releases_slot=releases_slot,
            tokens=tokens,
        )
        return
    if not releases_slot:
        turn.effect(Stop(live.worker, live.fencing_token, error.message))
    for heard_it in break_streams(turn, constellation, star):
        _fail_as_heard(turn, constellation, heard_it, star)
    turn.record(
        AttemptEnded(
            turn.seq,
            turn.at,
            constellation.id,
            star.spec.id,
            live.number,
            outcome,
            error,
            again_at if again_at > turn.at else None,
            releases_slot,
            max(tokens, lease.tokens),
        )
    )


def _fail_as_heard(turn: Turn, constellation: TaskConstellation, star: TaskStar, parent: TaskStar) -> None:
    """End a star that has begun with what its parent wrote, and that cannot begin anew with it."""
    capability = program_capability(star.spec.kind, star.spec.program)
    why = f"{parent.spec.id}, which it listens to, begins anew; it may have run, and {capability} is not idempotent"
    outcome, error = AttemptOutcome.CANCELLED, StarError(MAY_HAVE_RUN, why)
    finish_star(turn, constellation, star, FAILED, error=error, outcome=outcome, releases_slot=False)


def _unless_it_may_have_run(
    turn: Turn, star: TaskStar, live: Attempt, again_at: float, error: StarError
) -> tuple[float | None, StarError]:
    """Nobody saw its end: what is not to be done twice has failed, since it may have been done."""
    capability = program_capability(star.spec.kind, star.spec.program)
    if may_run_again(star, turn.state.workers[live.worker].describe(capability)):
        return again_at, error
    why = f"{error.message}; it may have run, and {capability} is not idempotent: retry it by hand if it did not"
    return None, StarError(MAY_HAVE_RUN, why)


def edit_for_star(
    turn: Turn, constellation: TaskConstellation, star: TaskStar, batch: EditBatch, proposal: int = 0
) -> str | None:
    """Apply what a star's attempt proposes; gives the reason of a refusal, which is recorded too."""
    by = f"{BY_STAR}{star.spec.id}"
    try:
        if not star.spec.may_edit:
            raise InvalidEdit(star.spec.id, "may not edit; a plan gives that right with may_edit")
        if len(star.attempts) > 1 or "~" in star.spec.id:
            batch = without_repeats(constellation, batch)
            if not batch.edits:
                return None
        batch = to_latest(constellation, batch)
        check_batch(constellation, batch, turn.state.known_capabilities(), by=star.spec.id)
    except AsterismError as refusal:
        turn.record(EditsRefused(turn.seq, turn.at, constellation.id, by, (refusal.message,), proposal))
        return refusal.message
    apply_batch(turn, constellation, batch, by, proposal=proposal)
    return None


def without_repeats(constellation: TaskConstellation, batch: EditBatch) -> EditBatch:
    """The batch without what is so already: a later attempt of a plan star begins its plan anew.

    What an earlier one said of a star that has been retried since is there as said of its latest successor.
    """
    kept: list[Edit] = []
    for edit in batch.edits:
        match edit, edit_to_latest(constellation, edit):
            case AddStar() as star, AddStar() as latest if _is_star_there(constellation, star, latest):
                lines = zip(star.lines(), latest.lines(), strict=True)
                kept.extend(AddLine(line) for line, now in lines if not _is_line_there(constellation, line, now))
            case AddLine(line), AddLine(now) if _is_line_there(constellation, line, now):
                pass
            case _:
                kept.append(edit)
    return EditBatch(tuple(kept), batch.base_revision)


def _is_star_there(constellation: TaskConstellation, *either: AddStar) -> bool:
    there = constellation.stars.get(either[0].spec.id)
    return there is not None and there.spec in [star.spec for star in either]


def _is_line_there(constellation: TaskConstellation, *either: TaskStarLine) -> bool:
    return any(constellation.parents.get(line.child, {}).get(line.parent) == line for line in either)


def apply_batch(
    turn: Turn, constellation: TaskConstellation, batch: EditBatch, by: str, reason: str = "", proposal: int = 0
) -> int:
    """Apply a batch that has been checked, then what follows from it: cancelled stars, and stars left without hope.

    Gives the batch's revision: what holds children for a rewrite is an edit of its own, after it. A retry may be more
    than one record, and revision.
    """
    turn.touch(constellation)
    before = len(constellation.stars)
    for at in range(0, len(batch.edits), MAX_EDITS):
        edits, revision = batch.edits[at : at + MAX_EDITS], constellation.revision + 1
        turn.record(EditsApplied(turn.seq, turn.at, constellation.id, revision, by, edits, reason, proposal))
    revision = constellation.revision
    most = constellation.budget.stars
    if constellation.replan is not None and is_pressing(len(constellation.stars), before, most):
        on_pressure(turn, constellation, f"{most} stars")
    stars = constellation.stars
    for edit in batch.edits:
        if isinstance(edit, AddStar):
            for parent in edit.after:
                _skip_if_hopeless(turn, constellation, parent, edit.spec.id)
        elif isinstance(edit, AddLine):
            _skip_if_hopeless(turn, constellation, edit.line.parent, edit.line.child)
        elif isinstance(edit, CancelStar) and edit.star in stars:
            cancel_star(turn, constellation, stars[edit.star], f"cancelled by {by}")
    return revision


def _skip_if_hopeless(turn: Turn, constellation: TaskConstellation, parent: StarId, child: StarId) -> None:
    """End a star that a new line leads to, where its parent has ended already and will never let it run."""
    of_parent = constellation.stars.get(parent)
    # What the batch adds it may take away again.
    if of_parent is None or not of_parent.state.is_terminal:
        return
    of_child = constellation.stars.get(child)
    line = constellation.parents.get(child, {}).get(parent)
    if of_child is None or line is None or of_child.state.is_terminal:
        return
    skip = find_skip(constellation, line)
    if skip is not None and not hold_for(turn, constellation, line):
        finish_star(turn, constellation, of_child, skip_state(skip), error=skip)
