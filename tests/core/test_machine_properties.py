"""Hypothesis drives the machine with clients, workers and time; the invariants of ARCHITECTURE.md hold throughout."""

from dataclasses import replace
from typing import Any

import networkx
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from asterism.orchestrator.core import replan
from asterism.orchestrator.core.condition import Comparison, Condition
from asterism.orchestrator.core.edits import (
    AddLine,
    AddStar,
    CancelStar,
    Edit,
    EditBatch,
    RebindInputs,
    RemoveLine,
    RemoveStar,
    UpdateStar,
)
from asterism.orchestrator.core.effects import Acknowledge, AnswerEdits, Assign, Effect, Stop
from asterism.orchestrator.core.ending import find_skip
from asterism.orchestrator.core.errors import AsterismError
from asterism.orchestrator.core.events import (
    AttemptFailed,
    AttemptProgressed,
    AttemptSucceeded,
    CancelRequested,
    Chunk,
    DrainRequested,
    EditRequested,
    EditsProposed,
    Event,
    HeldAttempt,
    LabelRequested,
    ReplanRequested,
    RequestSubmitted,
    RetryRequested,
    TimePassed,
    WorkerAttached,
    WorkerDetached,
    WorkerLeaving,
    WorkerRenewed,
)
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.records import EditsApplied, EditsRefused, Record
from asterism.orchestrator.core.request import Budget, Request
from asterism.orchestrator.core.snapshot import Snapshot
from asterism.orchestrator.core.star import (
    Constant,
    OutputOf,
    ParentOutcomes,
    RetryPolicy,
    StarError,
    StarInput,
    StarKind,
    StarSpec,
    StarState,
    Timeouts,
)
from asterism.orchestrator.core.values import Artifact
from tests.core.picture import picture, replayed
from tests.stories import stories

# At its full size it takes minutes of a core.
pytestmark = pytest.mark.timeout(1800)

LEASE_S = 10.0
NAMES = [StarId(f"s{number}") for number in range(8)]
WORKERS = [WorkerId("ada"), WorkerId("bob"), WorkerId("cyd")]

star_names = st.sampled_from([*NAMES, StarId("plan"), StarId("nobody")])
inputs: st.SearchStrategy[StarInput] = st.one_of(
    st.builds(Constant, st.sampled_from([1, "${s1.out}", {"$from": "s1"}])),
    st.builds(OutputOf, star_names, st.sampled_from([(), ("a",), ("a", 0), ("missing",)])),
    st.just(ParentOutcomes()),
)
specs = st.builds(
    StarSpec,
    id=st.sampled_from(NAMES),
    kind=st.sampled_from(list(StarKind)),
    program=st.sampled_from(["p", "q"]),
    inputs=st.dictionaries(st.sampled_from(["x", "y"]), inputs, max_size=2),
    requires=st.sampled_from([frozenset[str](), frozenset({"model:m"}), frozenset({"label:zone=lab"})]),
    priority=st.integers(-2, 2),
    timeouts=st.builds(
        Timeouts, st.sampled_from([None, 3.0]), st.sampled_from([None, 5.0]), st.sampled_from([None, 2.0])
    ),
    retry=st.builds(RetryPolicy, max_attempts=st.integers(1, 3), backoff_s=st.sampled_from([0.0, 1.0])),
    may_edit=st.booleans(),
    quorum=st.sampled_from([0, 0, 1, 2]),
    replan_when=st.sampled_from([None, None, Condition.of(("result", "a"), Comparison.EQ, 1)]),
)
conditions = st.builds(
    Condition.of,
    st.sampled_from([("state",), ("result", "a"), ("error", "code")]),
    st.sampled_from(list(Comparison)),
    st.sampled_from(["FAILED", 1, None]),
)
lines = st.one_of(
    st.builds(
        TaskStarLine,
        star_names,
        star_names,
        st.sampled_from([LineKind.SUCCESS, LineKind.COMPLETION, LineKind.QUORUM, LineKind.STREAM]),
    ),
    st.builds(TaskStarLine, star_names, star_names, st.just(LineKind.CONDITION), conditions),
)
edits: st.SearchStrategy[Edit] = st.one_of(
    st.builds(AddStar, specs),
    st.builds(AddStar, specs, st.lists(star_names, max_size=2).map(tuple)),
    st.builds(AddLine, lines),
    st.builds(RemoveStar, star_names),
    st.builds(UpdateStar, star_names, priority=st.integers(-3, 3)),
    st.builds(RemoveLine, star_names, star_names),
    st.builds(RebindInputs, star_names, st.dictionaries(st.sampled_from(["x", "y"]), inputs, max_size=2)),
    st.builds(CancelStar, star_names),
)
batches = st.builds(
    EditBatch, st.lists(edits, min_size=1, max_size=5).map(tuple), st.one_of(st.none(), st.integers(0, 6))
)
RULE = StarSpec(StarId("replan"), StarKind.PLAN, "q", may_edit=True, retry=RetryPolicy(2, 0.0))
ARTIFACT = Artifact("ab" * 32, 100_000)
results = st.sampled_from([None, {"a": 1}, {"a": [1, 2]}, "$1 {{x}} ${s1.out}", ARTIFACT])


class MachineStory(RuleBasedStateMachine):
    """The world around the machine: what it was told, and what it did about it."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine(Snapshot((), (), 0, FencingToken(0)), at=0.0, lease_s=LEASE_S)
        self.state = self.machine._state  # pyright: ignore[reportPrivateUsage]  # its indexes have invariants too
        self.at = 1.0
        self.records: list[Record] = []
        self.assigned: dict[FencingToken, Assign] = {}
        self.instances = dict.fromkeys(WORKERS, 0)
        self.frozen: dict[tuple[ConstellationId, StarId], Any] = {}
        self.requests = 0
        self.answers: dict[tuple[FencingToken, int], AnswerEdits] = {}
        """To proposals, by the attempt and their number in it."""

    def tell(self, event: Event) -> list[Effect]:
        before = picture(self.state)
        try:
            outcome = self.machine.step(event)
        except AsterismError:
            assert picture(self.state) == before, "a refused event changed something"
            return []
        self.records.extend(outcome.records)
        for effect in outcome.effects:
            if isinstance(effect, Assign):
                assert effect.fencing_token not in self.assigned
                assert all(effect.fencing_token > earlier for earlier in self.assigned)
                self.assigned[effect.fencing_token] = effect
        return outcome.effects

    def attach(self, worker: WorkerId, held: tuple[HeldAttempt, ...] = ()) -> None:
        profile = WorkerProfile(2, models=("m",) if worker != "cyd" else (), tools=("p", "q"), programs=("p", "q"))
        self.tell(WorkerAttached(self.at, worker, str(self.instances[worker]), profile, held))

    def live(self, worker: WorkerId | None = None) -> list[Assign]:
        return [
            self.assigned[token]
            for known in self.state.workers.values()
            for token, lease in known.running.items()
            if not lease.is_stopping and worker in (None, known.id)
        ]

    @initialize()
    def begin(self) -> None:
        for worker in WORKERS[:2]:
            self.attach(worker)
        self.submit()

    @precondition(lambda self: self.requests < 3)
    @rule(replans=st.integers(0, 3))
    def submit(self, replans: int = 2) -> None:
        self.requests += 1
        plan = StarSpec(StarId("plan"), StarKind.PLAN, "p", may_edit=True, retry=RetryPolicy(2, 0.0))
        request_id = f"r{self.requests}"
        constellation = ConstellationId(f"c{self.requests}")
        budget = Budget(7 + 2 * replans, 30, 40.0, replans=replans)
        request = Request("x", "t")
        self.tell(RequestSubmitted(self.at, constellation, request_id, "me", request, budget, plan, RULE))
        again = RequestSubmitted(self.at, ConstellationId("other"), request_id, "me", request, budget, plan, RULE)
        before = picture(self.state)
        assert self.machine.step(again).reply is not None
        assert picture(self.state) == before

    @rule(number=st.integers(1, 3), rule=st.sampled_from([None, RULE]))
    def replan(self, number: int, rule: StarSpec | None) -> None:
        self.tell(ReplanRequested(self.at, ConstellationId(f"c{number}"), "client:me", "why", rule))

    @rule(number=st.integers(1, 3), batch=batches)
    def edit(self, number: int, batch: EditBatch) -> None:
        self.tell(EditRequested(self.at, ConstellationId(f"c{number}"), "client:me", batch))

    @rule(data=st.data(), number=st.integers(1, 3), proposes=st.booleans())
    def grow(self, data: st.DataObject, number: int, proposes: bool) -> None:
        """Add a star whose lines and inputs fit the graph as it is."""
        constellation = self.state.constellations.get(ConstellationId(f"c{number}"))
        if constellation is None or not constellation.stars:
            return
        free = [name for name in NAMES if name not in constellation.stars]
        names = list(constellation.stars)
        if not free:
            return
        spec = data.draw(specs)
        parents = data.draw(st.lists(st.sampled_from(names), max_size=3, unique=True))
        waiting = [n for n in names if constellation.stars[n].state in (StarState.WAITING, StarState.READY)]
        children = data.draw(st.lists(st.sampled_from(waiting), max_size=1)) if waiting else []
        taken: dict[str, StarInput] = {f"in{index}": OutputOf(name) for index, name in enumerate(parents[:1])}
        plain = parents[: data.draw(st.integers(0, 3))]
        new: list[Edit] = [AddStar(replace(spec, id=free[0], inputs=taken, requires=frozenset()), tuple(plain))]
        kinds = data.draw(st.lists(st.sampled_from(list(LineKind)), min_size=4, max_size=4))
        for kind, (parent, child) in zip(
            kinds, [(p, free[0]) for p in parents[len(plain) :]] + [(free[0], c) for c in children], strict=False
        ):
            condition = data.draw(conditions) if kind is LineKind.CONDITION else None
            new.append(AddLine(TaskStarLine(parent, child, kind, condition)))
        batch = EditBatch(tuple(new))
        of_this = [attempt for attempt in self.live() if attempt.constellation == constellation.id and attempt.may_edit]
        if proposes and of_this:
            self.tell(EditsProposed(self.at, of_this[0].worker, of_this[0].fencing_token, 0, batch))
        else:
            self.tell(EditRequested(self.at, constellation.id, "client:me", batch))

    @rule(data=st.data(), number=st.integers(1, 3))
    def change(self, data: st.DataObject, number: int) -> None:
        """Edit what is there: most of it may be edited."""
        constellation = self.state.constellations.get(ConstellationId(f"c{number}"))
        if constellation is None or not constellation.stars:
            return
        name = data.draw(st.sampled_from(list(constellation.stars)))
        lines_now = list(constellation.lines())
        choices: list[Edit] = [
            UpdateStar(name, priority=data.draw(st.integers(-2, 2)), timeouts=Timeouts(2.0, 2.0, 1.0)),
            UpdateStar(name, requires=frozenset({"model:m"}), retry=RetryPolicy(2, 0.5), title="t"),
            RebindInputs(name, {"x": data.draw(inputs)}),
            RemoveStar(name),
            CancelStar(name),
        ]
        if lines_now:
            line = data.draw(st.sampled_from(lines_now))
            choices.append(RemoveLine(line.parent, line.child))
        self.tell(
            EditRequested(self.at, constellation.id, "client:me", EditBatch((data.draw(st.sampled_from(choices)),)))
        )

    @rule(pick=st.integers(0), batch=batches, proposal=st.integers(0, 3))
    def propose(self, pick: int, batch: EditBatch, proposal: int) -> None:
        """0 is for what cannot be said again; each of the others counts once for an attempt."""
        if live := self.live():
            attempt = live[pick % len(live)]
            of, before = (attempt.fencing_token, proposal), len(self.records)
            effects = self.tell(EditsProposed(self.at, attempt.worker, *of, batch))
            (answer,) = (effect for effect in effects if isinstance(effect, AnswerEdits))
            records = self.records[before:]
            if of in self.answers:
                assert (answer, records) == (self.answers[of], [])
            elif any(isinstance(record, EditsApplied | EditsRefused) and record.proposal for record in records):
                self.answers[of] = answer

    @rule(pick=st.integers(0), result=results, batch=st.one_of(st.none(), batches))
    def succeed(self, pick: int, result: Any, batch: EditBatch | None) -> None:
        if live := self.live():
            attempt = live[pick % len(live)]
            self.tell(AttemptSucceeded(self.at, attempt.worker, attempt.fencing_token, result, batch))
            star = self.state.constellations[attempt.constellation].stars[attempt.star]
            assert star.state in (StarState.SUCCEEDED, StarState.FAILED)

    @rule(pick=st.integers(0), retryable=st.booleans(), stopped=st.booleans(), chance=st.floats(0, 0.99))
    def fail(self, pick: int, retryable: bool, stopped: bool, chance: float) -> None:
        if live := self.live():
            attempt = live[pick % len(live)]
            error = StarError("boom", "it went wrong", retryable)
            self.tell(AttemptFailed(self.at, attempt.worker, attempt.fencing_token, error, stopped, chance))

    @rule(pick=st.integers(0))
    def stream(self, pick: int) -> None:
        if live := self.live():
            attempt = live[pick % len(live)]
            before = picture(self.state)
            chunk = Chunk("main", "hello", 1)
            self.tell(AttemptProgressed(self.at, attempt.worker, attempt.fencing_token, (chunk,)))
            assert picture(self.state) == before

    @rule(worker=st.sampled_from(WORKERS), token=st.integers(0, 40), result=results)
    def say_something_stale(self, worker: WorkerId, token: int, result: Any) -> None:
        fencing_token = FencingToken(token)
        known = self.state.workers.get(worker)
        if known is None or fencing_token in known.running:
            return
        before = picture(self.state)
        effects = self.tell(AttemptSucceeded(self.at, worker, fencing_token, result))
        assert Acknowledge(worker, (fencing_token,)) in effects
        effects = self.tell(AttemptProgressed(self.at, worker, fencing_token, ()))
        assert [type(effect) for effect in effects] == [Stop]
        after = picture(self.state)
        assert after == before

    @rule()
    def confirm_stops(self) -> None:
        for worker in list(self.state.workers.values()):
            for token, lease in list(worker.running.items()):
                if lease.is_stopping and worker.is_attached:
                    self.tell(AttemptFailed(self.at, worker.id, token, StarError("stopped", ""), is_stopped=True))
                    assert token not in worker.running

    @rule(worker=st.sampled_from(WORKERS), goodbye=st.booleans())
    def detach(self, worker: WorkerId, goodbye: bool) -> None:
        known = self.state.workers.get(worker)
        if known is not None and known.is_attached:
            self.tell(WorkerDetached(self.at, worker, known.instance, goodbye))

    @rule(worker=st.sampled_from(WORKERS), restarted=st.booleans(), keeps=st.integers(0, 7))
    def come_back(self, worker: WorkerId, restarted: bool, keeps: int) -> None:
        known = self.state.workers.get(worker)
        self.instances[worker] += restarted
        running = sorted(known.running) if known is not None else []
        held = tuple(HeldAttempt(token) for bit, token in enumerate(running) if keeps >> bit & 1)
        self.attach(worker, held)

    @rule(worker=st.sampled_from([*WORKERS, WorkerId("nobody")]), draining=st.booleans())
    def drain(self, worker: WorkerId, draining: bool) -> None:
        self.tell(DrainRequested(self.at, worker, draining))

    @rule(worker=st.sampled_from(WORKERS), value=st.sampled_from(["lab", None, "no name"]))
    def label(self, worker: WorkerId, value: str | None) -> None:
        self.tell(LabelRequested(self.at, worker, {"zone": value}))

    @rule(worker=st.sampled_from(WORKERS))
    def renew_or_leave(self, worker: WorkerId) -> None:
        if worker in self.state.workers:
            self.tell(WorkerRenewed(self.at, worker))
            if self.state.workers[worker].is_attached and self.at % 2 < 1:
                self.tell(WorkerLeaving(self.at, worker))

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 11.0, 45.0]), chance=st.floats(0, 0.99))
    def pass_time(self, seconds: float, chance: float) -> None:
        self.at += seconds
        self.tell(TimePassed(self.at, chance))
        due = self.machine.next_deadline()
        assert due is None or due > self.at

    @rule(number=st.integers(1, 3))
    def cancel(self, number: int) -> None:
        if self.at > 4:
            self.tell(CancelRequested(self.at, ConstellationId(f"c{number}"), "enough"))

    @rule(number=st.integers(1, 3))
    def retry(self, number: int) -> None:
        self.tell(RetryRequested(self.at, ConstellationId(f"c{number}"), "client:me"))

    @invariant()
    def slots_are_conserved(self) -> None:
        for worker in self.state.workers.values():
            assert len(worker.running) <= worker.profile.slots
            held = {
                attempt.fencing_token
                for constellation in self.state.constellations.values()
                for star in constellation.stars.values()
                for attempt in star.attempts
                if attempt.holds_slot and attempt.worker == worker.id
            }
            assert held == set(worker.running)
            assert not (worker.has_left and worker.running)

    @invariant()
    def stars_and_counters_agree(self) -> None:
        for constellation in self.state.constellations.values():
            for star_id, star in constellation.stars.items():
                parents = constellation.parents.get(star_id, {})
                others = [p for p, line in parents.items() if line.kind is not LineKind.QUORUM]
                voters = [constellation.stars[p].state for p, line in parents.items() if line.kind is LineKind.QUORUM]
                lacking = max(0, star.spec.quorum - voters.count(StarState.SUCCEEDED))
                open_parents = [p for p in others if not parents[p].is_met(constellation.stars[p].state)]
                assert star.unmet == len(open_parents) + lacking
                lost = voters.count(StarState.FAILED) + voters.count(StarState.CANCELLED)
                assert star.quorum_spare == len(voters) - lost - star.spec.quorum
                is_held = star_id in constellation.parents and replan.is_held(constellation, star_id)
                assert star.quorum_spare >= 0 or star.state.is_terminal or is_held, "it waits for what cannot come"
                assert [attempt.number for attempt in star.attempts] == list(range(1, len(star.attempts) + 1))
                assert all(attempt.outcome is not None for attempt in star.attempts[:-1])
                assert (star.state is StarState.RUNNING) == (star.live_attempt is not None)
                if self.state.is_queued(constellation.id, star_id):
                    assert star.state in (StarState.WAITING, StarState.READY)
                    assert star.unmet == 0
                if star.state is StarState.RUNNING:
                    assert star.unmet == 0
                    heard = [p for p, line in parents.items() if line.kind is LineKind.STREAM]
                    states = {constellation.stars[p].state for p in heard}
                    assert states <= {StarState.RUNNING, StarState.SUCCEEDED}, "it hears what is void"
                if star.state in (StarState.READY, StarState.RUNNING):
                    ended = [line for p, line in parents.items() if constellation.stars[p].state.is_terminal]
                    assert not any(find_skip(constellation, line) for line in ended)
                if star.state is StarState.READY:
                    assert star.unmet == 0
                    assert star.retry_at is None
                    assert self.state.is_queued(constellation.id, star_id)
            open_stars = [star for star in constellation.stars.values() if not star.state.is_terminal]
            assert constellation.unfinished == len(open_stars)
            assert constellation.state.is_terminal == (not open_stars)
            graph = networkx.DiGraph([(line.parent, line.child) for line in constellation.lines()])
            assert networkx.is_directed_acyclic_graph(graph)
            mirrored = {line for children in constellation.children.values() for line in children.values()}
            assert mirrored == set(constellation.lines())
            streamed = {(line.parent, line.child) for line in constellation.lines() if line.kind is LineKind.STREAM}
            assert streamed == {(one, other) for one, of in constellation.listeners.items() for other in of}

    @invariant()
    def what_is_terminal_never_changes(self) -> None:
        for constellation in self.state.constellations.values():
            for star_id, star in constellation.stars.items():
                if star.state.is_terminal:
                    now = (star.state, star.result, star.error, star.spec, constellation.parents.get(star_id, {}))
                    before = self.frozen.setdefault((constellation.id, star_id), (*now[:4], dict(now[4])))
                    assert before == now
        for constellation_id, star_id in self.frozen:
            assert star_id in self.state.constellations[constellation_id].stars

    @invariant()
    def nothing_waits_while_it_could_run(self) -> None:
        for constellation in self.state.constellations.values():
            waiting = self.machine.waiting_for(constellation.id)
            for star_id, star in constellation.stars.items():
                if star.state in (StarState.WAITING, StarState.READY):
                    assert waiting[star_id]
                if self.state.is_queued(constellation.id, star_id) and not star.spec.is_decided_by_people:
                    needed = star.spec.capabilities
                    takers = [worker for worker in self.state.workers.values() if worker.takes_stars]
                    assert all(worker.free_slots == 0 for worker in takers if needed <= worker.capabilities)

    @invariant()
    def the_journal_replays_to_an_equal_state(self) -> None:
        assert picture(replayed(self.records)) == picture(self.state)
        assert [record.seq for record in self.records] == list(range(1, len(self.records) + 1))


TestMachineStory = MachineStory.TestCase
TestMachineStory.settings = stories(120)
