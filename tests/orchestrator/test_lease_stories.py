"""Hypothesis plays workers and leaders that come, go, are cut off and come back: leases and fences hold throughout, on
a real database, across restarts and takeovers."""

from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from asterism.orchestrator.core.edits import AddStar, CancelStar, EditBatch
from asterism.orchestrator.core.effects import Acknowledge, Assign, Disconnect, Effect, Stop
from asterism.orchestrator.core.errors import AsterismError, WrongState
from asterism.orchestrator.core.events import (
    AttemptFailed,
    AttemptSucceeded,
    CancelRequested,
    EditRequested,
    Event,
    HeldAttempt,
    RequestSubmitted,
    RetryRequested,
    TimePassed,
    WorkerAttached,
    WorkerDetached,
    WorkerRenewed,
)
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.records import AttemptLeased, Record, StarFinished
from asterism.orchestrator.core.request import Budget, Request
from asterism.orchestrator.core.star import RetryPolicy, StarError, StarKind, StarSpec, StarState, Timeouts
from asterism.orchestrator.core.state import State
from tests.core.picture import picture
from tests.sim.disk import BlankStore
from tests.sim.virtual import run_virtually
from tests.stories import stories

T = TypeVar("T")

# At its full size it takes minutes of a core.
pytestmark = pytest.mark.timeout(1800)

LEASE_S: Final = 10.0
SLOTS: Final = 2
STORE: Final = BlankStore()
WORKERS: Final = [WorkerId("ada"), WorkerId("bob")]


@pytest.fixture(scope="module", autouse=True)
def opened() -> Iterator[None]:
    """One database for all stories: it is made as new for each, which takes less than its migrations."""
    wait(STORE.open())
    yield
    wait(STORE.close())


def wait(work: Coroutine[Any, Any, T]) -> T:
    """The store is asynchronous, Hypothesis is not."""
    return run_virtually(work)


@dataclass
class Player:
    """A worker as it is on its own machine."""

    name: WorkerId
    instance: int = 0
    is_attached: bool = False
    inbox: list[Effect] = field(default_factory=list)
    """What the leader sent over the stream that is open, and nobody has read yet."""
    runs: dict[FencingToken, Assign] = field(default_factory=dict)
    kept: dict[FencingToken, Event] = field(default_factory=dict)
    """Reports that have not been acknowledged."""


class LeaseStory(RuleBasedStateMachine):
    """One database, one leader, those who led before it, and two workers."""

    def __init__(self) -> None:
        super().__init__()
        STORE.wipe()
        self.at = 1.0
        self.players = {name: Player(name) for name in WORKERS}
        self.leases: dict[FencingToken, AttemptLeased] = {}
        self.ends: dict[tuple[ConstellationId, StarId], StarFinished] = {}
        self.stopped: set[FencingToken] = set()
        """What a worker was told to stop, whether or not it has heard."""
        self.said: list[Event] = []
        """Every report that a worker ever made."""
        self.deposed: list[tuple[Machine, int]] = []
        self.requests = 0
        self.lead()

    def lead(self) -> None:
        """A process begins to lead, with what is on disk."""
        self.epoch = wait(STORE.acquire_epoch())
        self.machine = Machine(wait(STORE.load()), at=self.at, lease_s=LEASE_S)
        self.state: State = self.machine._state  # pyright: ignore[reportPrivateUsage]  # to compare it as a whole
        for player in self.players.values():
            player.is_attached = False
            player.inbox.clear()

    def tell(self, event: Event) -> None:
        """Step, append, and only then let the effects out."""
        try:
            outcome = self.machine.step(event)
        except AsterismError:
            return
        if outcome.records:
            wait(STORE.append(outcome.records, self.epoch))
        for record in outcome.records:
            self.check(record)
        for effect in outcome.effects:
            self.send(effect)

    def check(self, record: Record) -> None:
        if isinstance(record, AttemptLeased):
            assert all(record.fencing_token > earlier for earlier in self.leases), "fences rise for ever"
            assert self.state.workers[record.worker].takes_stars
            self.leases[record.fencing_token] = record
        elif isinstance(record, StarFinished):
            name = record.constellation, record.star
            assert name not in self.ends, "a star ends once"
            self.ends[name] = record
            if record.state is StarState.SUCCEEDED:
                newest = max(token for token, one in self.leases.items() if (one.constellation, one.star) == name)
                assert record.result == f"by {newest}", "only the newest fence may say how it ended"
                assert newest not in self.stopped, "what was stopped may not say how it ended"

    def send(self, effect: Effect) -> None:
        if not isinstance(effect, Assign | Stop | Acknowledge | Disconnect):
            return
        player = self.players[effect.worker]
        if isinstance(effect, Stop):
            self.stopped.add(effect.fencing_token)
        if isinstance(effect, Assign):
            lease = self.leases[effect.fencing_token]
            assert (lease.worker, lease.star, lease.attempt) == (effect.worker, effect.star, effect.attempt)
        if isinstance(effect, Disconnect):
            if effect.instance == str(player.instance):
                player.is_attached = False
                player.inbox.clear()
        elif player.is_attached:
            player.inbox.append(effect)

    @initialize()
    def begin(self) -> None:
        self.submit()
        for name in WORKERS:
            self.come_back(name, restarted=False)

    @precondition(lambda self: self.requests < 3)
    @rule()
    def submit(self) -> None:
        """A request of four stars."""
        self.requests += 1
        name = ConstellationId(f"c{self.requests}")
        self.tell(
            RequestSubmitted(self.at, name, f"r{name}", "ann", Request("plan", ""), Budget(90, 900, None), self.star(0))
        )
        batch = EditBatch(tuple(AddStar(self.star(number)) for number in range(1, 4)))
        self.tell(EditRequested(self.at, name, "client:ann", batch))

    def star(self, number: int) -> StarSpec:
        timeouts = Timeouts(start_to_close_s=25.0 if number == 1 else None, heartbeat_s=None)
        retry = RetryPolicy(3, 2.0 if number == 2 else 0.0)
        return StarSpec(StarId(f"s{number}"), StarKind.TOOL, "t", timeouts=timeouts, retry=retry)

    @rule(name=st.sampled_from(WORKERS), count=st.integers(1, 3))
    def read(self, name: WorkerId, count: int) -> None:
        """A worker reads what has come over its stream."""
        player = self.players[name]
        for effect in player.inbox[:count]:
            match effect:
                case Assign(fencing_token=token):
                    player.runs[token] = effect
                case Stop(fencing_token=token):
                    player.runs.pop(token, None)
                    if token not in player.kept:
                        error = StarError("stopped", "as told")
                        player.kept[token] = AttemptFailed(self.at, name, token, error, is_stopped=True)
                case Acknowledge(fencing_tokens=tokens):
                    for token in tokens:
                        player.kept.pop(token, None)
                case _:
                    pass
        del player.inbox[:count]

    @rule(name=st.sampled_from(WORKERS), succeeds=st.booleans(), pick=st.integers(0, 3))
    def end(self, name: WorkerId, succeeds: bool, pick: int) -> None:
        """What a worker runs ends; it keeps the report, connected or not."""
        player = self.players[name]
        if not player.runs:
            return
        token = sorted(player.runs)[pick % len(player.runs)]
        del player.runs[token]
        error = StarError("boom", "it broke", retryable=True)
        player.kept[token] = (
            AttemptSucceeded(self.at, name, token, f"by {token}")
            if succeeds
            else AttemptFailed(self.at, name, token, error)
        )

    @rule(name=st.sampled_from(WORKERS))
    def report(self, name: WorkerId) -> None:
        """A worker sends every report that it keeps, again where it did before."""
        player = self.players[name]
        if player.is_attached:
            for event in list(player.kept.values()):
                self.said.append(event)
                self.tell(event)

    @rule(name=st.sampled_from(WORKERS), succeeds=st.booleans(), pick=st.integers(0, 3))
    def work(self, name: WorkerId, succeeds: bool, pick: int) -> None:
        """All of that at once, as on a good day."""
        self.read(name, len(self.players[name].inbox))
        self.end(name, succeeds, pick)
        self.report(name)

    @precondition(lambda self: self.said)
    @rule(pick=st.integers(0, 200))
    def repeat(self, pick: int) -> None:
        """A report of long ago comes once more: it changes nothing where its attempt holds no slot."""
        event = self.said[pick % len(self.said)]
        assert isinstance(event, AttemptSucceeded | AttemptFailed)
        if event.worker not in self.state.workers or event.fencing_token in self.state.workers[event.worker].running:
            return
        before = picture(self.state)
        self.tell(event)
        assert picture(self.state) == before

    @rule(name=st.sampled_from(WORKERS), goodbye=st.booleans())
    def cut(self, name: WorkerId, goodbye: bool) -> None:
        """A stream ends, and what was on it is lost."""
        player = self.players[name]
        if player.is_attached:
            player.is_attached = False
            player.inbox.clear()
            self.tell(WorkerDetached(self.at, name, str(player.instance), goodbye and not player.runs))

    @rule(name=st.sampled_from(WORKERS), restarted=st.booleans())
    def come_back(self, name: WorkerId, restarted: bool) -> None:
        """A worker opens a stream, and names what it still has."""
        player = self.players[name]
        if restarted:
            # Its stream ends with its process; a namesake would be refused while that is open.
            self.cut(name, False)
            player.instance += 1
            player.runs.clear()
            player.kept.clear()
        player.is_attached = True
        player.inbox.clear()
        held = tuple(HeldAttempt(token) for token in sorted({*player.runs, *player.kept}))
        profile = WorkerProfile(SLOTS, tools=("t",))
        before = max(self.leases, default=0)
        self.tell(WorkerAttached(self.at, name, str(player.instance), profile, held))
        for token, lease in self.state.workers[name].running.items():
            known = token > before or HeldAttempt(token) in held
            assert known or (lease.is_stopping and not restarted), "what a worker does not hold is lost at once"

    @rule(name=st.sampled_from(WORKERS))
    def renew(self, name: WorkerId) -> None:
        if self.players[name].is_attached:
            self.tell(WorkerRenewed(self.at, name))

    @rule(seconds=st.sampled_from([0.5, 3.0, 11.0, 30.0]))
    def pass_time(self, seconds: float) -> None:
        self.at += seconds
        self.tell(TimePassed(self.at))

    @rule(number=st.integers(1, 3))
    def retry(self, number: int) -> None:
        self.tell(RetryRequested(self.at, ConstellationId(f"c{number}"), "client:ann"))

    @rule(data=st.data())
    def stop_something(self, data: st.DataObject) -> None:
        """A star or a request is cancelled while it runs: its worker is told, and holds the slot until it answers."""
        running = sorted(
            (one.constellation, one.star) for worker in self.state.workers.values() for one in worker.running.values()
        )
        if running:
            name, star = data.draw(st.sampled_from(running))
            if data.draw(st.booleans()):
                self.tell(EditRequested(self.at, name, "client:ann", EditBatch((CancelStar(star),))))
            else:
                self.tell(CancelRequested(self.at, name, "enough"))

    @rule(lives=st.booleans())
    def another_leads(self, lives: bool) -> None:
        """The leader ends, or (`lives`) another takes over while it goes on: what was on disk is all that there is."""
        before = picture(self.state)
        if lives:
            self.deposed.append((self.machine, self.epoch))
        self.lead()
        after = picture(self.state)
        live = {name for name in before["constellations"] if self.is_live(before["constellations"][name])}
        assert after["constellations"].keys() == live
        for name in live:
            assert after["constellations"][name].stars.keys() == before["constellations"][name].stars.keys()
            for star, of in before["constellations"][name].stars.items():
                found = after["constellations"][name].stars[star]
                assert (found.state, found.attempts, found.retry_at) == (of.state, of.attempts, of.retry_at)
        for key in ("workers", "held", "last_seq", "last_fencing_token"):
            assert after[key] == before[key], key

    @staticmethod
    def is_live(constellation: Any) -> bool:
        held = any(attempt.holds_slot for star in constellation.stars.values() for attempt in star.attempts)
        return held or not constellation.state.is_terminal

    @precondition(lambda self: self.deposed)
    @rule(pick=st.integers(0, 9), seconds=st.sampled_from([1.0, 60.0]))
    def one_who_led_goes_on(self, pick: int, seconds: float) -> None:
        """It does not know yet: whatever it decides, nothing lands."""
        machine, epoch = self.deposed.pop(pick % len(self.deposed))
        before = wait(STORE.load())
        outcome = machine.step(TimePassed(self.at + seconds))
        if outcome.records:
            with pytest.raises(WrongState, match="taken over"):
                wait(STORE.append(outcome.records, epoch))
        with pytest.raises(WrongState, match="taken over"):
            wait(STORE.forget(self.at + seconds, (), 9, epoch))
        assert wait(STORE.load()) == before

    @rule(age_s=st.sampled_from([0.0, 5.0]))
    def forget(self, age_s: float) -> None:
        """The retention comes round."""
        while gone := wait(STORE.forget(self.at - age_s, (), 3, self.epoch)):
            self.machine.forget(gone)
            assert not {
                lease.constellation for one in self.state.workers.values() for lease in one.running.values()
            } & {*gone}

    @invariant()
    def one_live_attempt_a_star_and_no_slot_too_many(self) -> None:
        live = Counter[tuple[ConstellationId, StarId]]()
        for worker in self.state.workers.values():
            assert len(worker.running) <= SLOTS
            assert worker.running.keys() <= self.leases.keys()
            live.update((one.constellation, one.star) for one in worker.running.values() if not one.is_stopping)
        assert max(live.values(), default=0) <= 1
        assert not live.keys() & self.ends.keys()

    @invariant()
    def no_worker_has_a_fence_that_the_store_has_not(self) -> None:
        for player in self.players.values():
            assert player.runs.keys() | player.kept.keys() <= self.leases.keys()


TestLeaseStory = LeaseStory.TestCase
TestLeaseStory.settings = stories(40)
