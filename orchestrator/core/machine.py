"""The whole orchestrator as one pure function of its events: `step(event) -> Outcome`."""

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import assert_never

from asterism.orchestrator.core.attempts import apply_batch, on_failed, on_progressed, on_proposed, on_succeeded
from asterism.orchestrator.core.check import check_batch, check_spec
from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.deadlines import on_time
from asterism.orchestrator.core.dispatch import dispatch
from asterism.orchestrator.core.edits import AddStar, EditBatch, adds_stars
from asterism.orchestrator.core.effects import Acknowledge, Outcome, Reply
from asterism.orchestrator.core.ending import end_constellation, end_if_finished
from asterism.orchestrator.core.errors import AlreadyExists, InvalidField, NotFound, WrongState
from asterism.orchestrator.core.events import (
    AttemptFailed,
    AttemptProgressed,
    AttemptSucceeded,
    CancelRequested,
    Decided,
    DrainRequested,
    EditRequested,
    EditsProposed,
    Event,
    LabelRequested,
    PauseRequested,
    ReplanRequested,
    RequestSubmitted,
    RetryRequested,
    TimePassed,
    WorkerAttached,
    WorkerDetached,
    WorkerEvent,
    WorkerLeaving,
    WorkerRenewed,
    WorkerSaid,
)
from asterism.orchestrator.core.fleet import on_attached, on_detached, on_drain, on_label, on_leaving, renew
from asterism.orchestrator.core.ids import ConstellationId, StarId, WorkerId
from asterism.orchestrator.core.people import on_decided, on_pause
from asterism.orchestrator.core.records import RequestAccepted
from asterism.orchestrator.core.replan import on_wish
from asterism.orchestrator.core.request import Budget, ConstellationState
from asterism.orchestrator.core.results import Results
from asterism.orchestrator.core.retry import check_left, retry_batch
from asterism.orchestrator.core.snapshot import Snapshot
from asterism.orchestrator.core.state import State, Tell, Worker, tell_nothing
from asterism.orchestrator.core.turn import Turn
from asterism.orchestrator.core.waiting import waiting_for


class Machine:
    """Holds the state and steps it. Not safe for two OS threads: its owner is the loop."""

    def __init__(
        self, snapshot: Snapshot, *, at: float, lease_s: float, tell: Tell = tell_nothing, reuses: bool = False
    ) -> None:
        """`tell` says to stars what is around them; `reuses` lets pure stars of one tenant share results."""
        self._state = State.from_snapshot(snapshot, at=at, lease_s=lease_s)
        self._state.tell = tell
        self._state.results = Results() if reuses else None
        self._lease_s = lease_s

    @property
    def constellations(self) -> Mapping[ConstellationId, TaskConstellation]:
        """Those in memory: all that run, and the latest of those that ended. To be read only."""
        return MappingProxyType(self._state.constellations)

    @property
    def workers(self) -> Mapping[WorkerId, Worker]:
        """Every worker that is known, attached or not. To be read only."""
        return MappingProxyType(self._state.workers)

    @property
    def known_capabilities(self) -> frozenset[str]:
        """What the workers of the fleet offer; empty while there is none."""
        return self._state.known_capabilities()

    def next_deadline(self) -> float | None:
        """When a TimePassed is due at the latest, in seconds since the epoch."""
        return self._state.next_deadline()

    def waiting_for(self, constellation: ConstellationId) -> Mapping[StarId, str]:
        """What each star that neither runs nor is terminal waits for; empty for one that is not in memory."""
        found = self._state.constellations.get(constellation)
        return {} if found is None else waiting_for(self._state, found)

    def adopt(self, constellation: TaskConstellation, *, at: float) -> None:
        """Take an ended constellation back into memory, so that it can be edited or retried."""
        if constellation.id not in self._state.constellations:
            self._state.adopt(constellation, at=at)

    def pin(self, constellation: ConstellationId) -> None:
        """Do not forget it, until `unpin` as often: an event that needs it is on its way."""
        self._state.pinned[constellation] += 1

    def unpin(self, constellation: ConstellationId) -> None:
        """That event has been stepped, or will not be."""
        self._state.pinned[constellation] -= 1
        if not self._state.pinned[constellation]:
            del self._state.pinned[constellation]

    @property
    def pinned(self) -> Collection[ConstellationId]:
        """What is not to be forgotten now."""
        return self._state.pinned.keys()

    def forget(self, constellations: Iterable[ConstellationId]) -> None:
        """Drop ended constellations that are on disk no more."""
        self._state.forget(constellations)

    def step(self, event: Event) -> Outcome:
        """Decide what the event means, and make the state so.

        Raises a leaf of AsterismError when a client's event, or the attaching of a worker, is refused; then nothing
        has changed.
        """
        turn = Turn(self._state, event.at, _chance(event))
        self._take(turn, event)
        if turn.reported and isinstance(event, WorkerSaid | AttemptSucceeded | AttemptFailed):
            turn.outcome.effects.insert(0, Acknowledge(event.worker, tuple(turn.reported)))
        dispatch(turn)
        for constellation_id in turn.touched:
            end_if_finished(turn, self._state.constellations[constellation_id])
        self._state.evict_ended()
        return turn.outcome

    def _take(self, turn: Turn, event: Event) -> None:
        match event:
            case WorkerSaid():
                renew(self._state.workers[event.worker], event.at, self._lease_s)
                for one in event.events:
                    turn.at = one.at
                    _hear(turn, one)
            case (
                AttemptSucceeded()
                | AttemptProgressed()
                | AttemptFailed()
                | EditsProposed()
                | WorkerRenewed()
                | WorkerLeaving()
            ):
                renew(self._state.workers[event.worker], event.at, self._lease_s)
                _hear(turn, event)
            case TimePassed():
                on_time(turn)
            case RequestSubmitted():
                self._submit(turn, event)
            case EditRequested():
                self._edit(turn, event.constellation, event.batch, event.by, reason=event.reason)
            case ReplanRequested():
                self._replan(turn, event)
            case CancelRequested():
                self._cancel(turn, event)
            case Decided():
                constellation = self._find(event.constellation)
                on_decided(turn, constellation, event)
                turn.outcome.reply = Reply(constellation.id, constellation.revision)
            case PauseRequested():
                constellation = self._find(event.constellation)
                on_pause(turn, constellation, event)
                turn.outcome.reply = Reply(constellation.id, constellation.revision)
            case RetryRequested():
                constellation = self._find(event.constellation)
                batch = retry_batch(constellation, event.stars, event.rebinds)
                self._edit(turn, event.constellation, batch, event.by, is_retry=True)
            case WorkerAttached():
                on_attached(turn, event, self._lease_s)
            case WorkerDetached():
                on_detached(turn, event)
            case DrainRequested():
                on_drain(turn, event)
            case LabelRequested():
                on_label(turn, event)
            case _:
                assert_never(event)

    def _find(self, constellation: ConstellationId) -> TaskConstellation:
        found = self._state.constellations.get(constellation)
        if found is None:
            raise NotFound("request", constellation)
        return found

    def _submit(self, turn: Turn, event: RequestSubmitted) -> None:
        known = self._state.requests.get((event.owner, event.request_id))
        if known is not None:
            earlier = self._state.constellations[known]
            if (earlier.request, earlier.budget) != (event.request, event.budget):
                raise AlreadyExists("request_id", event.request_id, "it named another request")
            turn.outcome.reply = Reply(known, earlier.revision, is_new=False)
            return
        _check_budget(event.budget)
        new = TaskConstellation(
            event.constellation, event.request_id, event.owner, event.request, event.budget, event.at, event.at
        )
        batch = EditBatch((AddStar(event.plan),))
        check_batch(new, batch, self._state.known_capabilities())
        if event.replan is not None:
            check_spec(event.replan, self._state.known_capabilities())
        turn.record(
            RequestAccepted(
                turn.seq, turn.at, new.id, event.request_id, event.owner, event.request, event.budget, event.replan
            )
        )
        accepted = self._state.constellations[new.id]
        apply_batch(turn, accepted, batch, f"client:{event.owner}")
        turn.outcome.reply = Reply(new.id, accepted.revision)

    def _edit(
        self,
        turn: Turn,
        constellation_id: ConstellationId,
        batch: EditBatch,
        by: str,
        *,
        reason: str = "",
        is_retry: bool = False,
    ) -> None:
        constellation = self._find(constellation_id)
        check_batch(constellation, batch, self._state.known_capabilities(), is_retry=is_retry)
        if constellation.state.is_terminal:
            if not adds_stars(batch):
                reason = "only an edit that adds a star brings it back; a retry runs again what failed or was cancelled"
                raise WrongState("request", constellation.id, constellation.state.value, reason)
            check_left(constellation)
        turn.outcome.reply = Reply(constellation.id, apply_batch(turn, constellation, batch, by, reason))

    def _replan(self, turn: Turn, event: ReplanRequested) -> None:
        constellation = self._find(event.constellation)
        on_wish(turn, constellation, event)
        turn.outcome.reply = Reply(constellation.id, constellation.revision)

    def _cancel(self, turn: Turn, event: CancelRequested) -> None:
        constellation = self._find(event.constellation)
        if constellation.state in (ConstellationState.SUCCEEDED, ConstellationState.FAILED):
            raise WrongState("request", constellation.id, constellation.state.value, "it has ended already")
        if constellation.state is ConstellationState.RUNNING:
            end_constellation(turn, constellation, ConstellationState.CANCELLED, event.reason or "cancelled")
        turn.outcome.reply = Reply(constellation.id, constellation.revision)


def _hear(turn: Turn, event: WorkerEvent) -> None:
    """What an attached worker says, which is a sign of life besides."""
    match event:
        case AttemptSucceeded():
            on_succeeded(turn, event)
        case AttemptProgressed():
            on_progressed(turn, event)
        case AttemptFailed():
            turn.chance = event.chance
            on_failed(turn, event)
            turn.chance = 0.0
        case EditsProposed():
            on_proposed(turn, event)
        case WorkerRenewed():
            pass
        case WorkerLeaving():
            on_leaving(turn, event)
        case _:
            assert_never(event)


def _check_budget(budget: Budget) -> None:
    if not 1 <= budget.stars <= 1_000_000:
        raise InvalidField("budget.stars", f"{budget.stars} is outside 1 to 1,000,000")
    if not 1 <= budget.attempts <= 10_000_000:
        raise InvalidField("budget.attempts", f"{budget.attempts} is outside 1 to 10,000,000")
    if budget.tokens is not None and not 1 <= budget.tokens <= 10**15:
        raise InvalidField("budget.tokens", f"{budget.tokens} is outside 1 to 10**15")
    if not 0 <= budget.replans <= 100:
        raise InvalidField("budget.replans", f"{budget.replans} is outside 0 to 100")
    if budget.seconds is not None and not 0 < budget.seconds <= 366 * 86400:
        raise InvalidField("budget.seconds", f"{budget.seconds:g} is not between 0 and a year")


def _chance(event: Event) -> float:
    match event:
        case TimePassed(chance=chance) | WorkerDetached(chance=chance):
            return chance
        case _:
            return 0.0
