"""Workers come, renew, drain and go; what one held when it went is lost and runs again."""

from typing import Final

from asterism.orchestrator.core.attempts import end_attempt, release
from asterism.orchestrator.core.effects import Disconnect, Stop
from asterism.orchestrator.core.errors import AlreadyExists, InvalidField, NotFound
from asterism.orchestrator.core.events import (
    DrainRequested,
    LabelRequested,
    WorkerAttached,
    WorkerDetached,
    WorkerLeaving,
)
from asterism.orchestrator.core.ids import WorkerId, is_name
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.records import WorkerDraining, WorkerJoined, WorkerLabelled, WorkerLeft
from asterism.orchestrator.core.star import AttemptOutcome, StarError
from asterism.orchestrator.core.state import DEPARTED_S, Deadline, Lease, Timer, Worker
from asterism.orchestrator.core.streams import tell_written
from asterism.orchestrator.core.turn import Turn

MAX_SLOTS: Final = 4096
MAX_OFFERED: Final = 256
"""Models, tools, programs or labels that one worker may offer, each."""


def on_attached(turn: Turn, event: WorkerAttached, lease_s: float) -> None:
    """Take a worker in, or back: settle what it still holds against what is known here.

    Raises AlreadyExists while another live process holds the identity, InvalidField for a profile out of range.
    """
    check_profile(event.worker, event.profile)
    worker = turn.state.workers.get(event.worker)
    if worker is not None and worker.is_attached and worker.instance != event.instance:
        raise AlreadyExists("worker", event.worker, "another process is attached under this name")
    held = {attempt.fencing_token for attempt in event.held}
    if worker is not None:
        if worker.instance != event.instance:
            held = set()
        for token, lease in list(worker.running.items()):
            if token not in held:
                lose(turn, lease, "its worker came back without it")
    if worker is None or worker.has_left or (worker.instance, worker.profile) != (event.instance, event.profile):
        turn.record(WorkerJoined(turn.seq, turn.at, event.worker, event.instance, event.profile))
    worker = turn.state.workers[event.worker]
    worker.is_attached = True
    worker.is_leaving = False
    turn.state.fleet_changed()
    renew(worker, turn.at, lease_s)
    for attempt in event.held:
        lease_held = worker.running.get(attempt.fencing_token)
        if lease_held is None or lease_held.is_stopping:
            turn.effect(Stop(event.worker, attempt.fencing_token, "this attempt has ended"))
        else:
            lease_held.last_progress_at = turn.at
            lease_held.written = None  # What was on its way when the stream broke is lost.
            constellation = turn.state.constellations[lease_held.constellation]
            tell_written(turn, constellation, constellation.stars[lease_held.star])


def on_detached(turn: Turn, event: WorkerDetached) -> None:
    """Note that the stream is gone; the leases run on, so that a short cut costs nothing."""
    worker = turn.state.workers[event.worker]
    if worker.instance != event.instance:
        return
    worker.is_attached = False
    turn.state.fleet_changed()
    if event.is_goodbye:
        leave(turn, worker, "it said goodbye")


def on_leaving(turn: Turn, event: WorkerLeaving) -> None:
    """Give the worker nothing new: it is about to leave."""
    turn.state.workers[event.worker].is_leaving = True
    turn.state.fleet_changed()


def renew(worker: Worker, at: float, lease_s: float) -> None:
    """Extend the worker's leases: any word from it is a sign of life."""
    worker.last_seen_at = at
    worker.lease_expires_at = at + lease_s


def leave(turn: Turn, worker: Worker, reason: str) -> None:
    """The worker holds nothing any more: what it ran is lost."""
    for lease in list(worker.running.values()):
        lose(turn, lease, f"its worker {worker.id} left: {reason}")
    if worker.is_attached:
        turn.effect(Disconnect(worker.id, worker.instance, reason))
    turn.record(WorkerLeft(turn.seq, turn.at, worker.id, reason))
    if any(constellation.replan is not None for constellation in turn.state.constellations.values()):
        turn.state.push(Deadline(turn.at + DEPARTED_S, Timer.DEPARTURE, worker=worker.id))


def lose(turn: Turn, lease: Lease, reason: str) -> None:
    """End an attempt whose worker no longer runs it, and free its slot."""
    if lease.is_stopping:
        release(turn, lease)
    else:
        error = StarError("worker_lost", reason, retryable=True)
        end_attempt(turn, lease, AttemptOutcome.LOST, error, releases_slot=True)


def on_drain(turn: Turn, event: DrainRequested) -> None:
    """An operator's drain; what runs goes on."""
    worker = find_worker(turn, event.worker)
    if worker.is_draining != event.is_draining:
        turn.record(WorkerDraining(turn.seq, turn.at, event.worker, event.is_draining))


def on_label(turn: Turn, event: LabelRequested) -> None:
    """An operator's labels."""
    worker = find_worker(turn, event.worker)
    for key, value in event.labels.items():
        if not is_name(key) or (value is not None and not is_name(value)):
            raise InvalidField(
                f"labels[{key}]", "a label's key and value are names: letters, digits, '_', '.', '~', '-'"
            )
    merged = {**worker.labels, **event.labels}
    labels = {key: value for key, value in merged.items() if value is not None}
    if len(labels) > MAX_OFFERED:
        raise InvalidField("labels", f"{len(labels)} labels; at most {MAX_OFFERED}")
    if labels != worker.labels:
        turn.record(WorkerLabelled(turn.seq, turn.at, event.worker, labels))


def find_worker(turn: Turn, worker: WorkerId) -> Worker:
    """The worker of that name, whether it is there or not."""
    found = turn.state.workers.get(worker)
    if found is None:
        raise NotFound("worker", worker)
    return found


def check_profile(worker: WorkerId, profile: WorkerProfile) -> None:
    """Refuse a worker whose name or profile is out of range."""
    if not is_name(worker):
        raise InvalidField("worker", f"{worker!r} is not a name")
    if not 1 <= profile.slots <= MAX_SLOTS:
        raise InvalidField("profile.slots", f"{profile.slots} is outside 1 to {MAX_SLOTS}")
    for kind, names in (("models", profile.models), ("tools", profile.tools), ("programs", profile.programs)):
        if len(names) > MAX_OFFERED:
            raise InvalidField(f"profile.{kind}", f"{len(names)} of them; at most {MAX_OFFERED}")
        for name in names:
            if not is_name(name):
                raise InvalidField(f"profile.{kind}", f"{name!r} is not a name")
    if len(profile.labels) > MAX_OFFERED:
        raise InvalidField("profile.labels", f"{len(profile.labels)} of them; at most {MAX_OFFERED}")
    for key, value in profile.labels.items():
        if not is_name(key) or not is_name(value):
            raise InvalidField("profile.labels", f"{key!r}={value!r} is not a name and a name")
