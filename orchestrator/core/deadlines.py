"""What time brings: leases that end, attempts that take too long, backoffs that are over, budgets that are spent."""

from typing import assert_never

from asterism.orchestrator.core.attempts import end_attempt
from asterism.orchestrator.core.ending import end_constellation, finish_star
from asterism.orchestrator.core.fleet import leave
from asterism.orchestrator.core.replan import on_departure, on_pressure
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.star import AttemptOutcome, StarError, StarState
from asterism.orchestrator.core.state import DEPARTED_S, PRESSURE, Deadline, Lease, Timer, Worker
from asterism.orchestrator.core.turn import Turn


def on_time(turn: Turn) -> None:
    """Look at every deadline that has come; most mean nothing any more."""
    for deadline in turn.state.due(turn.at):
        match deadline.timer:
            case Timer.WORKER_LEASE:
                _worker_lease(turn, deadline)
            case Timer.START_TO_CLOSE:
                _start_to_close(turn, deadline)
            case Timer.HEARTBEAT:
                _heartbeat(turn, deadline)
            case Timer.SCHEDULE_TO_START:
                _schedule_to_start(turn, deadline)
            case Timer.BACKOFF:
                _backoff(turn, deadline)
            case Timer.BUDGET:
                _budget(turn, deadline)
            case Timer.PRESSURE:
                _pressure(turn, deadline)
            case Timer.DEPARTURE:
                _departure(turn, turn.state.workers[deadline.worker])
            case _:
                assert_never(deadline.timer)


def _worker_lease(turn: Turn, deadline: Deadline) -> None:
    worker = turn.state.workers[deadline.worker]
    worker.is_watched = False
    if worker.has_left:
        return
    if worker.lease_expires_at > turn.at:
        turn.state.watch_lease(worker, worker.lease_expires_at)
    else:
        leave(turn, worker, "its lease ran out")


def _departure(turn: Turn, worker: Worker) -> None:
    # It may have come back since, and left again.
    if worker.has_left and worker.last_seen_at + DEPARTED_S <= turn.at:
        on_departure(turn, worker)


def _find_lease(turn: Turn, deadline: Deadline) -> Lease | None:
    """The lease that the deadline is about, while its attempt is live."""
    constellation = turn.state.constellations.get(deadline.constellation)
    star = None if constellation is None else constellation.stars.get(deadline.star)
    live = None if star is None else star.live_attempt
    if live is None or live.fencing_token != deadline.fencing_token:
        return None
    return turn.state.workers[live.worker].running[live.fencing_token]


def _start_to_close(turn: Turn, deadline: Deadline) -> None:
    lease = _find_lease(turn, deadline)
    if lease is not None:
        error = StarError("start_to_close", "it ran for longer than start_to_close_s", retryable=True)
        end_attempt(turn, lease, AttemptOutcome.TIMED_OUT, error, releases_slot=False)


def _heartbeat(turn: Turn, deadline: Deadline) -> None:
    lease = _find_lease(turn, deadline)
    if lease is None:
        return
    limit_s = turn.state.constellations[lease.constellation].stars[lease.star].spec.timeouts.heartbeat_s
    if limit_s is None:
        return
    silent_until = lease.last_progress_at + limit_s
    if silent_until > turn.at:
        token = deadline.fencing_token
        turn.state.push(Deadline(silent_until, Timer.HEARTBEAT, lease.constellation, lease.star, fencing_token=token))
    else:
        error = StarError("heartbeat", "it was silent for longer than heartbeat_s", retryable=True)
        end_attempt(turn, lease, AttemptOutcome.TIMED_OUT, error, releases_slot=False)


def _schedule_to_start(turn: Turn, deadline: Deadline) -> None:
    constellation = turn.state.constellations.get(deadline.constellation)
    if constellation is None or not turn.state.is_queued(deadline.constellation, deadline.star):
        return
    star = constellation.stars[deadline.star]
    start_by = turn.state.start_by(constellation.id, star)
    if start_by is None or start_by > turn.at:
        return
    who = "nobody decided it" if star.spec.is_decided_by_people else "no worker took it"
    error = StarError("schedule_to_start", f"{who} within schedule_to_start_s")
    finish_star(turn, constellation, star, StarState.FAILED, error=error)


def _backoff(turn: Turn, deadline: Deadline) -> None:
    constellation = turn.state.constellations.get(deadline.constellation)
    star = None if constellation is None else constellation.stars.get(deadline.star)
    if constellation is None or star is None or star.retry_at is None or star.unmet > 0:
        return
    if star.retry_at <= turn.at and not turn.state.is_queued(constellation.id, star.spec.id):
        turn.state.enqueue_now(constellation.id, star)


def _pressure(turn: Turn, deadline: Deadline) -> None:
    constellation = turn.state.constellations.get(deadline.constellation)
    limit_s = None if constellation is None else constellation.budget.seconds
    if constellation is not None and limit_s is not None and constellation.started_at + PRESSURE * limit_s <= turn.at:
        on_pressure(turn, constellation, f"{limit_s:g} seconds")


def _budget(turn: Turn, deadline: Deadline) -> None:
    constellation = turn.state.constellations.get(deadline.constellation)
    if constellation is None or constellation.state.is_terminal:
        return
    limit_s = constellation.budget.seconds
    if limit_s is None or constellation.started_at + limit_s > turn.at:
        return
    reason = f"the budget of {limit_s:g} seconds is used up"
    end_constellation(turn, constellation, ConstellationState.FAILED, reason)
