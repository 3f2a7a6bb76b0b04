"""The fold: what each record does to the state. It decides nothing, cannot fail, and is the only writer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, assert_never

from asterism.orchestrator.core.constellation import BY_BUDGET, BY_STAR, Pause, TaskConstellation
from asterism.orchestrator.core.edits import (
    AddLine,
    AddStar,
    CancelStar,
    RebindInputs,
    RemoveLine,
    RemoveStar,
    UpdateStar,
    update_spec,
)
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import QUORUM, STREAM, TaskStarLine
from asterism.orchestrator.core.records import (
    AttemptEnded,
    AttemptLeased,
    ConstellationEnded,
    ConstellationPaused,
    ConstellationRecord,
    EditsApplied,
    EditsRefused,
    Record,
    RequestAccepted,
    SlotReleased,
    StarFinished,
    WorkerDraining,
    WorkerJoined,
    WorkerLabelled,
    WorkerLeft,
)
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.star import READY, RUNNING, SUCCEEDED, WAITING, Answer, Attempt, TaskStar
from asterism.orchestrator.core.state import Lease, State, Worker

_NO_LINES: Final[Mapping[StarId, TaskStarLine]] = {}


def apply(state: State, record: Record) -> None:
    """Bring `state` from just before `record` to just after it."""
    state.last_seq = record.seq
    match record:
        case AttemptLeased():
            _lease(state, _of(state, record), record)
        case StarFinished():
            _finish(state, _of(state, record), record)
        case EditsApplied():
            if record.proposal:
                _answer(state, record, Answer(record.revision))
            _edit(state, _of(state, record), record)
        case AttemptEnded():
            _end_attempt(state, _of(state, record), record)
        case SlotReleased():
            _release(state, _of(state, record).stars[record.star].attempts[record.attempt - 1])
        case RequestAccepted():
            _accept(state, record)
        case ConstellationEnded():
            constellation = _of(state, record)
            constellation.state = record.state
            constellation.reason = record.reason
            constellation.ended_at = record.at
            _let_go_on(state, constellation, None)
            state.ended[constellation.id] = None
        case ConstellationPaused():
            _pause(state, _of(state, record), record)
        case EditsRefused():
            if record.proposal:
                _answer(state, record, Answer(_of(state, record).revision, record.reasons))
            _of(state, record)
        case WorkerJoined():
            _join(state, record)
        case WorkerLeft():
            worker = state.workers[record.worker]
            worker.has_left = True
            worker.is_attached = False
            state.fleet_changed()
        case WorkerDraining():
            state.workers[record.worker].is_draining = record.is_draining
            state.fleet_changed()
        case WorkerLabelled():
            worker = state.workers[record.worker]
            worker.labels = dict(record.labels)
            worker.capabilities = worker.profile.capabilities(worker.labels)
            state.fleet_changed()
        case _:
            assert_never(record)


def _of(state: State, record: ConstellationRecord) -> TaskConstellation:
    constellation = state.constellations[record.constellation]
    constellation.seq = record.seq
    return constellation


def _accept(state: State, record: RequestAccepted) -> None:
    constellation = TaskConstellation(
        record.constellation,
        record.request_id,
        record.owner,
        record.request,
        record.budget,
        record.at,
        record.at,
        seq=record.seq,
        replan=record.replan,
    )
    state.adopt(constellation, at=record.at)


def _pause(state: State, constellation: TaskConstellation, record: ConstellationPaused) -> None:
    if not record.is_paused:
        _let_go_on(state, constellation, record.at)
        for star in constellation.stars.values():
            if star.live_attempt is None and not star.state.is_terminal and star.unmet == 0:
                state.enqueue(constellation.id, star, record.at)
        return
    constellation.pause = Pause(record.by, record.reason, record.at)
    constellation.resumed_at = None
    state.paused[constellation.id] = None
    for star_id in constellation.stars:
        state.dequeue(constellation.id, star_id)


def _let_go_on(state: State, constellation: TaskConstellation, at: float | None) -> None:
    constellation.pause = None
    constellation.resumed_at = at
    state.paused.pop(constellation.id, None)


def _lease(state: State, constellation: TaskConstellation, record: AttemptLeased) -> None:
    star = constellation.stars[record.star]
    star.state = RUNNING
    star.retry_at = None
    star.attempts.append(Attempt(record.attempt, record.worker, record.fencing_token, record.at))
    for child_id in constellation.listeners.get(record.star, ()):
        child = constellation.stars[child_id]
        child.unmet -= 1
        if child.unmet == 0 and not child.state.is_terminal:
            _settle(state, constellation, child, record.at)
    constellation.attempts += 1
    state.last_fencing_token = record.fencing_token
    state.dequeue(constellation.id, record.star)
    lease = Lease(constellation.id, record.star, record.attempt, last_progress_at=record.at, written=[])
    state.workers[record.worker].running[record.fencing_token] = lease
    state.watch_attempt(constellation.id, star, record.fencing_token, record.at, record.at)


def _end_attempt(state: State, constellation: TaskConstellation, record: AttemptEnded) -> None:
    star = constellation.stars[record.star]
    constellation.tokens += record.tokens
    attempt = star.attempts[-1]
    attempt.outcome = record.outcome
    attempt.error = record.error
    attempt.ended_at = record.at
    _let_go(state, attempt, record.releases_slot)
    star.retry_at = record.retry_at
    star.state = WAITING
    star.ready_at = record.at
    _settle(state, constellation, star, record.at)
    for child_id in constellation.listeners.get(record.star, ()):
        child = constellation.stars[child_id]
        child.unmet += 1
        # One that runs is ended in the same step.
        if child.state is not RUNNING and not child.state.is_terminal:
            _settle(state, constellation, child, record.at)


def _finish(state: State, constellation: TaskConstellation, record: StarFinished) -> None:
    star = constellation.stars[record.star]
    constellation.tokens += record.tokens
    if record.attempt is not None:
        attempt = star.attempts[-1]
        attempt.outcome = record.outcome
        attempt.error = record.error
        attempt.ended_at = record.at
        _let_go(state, attempt, record.releases_slot)
    has_run = star.state is RUNNING
    star.state = record.state
    star.result = record.result
    star.version = record.version
    star.source = record.source
    star.error = record.error
    star.finished_at = record.at
    star.retry_at = None
    constellation.unfinished -= 1
    state.dequeue(constellation.id, record.star)
    for child_id, line in constellation.children.get(record.star, _NO_LINES).items():
        child = constellation.stars[child_id]
        if line.kind is QUORUM:
            if record.state is not SUCCEEDED:
                child.quorum_spare -= 1
                continue
            child.meet_quorum(1)
            if child.quorum_met > child.spec.quorum:
                continue
        elif has_run and line.kind is STREAM:
            continue
        else:
            child.unmet -= 1
        if child.unmet == 0 and not child.state.is_terminal:
            _settle(state, constellation, child, record.at)


def _let_go(state: State, attempt: Attempt, releases_slot: bool) -> None:
    if releases_slot:
        _release(state, attempt)
    else:
        state.workers[attempt.worker].running[attempt.fencing_token].is_stopping = True


def _release(state: State, attempt: Attempt) -> None:
    attempt.holds_slot = False
    del state.workers[attempt.worker].running[attempt.fencing_token]
    state.may_place = True


def _edit(state: State, constellation: TaskConstellation, record: EditsApplied) -> None:
    constellation.revision = record.revision
    if constellation.state.is_terminal:
        constellation.state = ConstellationState.RUNNING
        constellation.reason = ""
        constellation.ended_at = None
        constellation.started_at = record.at
        constellation.is_pressed = False
        del state.ended[constellation.id]
        state.watch_budget(constellation)
    if record.by == BY_BUDGET:
        constellation.is_pressed = True
    touched: dict[StarId, None] = {}
    for edit in record.edits:
        # Most are new stars, and a graph has thousands of them.
        if isinstance(edit, AddStar):
            constellation.add_star(edit, record.revision)
            touched[edit.spec.id] = None
        elif isinstance(edit, AddLine):
            constellation.add_line(edit.line)
            touched[edit.line.child] = None
        else:
            touched.update(dict.fromkeys(_edit_one(state, constellation, edit)))
    for star_id in touched:
        star = constellation.stars.get(star_id)
        # A star that runs or is terminal may lose a parent that is removed: no edit of it, and no reason to be READY.
        if star is not None and star.state is not RUNNING and not star.state.is_terminal:
            star.revision = record.revision
            _settle(state, constellation, star, record.at)


def _answer(state: State, record: EditsApplied | EditsRefused, answer: Answer) -> None:
    """Remember what the star's running attempt is told."""
    star = state.constellations[record.constellation].stars[StarId(record.by.removeprefix(BY_STAR))]
    attempt = star.attempts[-1]
    if attempt.answers is None:
        attempt.answers = {}
    attempt.answers[record.proposal] = answer


def _settle(state: State, constellation: TaskConstellation, star: TaskStar, at: float) -> None:
    """Queue a star that neither runs nor is terminal, or take it out of the queue, as its parents now stand."""
    if star.unmet > 0:
        star.state = WAITING
        # One whose backoff has ended is queued, and WAITING still.
        state.dequeue(constellation.id, star.spec.id)
        return
    if star.retry_at is None:
        if star.state is not READY:
            star.ready_at = at
        star.state = READY
    state.enqueue(constellation.id, star, at)


def _edit_one(
    state: State,
    constellation: TaskConstellation,
    edit: RemoveStar | UpdateStar | RemoveLine | RebindInputs | CancelStar,
) -> Sequence[StarId]:
    """Do an edit of what is there; gives the stars whose specification or parents it changed."""
    match edit:
        case RemoveStar(star_id):
            for parent in list(constellation.parents.get(star_id, ())):
                constellation.remove_line(parent, star_id)
            children = list(constellation.children.get(star_id, ()))
            for child in children:
                constellation.remove_line(star_id, child)
            state.dequeue(constellation.id, star_id)
            del constellation.stars[star_id]
            constellation.unfinished -= 1
            return children
        case RemoveLine(parent, child):
            constellation.remove_line(parent, child)
            return (child,)
        case UpdateStar(star_id):
            star = constellation.stars[star_id]
            star.spec = update_spec(star.spec, edit)
            return (star_id,)
        case RebindInputs(star_id, inputs):
            star = constellation.stars[star_id]
            star.spec = replace(star.spec, inputs={**star.spec.inputs, **inputs})
            return (star_id,)
        case CancelStar():
            return ()
        case _:
            assert_never(edit)


def _join(state: State, record: WorkerJoined) -> None:
    worker = state.workers.get(record.worker)
    if worker is None:
        worker = state.workers[record.worker] = Worker(record.worker, record.instance, record.profile)
        worker.has_left = True
    state.watch_lease(worker, record.at)
    worker.instance = record.instance
    worker.take_profile(record.profile)
    worker.has_left = False
    state.fleet_changed()
