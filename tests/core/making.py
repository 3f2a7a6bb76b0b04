"""A machine in the middle of something, in few lines: a test says only what its claim is about."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from asterism.orchestrator.core.condition import Condition
from asterism.orchestrator.core.edits import AddLine, AddStar, Edit, EditBatch
from asterism.orchestrator.core.effects import Outcome
from asterism.orchestrator.core.events import (
    AttemptFailed,
    AttemptProgressed,
    AttemptSucceeded,
    Chunk,
    EditRequested,
    EditsProposed,
    Event,
    HeldAttempt,
    RequestSubmitted,
    TimePassed,
    WorkerAttached,
)
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.records import Record
from asterism.orchestrator.core.request import Budget, Request
from asterism.orchestrator.core.snapshot import Snapshot
from asterism.orchestrator.core.star import (
    Attempt,
    RetryPolicy,
    StarError,
    StarKind,
    StarSpec,
    StarState,
    TaskStar,
    Timeouts,
)
from asterism.orchestrator.core.values import Result

LEASE_S = 1000.0
C = ConstellationId("c")
ADA, BOB = WorkerId("ada"), WorkerId("bob")
PLAN, X, Y, Z = StarId("plan"), StarId("x"), StarId("y"), StarId("z")
ENDLESS = Budget(seconds=None)
BOOM = StarError("boom", "it broke", retryable=True)
FATAL = StarError("fatal", "it broke for good")


def tool(name: str, **changes: Any) -> StarSpec:
    """A tool star without time-outs that is retried once, 10 s later."""
    retry = RetryPolicy(2, 10.0, jitter=0.0)
    return replace(StarSpec(StarId(name), StarKind.TOOL, "t", timeouts=Timeouts(None, None), retry=retry), **changes)


RULE = tool("replan", kind=StarKind.PLAN, program="p", may_edit=True)
"""What the stars are made from that ask for a rewrite."""


def add(name: str, *after: str, **changes: Any) -> AddStar:
    return AddStar(tool(name, **changes), tuple(map(StarId, after)))


def join(parent: str, child: str, kind: LineKind = LineKind.SUCCESS, condition: Condition | None = None) -> AddLine:
    return AddLine(TaskStarLine(StarId(parent), StarId(child), kind, condition))


def plan_star(**changes: Any) -> StarSpec:
    return tool("plan", kind=StarKind.PLAN, program="p", may_edit=True, **changes)


def profile(slots: int = 8, **changes: Any) -> WorkerProfile:
    return WorkerProfile(slots, **{"tools": ("t",), "programs": ("p",), **changes})


class Scene:
    """A machine, the time in it, and all that it has recorded."""

    def __init__(self, slots: int = 8, lease_s: float = LEASE_S) -> None:
        """One worker, `ada`, with so many slots; 0 for none at all."""
        self.machine = Machine(Snapshot((), (), 0, FencingToken(0)), at=0.0, lease_s=lease_s)
        self.at = 0.0
        self.records: list[Record] = []
        self.proposals = 6
        if slots:
            self.attach(ADA, slots)

    def tell(self, event: Event) -> Outcome:
        outcome = self.machine.step(event)
        self.records.extend(outcome.records)
        return outcome

    def attach(
        self,
        worker: WorkerId = ADA,
        slots: int = 8,
        *,
        instance: str = "one",
        held: tuple[int, ...] = (),
        **changes: Any,
    ) -> Outcome:
        attempts = tuple(HeldAttempt(FencingToken(token)) for token in held)
        return self.tell(WorkerAttached(self.at, worker, instance, profile(slots, **changes), attempts))

    def submit(
        self,
        name: str = "c",
        budget: Budget = ENDLESS,
        plan: StarSpec | None = None,
        replan: StarSpec | None = None,
    ) -> Outcome:
        spec = plan_star() if plan is None else plan
        request = Request("boards", "1 2 3 4")
        return self.tell(RequestSubmitted(self.at, ConstellationId(name), name, "me", request, budget, spec, replan))

    def edit(self, *edits: Edit, base: int | None = None, name: str = "c") -> Outcome:
        return self.tell(EditRequested(self.at, ConstellationId(name), "client:me", EditBatch(edits, base)))

    def propose(self, star: str, *edits: Edit, again: bool = False) -> Outcome:
        """The first one has the number 7; `again` gives the one before its number, as on a new stream."""
        self.proposals += not again
        live = self.live(star)
        batch = EditBatch(edits)
        return self.tell(EditsProposed(self.at, live.worker, live.fencing_token, self.proposals, batch))

    def stream(self, star: str, *texts: str) -> Outcome:
        live = self.live(star)
        chunks = tuple(Chunk("main", text, 1) for text in texts)
        return self.tell(AttemptProgressed(self.at, live.worker, live.fencing_token, chunks))

    def succeed(self, star: str, result: Result = None, *edits: Edit) -> Outcome:
        live = self.live(star)
        batch = EditBatch(edits) if edits else None
        return self.tell(AttemptSucceeded(self.at, live.worker, live.fencing_token, result, batch))

    def fail(self, star: str, error: StarError = BOOM, *, is_stopped: bool = False, chance: float = 0.0) -> Outcome:
        live = self.live(star)
        return self.tell(AttemptFailed(self.at, live.worker, live.fencing_token, error, is_stopped, chance))

    def confirm(self, attempt: Attempt) -> Outcome:
        """The worker says that it has stopped the attempt as told."""
        error = StarError("stopped", "as told")
        return self.tell(AttemptFailed(self.at, attempt.worker, attempt.fencing_token, error, is_stopped=True))

    def whole_request(self, name: str) -> None:
        """A request that is submitted and ends at once by the success of its plan star."""
        self.submit(name)
        attempt = self.machine.constellations[ConstellationId(name)].stars[PLAN].live_attempt
        assert attempt is not None
        self.tell(AttemptSucceeded(self.at, attempt.worker, attempt.fencing_token, None))

    def time(self, at: float, chance: float = 0.0) -> Outcome:
        self.at = at
        return self.tell(TimePassed(at, chance))

    def star(self, name: str) -> TaskStar:
        return self.machine.constellations[C].stars[StarId(name)]

    def live(self, name: str) -> Attempt:
        attempt = self.star(name).live_attempt
        assert attempt is not None, f"{name} does not run"
        return attempt

    def states(self) -> Mapping[str, StarState]:
        return {star_id: star.state for star_id, star in self.machine.constellations[C].stars.items()}

    def held(self, worker: WorkerId = ADA) -> set[FencingToken]:
        return set(self.machine.workers[worker].running)


def graph(*edits: Edit, slots: int = 8, budget: Budget = ENDLESS, replan: StarSpec | None = None) -> Scene:
    """A request whose plan star runs on `ada` since 0 s, and what else a client has put into it then."""
    scene = Scene(slots)
    scene.submit(budget=budget, replan=replan)
    if edits:
        scene.edit(*edits)
    return scene
