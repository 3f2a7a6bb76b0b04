"""Hypothesis edits a graph while it runs, beside a model that knows nothing but sets: which batches hold, and what is
there afterwards."""

from dataclasses import dataclass, field

import networkx
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

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
from asterism.orchestrator.core.errors import AsterismError, InvalidEdit, InvalidField, StaleRevision, WrongState
from asterism.orchestrator.core.events import (
    AttemptFailed,
    AttemptSucceeded,
    CancelRequested,
    EditRequested,
    Event,
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
    Constant,
    OutputOf,
    RetryPolicy,
    StarError,
    StarInput,
    StarKind,
    StarSpec,
    StarState,
    Timeouts,
)
from tests.core.picture import picture, replayed
from tests.stories import stories

# At its full size it takes minutes of a core.
pytestmark = pytest.mark.timeout(1800)

C = ConstellationId("c")
ADA = WorkerId("ada")
PLAN = StarId("plan")
BUDGET = 9
"""Stars, in all."""
names = st.sampled_from([*(StarId(f"s{number}") for number in range(7)), PLAN])
inputs: st.SearchStrategy[StarInput] = st.one_of(st.just(Constant(1)), st.builds(OutputOf, names))
bindings = st.dictionaries(st.sampled_from(["x", "y"]), inputs, max_size=1)
specs = st.builds(
    StarSpec,
    id=names,
    kind=st.just(StarKind.TOOL),
    program=st.sampled_from(["t"] * 9 + ["unknown"]),
    inputs=bindings,
    timeouts=st.builds(Timeouts, start_to_close_s=st.sampled_from([None, 5.0])),
    retry=st.builds(RetryPolicy, max_attempts=st.integers(1, 2), backoff_s=st.sampled_from([0.0, 3.0])),
)
kinds = st.sampled_from([LineKind.SUCCESS, LineKind.COMPLETION, LineKind.STREAM])
edits: st.SearchStrategy[Edit] = st.one_of(
    st.builds(AddStar, specs),
    st.builds(AddStar, specs, st.lists(names, max_size=2).map(tuple)),
    st.builds(AddLine, st.builds(TaskStarLine, names, names, kinds)),
    st.builds(AddLine, st.builds(TaskStarLine, names, names, kinds)),
    st.builds(RemoveStar, names),
    st.builds(RemoveLine, names, names),
    st.builds(UpdateStar, names, priority=st.integers(-3, 3)),
    st.builds(RebindInputs, names, bindings),
    st.builds(CancelStar, names),
)


@dataclass
class Model:
    """The graph as sets. `editable` and `holding` are what of the states matters; the machine says them."""

    inputs: dict[StarId, dict[str, StarInput]] = field(default_factory=dict)
    """Of each star that there is."""
    lines: set[tuple[StarId, StarId]] = field(default_factory=set)
    touched: dict[StarId, int] = field(default_factory=dict)
    """The revision that last changed a star or what it waits for."""
    revision: int = 0

    def after(self, batch: EditBatch, editable: set[StarId], holding: set[StarId]) -> "Model | type[AsterismError]":
        """The graph with the batch applied, or why it is refused."""
        base = batch.base_revision
        if base is not None and base > self.revision:
            return InvalidField
        new = Model({star: dict(of) for star, of in self.inputs.items()}, set(self.lines), {}, self.revision + 1)
        draft = _Draft(self, new, editable, holding)
        if not all(map(draft.take, batch.edits)):
            return InvalidEdit
        if base is not None and any(self.touched[star] > base for star in draft.named if star in self.inputs):
            return StaleRevision
        if not new._is_whole():
            return InvalidEdit
        changed = {star for star in draft.changed if star in draft.added or star in editable}
        for star in new.inputs:
            new.touched[star] = new.revision if star in changed else self.touched[star]
        return new

    def _is_whole(self) -> bool:
        """Whether each input that is a star's output has a line for it, and no line closes a cycle."""
        wanted = {
            (source.star, star)
            for star, given in self.inputs.items()
            for source in given.values()
            if isinstance(source, OutputOf)
        }
        return wanted <= self.lines and networkx.is_directed_acyclic_graph(networkx.DiGraph(sorted(self.lines)))


@dataclass
class _Draft:
    """Takes edits one by one into `new`, as long as each can be done."""

    old: Model
    new: Model
    editable: set[StarId]
    holding: set[StarId]
    added: set[StarId] = field(default_factory=set)
    removed: set[StarId] = field(default_factory=set)
    named: set[StarId] = field(default_factory=set)
    """What the author of the batch must have seen as it is."""
    changed: set[StarId] = field(default_factory=set)

    def take(self, edit: Edit) -> bool:
        """Whether the edit can be done; then it is."""
        new = self.new
        match edit:
            case AddStar(spec, after):
                grown = len(self.old.inputs) + len(self.added & new.inputs.keys())
                if spec.id in new.inputs or spec.id in self.removed or grown >= BUDGET or spec.program != "t":
                    return False
                new.inputs[spec.id] = dict(spec.inputs)
                self.added.add(spec.id)
                self.changed.add(spec.id)
                self.named.update(after)
                if len(set(after)) < len(after) or not new.inputs.keys() >= set(after):
                    return False
                new.lines |= {(parent, spec.id) for parent in after}
            case RemoveStar(star):
                if not self._may_change(star) or star in self.holding:
                    return False
                del new.inputs[star]
                self.changed |= {child for parent, child in new.lines if parent == star}
                new.lines -= {line for line in new.lines if star in line}
                self.removed.add(star)
            case AddLine(line):
                self.named.add(line.parent)
                ends = (line.parent, line.child)
                if line.parent not in new.inputs or not self._may_change(line.child) or ends in new.lines:
                    return False
                new.lines.add(ends)
                self.changed.add(line.child)
            case RemoveLine(parent, child):
                self.named.add(parent)
                if not self._may_change(child) or (parent, child) not in new.lines:
                    return False
                new.lines.remove((parent, child))
                self.changed.add(child)
            case UpdateStar(star):
                if not self._may_change(star):
                    return False
                self.changed.add(star)
            case RebindInputs(star, given):
                if not self._may_change(star):
                    return False
                new.inputs[star].update(given)
                self.changed.add(star)
            case CancelStar(star):
                self.named.add(star)
                return star in new.inputs
        return True

    def _may_change(self, star: StarId) -> bool:
        self.named.add(star)
        return star in self.new.inputs and (star in self.added or star in self.editable)


class EditStory(RuleBasedStateMachine):
    """One request, one worker with one slot, and clients that edit as they like."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine(Snapshot((), (), 0, FencingToken(0)), at=0.0, lease_s=1e9)
        self.state = self.machine._state  # pyright: ignore[reportPrivateUsage]  # to see that a refusal changes nothing
        self.at = 1.0
        self.records: list[Record] = []
        self.model = Model({PLAN: {}}, set(), {PLAN: 1}, 1)
        self.tell(WorkerAttached(self.at, ADA, "i1", WorkerProfile(1, tools=("t",), programs=("p",))))
        plan = StarSpec(PLAN, StarKind.PLAN, "p", retry=RetryPolicy(1))
        budget = Budget(BUDGET, 10_000, None)
        self.tell(RequestSubmitted(self.at, C, "r", "ann", Request("plan", ""), budget, plan))
        self.graph = self.state.constellations[C]

    def tell(self, event: Event) -> type[AsterismError] | None:
        """The kind of the refusal, if it is one."""
        before = picture(self.state)
        try:
            outcome = self.machine.step(event)
        except AsterismError as error:
            assert picture(self.state) == before, "a refused event changed something"
            return type(error)
        self.records += outcome.records
        return None

    @rule(batch=st.lists(edits, min_size=1, max_size=4), base=st.one_of(st.none(), st.integers(-3, 1)))
    def edit(self, batch: list[Edit], base: int | None) -> None:
        """Based on what is there, or (`base`, counted from now) on what was there or is to come."""
        seen = None if base is None else max(0, self.model.revision + base)
        self.try_batch(EditBatch(tuple(batch), seen))

    @rule(data=st.data(), base=st.one_of(st.none(), st.integers(-4, 0)))
    def grow(self, data: st.DataObject, base: int | None) -> None:
        """A star between stars that are there: most such batches hold."""
        there = sorted(self.model.inputs)
        spec = data.draw(specs)
        parents = data.draw(st.lists(st.sampled_from(there), max_size=2, unique=True))
        children = data.draw(st.lists(st.sampled_from(there), max_size=1))
        spec = StarSpec(spec.id, StarKind.TOOL, "t", retry=spec.retry, timeouts=spec.timeouts)
        plain = parents[: data.draw(st.integers(0, 2))]
        batch: list[Edit] = [AddStar(spec, tuple(plain))]
        batch += [AddLine(TaskStarLine(parent, spec.id, data.draw(kinds))) for parent in parents[len(plain) :]]
        if parents:
            batch.append(RebindInputs(spec.id, {"x": OutputOf(parents[0])}))
        batch += [AddLine(TaskStarLine(spec.id, child, data.draw(kinds))) for child in children]
        self.try_batch(EditBatch(tuple(batch), None if base is None else max(0, self.model.revision + base)))

    @rule(data=st.data(), base=st.one_of(st.none(), st.integers(-4, 0)))
    def change(self, data: st.DataObject, base: int | None) -> None:
        """One edit of what is there, which often may still be edited."""
        star = data.draw(st.sampled_from(sorted(self.model.inputs)))
        other = data.draw(st.sampled_from(sorted(self.model.inputs)))
        choices: list[Edit] = [UpdateStar(star, priority=1), RemoveStar(star), AddLine(TaskStarLine(star, other))]
        choices += [RemoveLine(*line) for line in sorted(self.model.lines)[:3]]
        edit = data.draw(st.sampled_from(choices))
        self.try_batch(EditBatch((edit,), None if base is None else max(0, self.model.revision + base)))

    def try_batch(self, batch: EditBatch) -> None:
        stars = self.graph.stars
        editable = {star for star, of in stars.items() if of.state in (StarState.WAITING, StarState.READY)}
        holding = {star for star, of in stars.items() if any(attempt.holds_slot for attempt in of.attempts)}
        expected = self.model.after(batch, editable, holding)
        adds = isinstance(expected, Model) and not expected.inputs.keys() <= self.model.inputs.keys()
        if isinstance(expected, Model) and self.graph.state.is_terminal and not adds:
            expected = WrongState  # what has ended comes back only for something to do
        refusal = self.tell(EditRequested(self.at, C, "client:ann", batch))
        if isinstance(expected, Model):
            assert refusal is None, f"{refusal} for {batch}"
            self.model = expected
        else:
            assert refusal is expected, f"{refusal} for {batch}, not {expected}"

    @rule(succeeds=st.booleans(), is_stopped=st.booleans())
    def run(self, succeeds: bool, is_stopped: bool) -> None:
        """The worker ends what it has, or was told to stop."""
        for token, lease in list(self.state.workers[ADA].running.items()):
            if succeeds and not lease.is_stopping:
                self.tell(AttemptSucceeded(self.at, ADA, token, "ok"))
            elif is_stopped or not lease.is_stopping:
                error = StarError("boom", "it broke", retryable=True)
                self.tell(AttemptFailed(self.at, ADA, token, error, lease.is_stopping))

    @rule(seconds=st.sampled_from([1.0, 6.0]))
    def pass_time(self, seconds: float) -> None:
        """Backoffs and time-outs end."""
        self.at += seconds
        self.tell(TimePassed(self.at))

    @rule()
    def cancel(self) -> None:
        """The request ends; an edit may bring it back."""
        if self.at > 10.0:
            self.tell(CancelRequested(self.at, C, "enough"))

    @invariant()
    def the_graph_is_the_models(self) -> None:
        assert self.graph.revision == self.model.revision
        assert {star: dict(of.spec.inputs) for star, of in self.graph.stars.items()} == self.model.inputs
        assert {(line.parent, line.child) for line in self.graph.lines()} == self.model.lines
        assert {star: of.revision for star, of in self.graph.stars.items()} == self.model.touched

    @invariant()
    def the_journal_replays_to_an_equal_state(self) -> None:
        assert picture(replayed(self.records)) == picture(self.state)


TestEditStory = EditStory.TestCase
TestEditStory.settings = stories(40)
