"""All that the orchestrator holds in memory. Only `apply.py` changes what is stored; the indexes follow from it."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.profile import Description, WorkerProfile
from asterism.orchestrator.core.results import Results
from asterism.orchestrator.core.snapshot import Snapshot
from asterism.orchestrator.core.star import APPROVAL, TaskStar, Telling
from asterism.orchestrator.core.values import Json

KEEP_ENDED: Final = 256
"""Ended constellations kept in memory, so that an edit or a retry right after the end needs no load."""


PRESSURE: Final = 0.8
"""Share of a budget at whose use a rewrite is asked for: a fifth is left for what it may make shorter."""
DEPARTED_S: Final = 30.0
"""How long a worker may be gone before a rewrite does without what only it offered: a restart takes less."""
MAX_REMEMBERED: Final = 4096
"""Sets of capabilities of which is remembered whether some worker offers them: a client may think up any number."""
SWEEP_AFTER: Final = 4096
"""Queue entries, at least, between two sweeps of the void ones: a sweep costs less than the entries before it did."""

_NO_CONSTELLATION, _NO_STAR, _NO_WORKER = ConstellationId(""), StarId(""), WorkerId("")
_NO_TOKEN = FencingToken(0)


Tell: TypeAlias = "Callable[[Telling, TaskConstellation, Mapping[WorkerId, Worker]], Json]"
"""What a star is told at dispatch of the graph and the fleet. It may look, and must not change anything."""


def tell_nothing(what: Telling, constellation: TaskConstellation, workers: "Mapping[WorkerId, Worker]") -> Json:
    """Where nobody says how to tell."""
    return None


@dataclass(slots=True)
class Lease:
    """A slot of a worker, and the attempt that holds it."""

    constellation: ConstellationId
    star: StarId
    attempt: int
    is_stopping: bool = False
    """The attempt has ended here; its worker has not confirmed yet."""
    last_progress_at: float = 0.0
    tokens: int = 0
    """That came as streamed text so far."""
    written: list[str] | None = None
    """The text of the attempt's main thread so far, for children that listen; None where a part of it is not known."""
    written_chars: int = 0


@dataclass(slots=True)
class Worker:
    """A worker as it stands now."""

    id: WorkerId
    instance: str
    profile: WorkerProfile
    labels: dict[str, str] = field(default_factory=dict)
    """Set by an operator; they win over the worker's own."""
    is_attached: bool = False
    is_draining: bool = False
    """An operator wants it to get no new stars."""
    is_leaving: bool = False
    """It said itself that it is about to leave."""
    has_left: bool = False
    running: dict[FencingToken, Lease] = field(default_factory=dict)
    """Exactly the slots it holds."""
    lease_expires_at: float = 0.0
    last_seen_at: float = 0.0
    is_watched: bool = False
    """Whether a deadline looks after its lease: one is enough, however often it comes and goes."""
    capabilities: frozenset[str] = frozenset()
    described: Mapping[str, Description] = field(default_factory=dict)
    """What it says of its tools and programs, by capability."""

    def take_profile(self, profile: WorkerProfile) -> None:
        """What it offers from now on."""
        self.profile = profile
        self.capabilities = profile.capabilities(self.labels)
        self.described = {description.capability: description for description in profile.descriptions}

    def describe(self, capability: str) -> Description:
        """What it says of one of its tools or programs."""
        return self.described.get(capability) or Description(capability)

    @property
    def free_slots(self) -> int:
        """How many stars it could take now, whatever its state."""
        return self.profile.slots - len(self.running)

    @property
    def takes_stars(self) -> bool:
        """Whether it is there and wants work."""
        return self.is_attached and not self.is_draining and not self.is_leaving


class Timer(IntEnum):
    """What a deadline is for."""

    WORKER_LEASE = 0
    START_TO_CLOSE = 1
    HEARTBEAT = 2
    SCHEDULE_TO_START = 3
    BACKOFF = 4
    BUDGET = 5
    PRESSURE = 6
    """Most of a budget of seconds is used."""
    DEPARTURE = 7
    """A worker has been gone for so long that stars may have to do without it."""


class Deadline(NamedTuple):
    """One entry of the heap; whoever takes it looks whether it still means anything. A tuple: heaps compare a lot."""

    at: float
    timer: Timer
    constellation: ConstellationId = _NO_CONSTELLATION
    star: StarId = _NO_STAR
    worker: WorkerId = _NO_WORKER
    fencing_token: FencingToken = _NO_TOKEN


class ReadyStar(NamedTuple):
    """One entry of a ready queue: higher priority first, then the order of becoming ready, which no two share."""

    rank: int
    order: int
    constellation: ConstellationId
    star: StarId


class State:
    """Constellations, workers, and the indexes that keep every step's cost independent of how many there are."""

    def __init__(self) -> None:
        self.constellations: dict[ConstellationId, TaskConstellation] = {}
        self.workers: dict[WorkerId, Worker] = {}
        self.requests: dict[tuple[str, str], ConstellationId] = {}
        self.tell: Tell = tell_nothing
        self.results: Results | None = None
        """Of what is pure, for its like; None where that is not wanted."""
        self.last_seq = 0
        self.last_fencing_token = FencingToken(0)
        self.ready: dict[frozenset[str], list[ReadyStar]] = {}
        """A heap for each set of capabilities that some star needs."""
        self.ended: dict[ConstellationId, None] = {}
        """Ended constellations in memory, oldest first."""
        self.paused: dict[ConstellationId, None] = {}
        """None of whose stars are queued."""
        self.pinned: Counter[ConstellationId] = Counter()
        """How many events that are on their way need a constellation to be there, ended or not."""
        self.may_place = True
        """Whether a star has become ready, or a slot free, since stars were placed last."""
        self._queued: dict[tuple[ConstellationId, StarId], int] = {}
        self._deadlines: list[Deadline] = []
        self._order = 0
        self._pushed = 0
        """Entries of ready stars since the last sweep."""
        self._offered: dict[frozenset[str], bool] = {}
        self._placeable: dict[frozenset[str], None] | None = None
        self._known: frozenset[str] | None = None

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot, *, at: float, lease_s: float) -> "State":
        """The state on disk; workers get a whole lease, from `at`, to come back."""
        state = cls()
        state.last_seq = snapshot.last_seq
        state.last_fencing_token = snapshot.last_fencing_token
        for stored in snapshot.workers:
            worker = Worker(stored.id, stored.instance, stored.profile, dict(stored.labels))
            worker.is_draining = stored.is_draining
            worker.has_left = stored.has_left
            worker.take_profile(stored.profile)
            worker.lease_expires_at = at + lease_s
            state.workers[worker.id] = worker
            if not worker.has_left:
                state.watch_lease(worker, worker.lease_expires_at)
        for constellation in snapshot.constellations:
            state.adopt(constellation, at=at)
        state._watch_departed(at)
        return state

    def _watch_departed(self, at: float) -> None:
        """Wait once more for workers that have left: nothing says when, nor whether anybody was asked to do without."""
        needed = {
            star.spec.capabilities
            for constellation in self.constellations.values()
            if constellation.replan is not None
            for star in constellation.stars.values()
            if not star.state.is_terminal
        }
        lacking = frozenset[str]().union(*needed) - self.known_capabilities()
        for worker in self.workers.values():
            # One worker stands for all that offered the same: fleets that come and go leave thousands.
            if worker.has_left and not lacking.isdisjoint(worker.capabilities):
                lacking -= worker.capabilities
                self.push(Deadline(at + DEPARTED_S, Timer.DEPARTURE, worker=worker.id))

    def adopt(self, constellation: TaskConstellation, *, at: float) -> None:
        """Take in a constellation that was loaded: index what is ready, what runs and what has a deadline."""
        self.constellations[constellation.id] = constellation
        self.requests[constellation.owner, constellation.request_id] = constellation.id
        if constellation.pause is not None:
            self.paused[constellation.id] = None
        if constellation.state.is_terminal:
            self.ended[constellation.id] = None
        else:
            self.watch_budget(constellation)
        for star in constellation.stars.values():
            for attempt in star.attempts:
                if not attempt.holds_slot:
                    continue
                lease = Lease(constellation.id, star.spec.id, attempt.number, attempt.outcome is not None, at)
                self.workers[attempt.worker].running[attempt.fencing_token] = lease
                if attempt.outcome is None:
                    self.watch_attempt(constellation.id, star, attempt.fencing_token, attempt.leased_at, at)
            if star.live_attempt is None and not star.state.is_terminal and star.unmet == 0:
                self.enqueue(constellation.id, star, at)

    def push(self, deadline: Deadline) -> None:
        """Wake at that time."""
        heapq.heappush(self._deadlines, deadline)

    def next_deadline(self) -> float | None:
        """When to look again, in seconds since the epoch."""
        return self._deadlines[0].at if self._deadlines else None

    def due(self, at: float) -> Iterator[Deadline]:
        """Take every deadline up to `at`, earliest first, those pushed meanwhile too."""
        while self._deadlines and self._deadlines[0].at <= at:
            yield heapq.heappop(self._deadlines)

    def watch_lease(self, worker: Worker, at: float) -> None:
        """Look after the lease of a worker that is there, unless that is done already."""
        if not worker.is_watched:
            worker.is_watched = True
            self.push(Deadline(at, Timer.WORKER_LEASE, worker=worker.id))

    def watch_budget(self, constellation: TaskConstellation) -> None:
        """Set the deadline of a running request."""
        if constellation.budget.seconds is not None:
            ends_at = constellation.started_at + constellation.budget.seconds
            self.push(Deadline(ends_at, Timer.BUDGET, constellation.id))
            if constellation.replan is not None:
                pressing_at = constellation.started_at + PRESSURE * constellation.budget.seconds
                self.push(Deadline(pressing_at, Timer.PRESSURE, constellation.id))

    def watch_attempt(
        self, constellation: ConstellationId, star: TaskStar, token: FencingToken, leased_at: float, seen_at: float
    ) -> None:
        """Set the deadlines of a live attempt."""
        timeouts, star_id = star.spec.timeouts, star.spec.id
        if timeouts.start_to_close_s is not None:
            ends_at = leased_at + timeouts.start_to_close_s
            self.push(Deadline(ends_at, Timer.START_TO_CLOSE, constellation, star_id, fencing_token=token))
        if timeouts.heartbeat_s is not None:
            ends_at = seen_at + timeouts.heartbeat_s
            self.push(Deadline(ends_at, Timer.HEARTBEAT, constellation, star_id, fencing_token=token))

    def enqueue(self, constellation: ConstellationId, star: TaskStar, at: float) -> None:
        """Queue a star that has no unmet parent, at `at` or at the end of its backoff."""
        if star.retry_at is not None and star.retry_at > at:
            self.push(Deadline(star.retry_at, Timer.BACKOFF, constellation, star.spec.id))
            self.dequeue(constellation, star.spec.id)
        else:
            self.enqueue_now(constellation, star)

    def enqueue_now(self, constellation: ConstellationId, star: TaskStar) -> None:
        """Queue a star that may be dispatched at once; an earlier entry of it is void."""
        if constellation in self.paused:
            return
        self._pushed += 1
        if self._pushed > len(self._queued) + len(self._deadlines) // 2 + SWEEP_AFTER:
            self._sweep()
        self._order += 1
        spec = star.spec
        self._queued[constellation, spec.id] = self._order
        if spec.timeouts.schedule_to_start_s is not None:
            start_by = self.start_by(constellation, star)
            if start_by is not None:
                self.push(Deadline(start_by, Timer.SCHEDULE_TO_START, constellation, spec.id))
        if spec.kind is APPROVAL:
            return
        capabilities = spec.capabilities
        heap = self.ready.get(capabilities)
        if heap is None:
            heap = self.ready[capabilities] = []
            if self._placeable is not None and self.is_offered(capabilities):
                self._placeable[capabilities] = None
        heapq.heappush(heap, ReadyStar(-spec.priority, self._order, constellation, spec.id))
        self.may_place = True

    def _sweep(self) -> None:
        """Throw away what is void: edits of a star that nobody takes would else pile up entries for ever."""
        self._pushed = 0
        for capabilities, heap in list(self.ready.items()):
            kept = [entry for entry in heap if self._queued.get((entry.constellation, entry.star)) == entry.order]
            heapq.heapify(kept)
            self.ready[capabilities] = kept
        # Most are those of attempts, and most of them have ended.
        live = {
            token
            for worker in self.workers.values()
            for token, lease in worker.running.items()
            if not lease.is_stopping
        }
        self._deadlines = [
            deadline
            for deadline in self._deadlines
            if (deadline.fencing_token in live if deadline.fencing_token else self._matters(deadline))
        ]
        heapq.heapify(self._deadlines)

    def _matters(self, deadline: Deadline) -> bool:
        """Whether it is about a request that has not ended, or a star whose own it is still, as no edit has pushed it
        anew."""
        if deadline.timer in (Timer.WORKER_LEASE, Timer.DEPARTURE):
            return True
        constellation = self.constellations.get(deadline.constellation)
        if deadline.timer in (Timer.BUDGET, Timer.PRESSURE):
            return constellation is not None and not constellation.state.is_terminal
        star = None if constellation is None else constellation.stars.get(deadline.star)
        if star is None:
            return False
        is_backoff = deadline.timer is Timer.BACKOFF
        return deadline.at == (star.retry_at if is_backoff else self.start_by(deadline.constellation, star))

    def start_by(self, constellation: ConstellationId, star: TaskStar) -> float | None:
        """When a queued star has waited for longer than it may, in seconds since the epoch."""
        limit_s = star.spec.timeouts.schedule_to_start_s
        since = star.ready_at if star.retry_at is None else star.retry_at
        if limit_s is None or since is None:
            return None
        return max(since, self.constellations[constellation].resumed_at or 0.0) + limit_s

    def dequeue(self, constellation: ConstellationId, star: StarId) -> None:
        """Void the star's entry, if it has one."""
        self._queued.pop((constellation, star), None)

    def is_queued(self, constellation: ConstellationId, star: StarId) -> bool:
        """Whether the star waits for a slot and for nothing else."""
        return (constellation, star) in self._queued

    def first_ready(self, capabilities: frozenset[str]) -> ReadyStar | None:
        """The next star that needs just these capabilities; void entries before it are thrown away."""
        heap = self.ready.get(capabilities)
        while heap:
            entry = heap[0]
            if self._queued.get((entry.constellation, entry.star)) == entry.order:
                return entry
            heapq.heappop(heap)
        if heap is not None:
            del self.ready[capabilities]
            if self._placeable is not None:
                self._placeable.pop(capabilities, None)
        return None

    def placeable(self) -> list[frozenset[str]]:
        """The capabilities that some ready star needs and some worker offers: thousands that nobody offers cost
        nothing at a step."""
        if self._placeable is None:
            self._placeable = {capabilities: None for capabilities in self.ready if self.is_offered(capabilities)}
        return list(self._placeable)

    def is_offered(self, capabilities: frozenset[str]) -> bool:
        """Whether some worker that takes stars offers all of `capabilities`."""
        found = self._offered.get(capabilities)
        if found is None:
            if len(self._offered) >= MAX_REMEMBERED:
                self._offered.clear()
            found = any(worker.takes_stars and capabilities <= worker.capabilities for worker in self.workers.values())
            self._offered[capabilities] = found
        return found

    def known_capabilities(self) -> frozenset[str]:
        """What the workers offer that are in the fleet, attached or for a moment cut off; empty while there is none."""
        if self._known is None:
            present = (worker.capabilities for worker in self.workers.values() if not worker.has_left)
            self._known = frozenset[str]().union(*present)
        return self._known

    def fleet_changed(self) -> None:
        """Forget what was derived from the fleet: a worker came, went, drained or got labels."""
        self.may_place = True
        self._offered.clear()
        self._placeable = None
        self._known = None

    def evict_ended(self) -> None:
        """Drop the oldest ended constellations beyond KEEP_ENDED; they are on disk."""
        while len(self.ended) > KEEP_ENDED:
            oldest = next(iter(self.ended))
            del self.ended[oldest]
            stars = self.constellations[oldest].stars.values()
            if oldest in self.pinned or any(attempt.holds_slot for star in stars for attempt in star.attempts):
                self.ended[oldest] = None
                return
            self._drop(oldest)

    def forget(self, constellations: Iterable[ConstellationId]) -> None:
        """Drop ended constellations that the store has forgotten; those that are not here are no loss."""
        for constellation in constellations:
            if constellation in self.ended:
                del self.ended[constellation]
                self._drop(constellation)

    def _drop(self, constellation: ConstellationId) -> None:
        gone = self.constellations.pop(constellation)
        del self.requests[gone.owner, gone.request_id]
