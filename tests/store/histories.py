"""Random histories that the core really makes: a machine is stepped with random events, its records are kept."""

from dataclasses import dataclass, field
from random import Random

from hypothesis import strategies as st

from asterism.orchestrator.core.condition import Comparison, Condition
from asterism.orchestrator.core.constellation import TaskConstellation
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
from asterism.orchestrator.core.effects import Assign, Stop
from asterism.orchestrator.core.errors import AsterismError
from asterism.orchestrator.core.events import (
    AttemptFailed,
    AttemptSucceeded,
    CancelRequested,
    DrainRequested,
    EditRequested,
    Event,
    HeldAttempt,
    LabelRequested,
    RequestSubmitted,
    RetryRequested,
    TimePassed,
    WorkerAttached,
    WorkerDetached,
)
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.core.profile import Gpu, WorkerProfile
from asterism.orchestrator.core.records import Record
from asterism.orchestrator.core.request import Budget, Request
from asterism.orchestrator.core.snapshot import Snapshot
from asterism.orchestrator.core.star import Constant, RetryPolicy, StarError, StarKind, StarSpec, StarState, Timeouts
from asterism.orchestrator.core.values import Artifact, Result

LEASE_S = 20.0
WORKERS = [WorkerId("w1"), WorkerId("w2")]
STARS = [StarId(name) for name in ("plan", "a", "b", "c", "d", "e")]
EDITABLE = (StarState.WAITING, StarState.READY)
ARTIFACT = Artifact("0f" * 32, 70_000)
CONDITION = Condition.of(("result", "x"), Comparison.EQ, 1)


@dataclass
class History:
    """A machine, what it assigned and not yet heard of, and the records of each step that made any."""

    random: Random
    at: float = 1_000.0
    batches: list[list[Record]] = field(default_factory=list)
    held: dict[FencingToken, WorkerId] = field(default_factory=dict)
    submitted: int = 0
    machine: Machine = field(
        default_factory=lambda: Machine(Snapshot((), (), 0, FencingToken(0)), at=1_000.0, lease_s=LEASE_S)
    )

    def step(self) -> None:
        """One random event; one that is refused changes nothing and leaves no batch."""
        self.at += self.random.choice([0.0, 0.5, 0.5, 0.5, 0.5, 3.0, 3.0, 12.0])
        self.give(self._event())

    def give(self, event: Event) -> None:
        """One event."""
        try:
            outcome = self.machine.step(event)
        except AsterismError:
            return
        for effect in outcome.effects:
            if isinstance(effect, Assign):
                self.held[effect.fencing_token] = effect.worker
            elif isinstance(effect, Stop) and self.random.random() < 0.2:
                self.held.pop(effect.fencing_token, None)
        if outcome.records:
            self.batches.append(outcome.records)

    def _event(self) -> Event:
        make = self.random.choices(
            [self._submit, self._attach, self._leave, self._succeed, self._fail, self._edit, self._operate, self._pass],
            [1, 2, 1, 4, 3, 12, 1, 2],
        )[0]
        return make()

    def _submit(self) -> Event:
        self.submitted += 1
        identifier = ConstellationId(f"c{self.submitted:03}")
        request = Request("boards", "1 2 3 4", f"file{self.submitted}", {"k": [1]})
        budget = Budget(stars=12, attempts=30, seconds=self.random.choice([None, 200.0]))
        owner = self.random.choice(["ann", "bob"])
        return RequestSubmitted(self.at, identifier, f"r{self.submitted}", owner, request, budget, self._spec("plan"))

    def _spec(self, star: str) -> StarSpec:
        return StarSpec(
            StarId(star),
            StarKind.TOOL,
            "t",
            inputs={"x": Constant([1, {"y": None}])},
            priority=self.random.randint(-3, 3),
            timeouts=Timeouts(None, self.random.choice([None, 40.0]), None),
            retry=RetryPolicy(max_attempts=3, backoff_s=self.random.choice([0.0, 5.0])),
            title="é",
        )

    def _attach(self) -> Event:
        worker = self.random.choice(WORKERS)
        slots = self.random.randint(1, 3)
        profile = WorkerProfile(slots, "linux", gpus=(Gpu("g", 1),), tools=("t",), labels={"zone": "a"})
        held = tuple(HeldAttempt(token) for token, holder in self.held.items() if holder == worker)
        return WorkerAttached(self.at, worker, self.random.choice(["i1"] * 8 + ["i2"]), profile, held)

    def _leave(self) -> Event:
        known = list(self.machine.workers.values())
        if not known:
            return self._attach()
        worker = self.random.choice(known)
        return WorkerDetached(self.at, worker.id, worker.instance, self.random.random() < 0.2)

    def _take_held(self) -> tuple[FencingToken, WorkerId] | None:
        if not self.held:
            return None
        token = self.random.choice(list(self.held))
        return token, self.held.pop(token)

    def _succeed(self) -> Event:
        held = self._take_held()
        if held is None:
            return self._attach()
        results: list[Result] = [{"x": 1}, "$1", None, [0.5, "é\x00"], ARTIFACT, {"sha256": ARTIFACT.sha256}]
        return AttemptSucceeded(self.at, held[1], held[0], self.random.choice(results))

    def _fail(self) -> Event:
        held = self._take_held()
        if held is None:
            return self._attach()
        error = StarError("boom", "it broke", retryable=self.random.random() < 0.8)
        return AttemptFailed(self.at, held[1], held[0], error, self.random.random() < 0.3, self.random.random())

    def _operate(self) -> Event:
        worker = self.random.choice(WORKERS)
        if self.random.random() < 0.5:
            return DrainRequested(self.at, worker, self.random.random() < 0.5)
        return LabelRequested(self.at, worker, {"zone": self.random.choice([None, "b"])})

    def _pass(self) -> Event:
        constellation = self._any()
        choice = self.random.random()
        if constellation is not None and choice < 0.1:
            return CancelRequested(self.at, constellation.id, "enough")
        if constellation is not None and choice < 0.3:
            return RetryRequested(self.at, constellation.id, "client:ann")
        return TimePassed(self.at, self.random.random())

    def _any(self) -> TaskConstellation | None:
        known = list(self.machine.constellations.values())
        return self.random.choice(known) if known else None

    def _edit(self) -> Event:
        constellation = self._any()
        if constellation is None:
            return self._submit()
        edits = [self._some_edits(constellation) for _ in range(self.random.choice([1, 1, 1, 2, 3]))]
        batch = EditBatch(tuple(edit for some in edits for edit in some))
        return EditRequested(self.at, constellation.id, "client:ann", batch)

    def _some_edits(self, constellation: TaskConstellation) -> tuple[Edit, ...]:
        """One edit, or two that make sense together."""
        present = list(constellation.stars) or STARS
        absent = [star for star in STARS if star not in constellation.stars] or STARS
        editable = [star for star, of in constellation.stars.items() if of.state in EDITABLE] or present
        star = self.random.choice(editable)
        line = self.random.choice([(of.parent, of.child) for of in constellation.lines()] or [(STARS[0], STARS[1])])
        kind = self.random.choice(list(LineKind))
        condition = CONDITION if kind is LineKind.CONDITION else None
        new = self.random.choice(absent)
        edits: list[tuple[int, tuple[Edit, ...]]] = [
            (8, (AddStar(self._spec(new)), AddLine(TaskStarLine(self.random.choice(present), new, kind, condition)))),
            (4, (AddStar(self._spec(new), tuple(self.random.sample(present, min(2, len(present))))),)),
            (2, (AddStar(self._spec(new)),)),
            (2, (RemoveStar(star),)),
            (1, (RemoveStar(star), AddStar(self._spec(star)))),
            (4, (AddLine(TaskStarLine(self.random.choice(present), star, kind, condition)),)),
            (3, (RemoveLine(*line),)),
            (2, (UpdateStar(star, priority=self.random.randint(-3, 3), title="new"),)),
            (2, (RebindInputs(star, {"z": Constant("v")}),)),
            (1, (CancelStar(star),)),
        ]
        return self.random.choices([edit for _, edit in edits], [weight for weight, _ in edits])[0]


@st.composite
def histories(draw: st.DrawFn, max_steps: int = 60) -> History:
    """A machine that has taken up to `max_steps` random events."""
    history = History(draw(st.randoms(use_true_random=False)))
    for _ in range(draw(st.integers(1, max_steps))):
        history.step()
    return history


def seeded_history(seed: int, steps: int) -> History:
    """A long one, the same at each run."""
    history = History(Random(seed))
    for _ in range(steps):
        history.step()
    return history
