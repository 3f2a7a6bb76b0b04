"""An independent reading of the journal: what each committed record says, against what it may say.

It shares no code with `core/apply.py` but the records themselves, and keeps what has ended for ever.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn, assert_never

from asterism.orchestrator.core.edits import (
    AddLine,
    AddStar,
    CancelStar,
    Edit,
    RebindInputs,
    RemoveLine,
    RemoveStar,
    UpdateStar,
    count_edits,
    update_spec,
)
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.records import (
    AttemptEnded,
    AttemptLeased,
    ConstellationEnded,
    ConstellationPaused,
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
from asterism.orchestrator.core.request import Budget, ConstellationState
from asterism.orchestrator.core.star import AttemptOutcome, OutputOf, ParentOutcomes, StarSpec, StarState
from asterism.orchestrator.core.values import Artifact
from tests.sim.invariants import Invariant, Violation

MAX_LOST = 8
"""Lost attempts after which a star must fail."""


@dataclass
class Run:
    """One attempt, by its lease."""

    constellation: ConstellationId
    star: StarId
    number: int
    worker: WorkerId
    token: FencingToken
    leased_at: float
    """By the wall clock of who leased it."""
    epoch: int
    spec: StarSpec
    outcome: AttemptOutcome | None = None
    holds_slot: bool = True
    answers: dict[int, EditsApplied | EditsRefused] = field(default_factory=dict)
    """By the number of the proposal."""


@dataclass
class Star:
    """A vertex."""

    spec: StarSpec
    revision: int
    end: StarFinished | None = None
    runs: list[Run] = field(default_factory=list)
    retry_at: float | None = None

    @property
    def live(self) -> Run | None:
        return self.runs[-1] if self.runs and self.runs[-1].outcome is None else None


@dataclass
class Graph:
    """One request."""

    owner: str
    request_id: str
    budget: Budget
    started_at: float
    state: ConstellationState = ConstellationState.RUNNING
    is_paused: bool = False
    revision: int = 0
    leases: int = 0
    stars: dict[StarId, Star] = field(default_factory=dict)
    lines: dict[tuple[StarId, StarId], TaskStarLine] = field(default_factory=dict)
    journal: list[Record] = field(default_factory=list)
    edits: dict[int, EditsApplied] = field(default_factory=dict)


@dataclass
class Member:
    """A worker of the fleet."""

    slots: int
    has_left: bool = False
    is_draining: bool = False


class Ledger:
    """All that was ever committed."""

    def __init__(self) -> None:
        self.graphs: dict[ConstellationId, Graph] = {}
        self.members: dict[WorkerId, Member] = {}
        self.runs: dict[FencingToken, Run] = {}
        self.records: list[Record] = []
        self.forgotten: set[ConstellationId] = set()
        """What the store has forgotten since: the auditor writes here. Here it is kept for ever."""
        self.reported: dict[FencingToken, list[str]] = {}
        """Results as the worker that the fence is of reported them, as JSON: the auditor writes here."""
        self.epoch = 0
        """Of who commits."""
        self.since = 0.0
        """Since when it has led, by its own clock."""
        self.proposed: dict[FencingToken, set[tuple[int, int]]] = {}
        """Numbers and sizes of the batches under a fence, 0 for those with results: the auditor writes here too."""
        self.must_stop: dict[FencingToken, Run] = {}
        """Attempts that ended while their worker still runs them."""

    def take(self, record: Record) -> None:
        """Check one record, then believe it."""
        if record.seq != len(self.records) + 1:
            self._fail(Invariant.JOURNAL, record, f"record {record.seq} follows {len(self.records)}")
        self.records.append(record)
        match record:
            case WorkerJoined():
                member = self.members.setdefault(record.worker, Member(record.profile.slots))
                member.slots, member.has_left = record.profile.slots, False
            case WorkerLeft():
                if self.members[record.worker].has_left:
                    self._fail(Invariant.TIMEOUT, record, "it had left already")
                self.members[record.worker].has_left = True
                if any(run.holds_slot for run in self.runs.values() if run.worker == record.worker):
                    self._fail(Invariant.LEAKS, record, "it left and still holds slots")
            case WorkerDraining():
                self.members[record.worker].is_draining = record.is_draining
            case WorkerLabelled():
                pass
            case RequestAccepted():
                self._accept(record)
            case _:
                graph = self.graphs[record.constellation]
                graph.journal.append(record)
                self._take(graph, record)

    def _take(
        self,
        graph: Graph,
        record: (
            EditsApplied
            | EditsRefused
            | AttemptLeased
            | AttemptEnded
            | StarFinished
            | SlotReleased
            | ConstellationPaused
            | ConstellationEnded
        ),
    ) -> None:
        match record:
            case EditsApplied():
                self._edit(graph, record)
            case EditsRefused():
                self._answer(graph, record)
            case AttemptLeased():
                self._lease(graph, record)
            case AttemptEnded():
                self._end_attempt(graph, record)
            case StarFinished():
                self._finish(graph, record)
            case SlotReleased():
                run = graph.stars[record.star].runs[record.attempt - 1]
                if run.outcome is None or not run.holds_slot:
                    self._fail(Invariant.LIMITS, record, "a slot is given back that was not owed")
                run.holds_slot = False
                self.must_stop.pop(run.token, None)
            case ConstellationPaused():
                graph.is_paused = record.is_paused
            case ConstellationEnded():
                graph.is_paused = False
                if graph.state.is_terminal:
                    self._fail(Invariant.TERMINAL, record, f"it is {graph.state.value} already")
                if any(star.end is None for star in graph.stars.values()):
                    self._fail(Invariant.ENDS, record, "it ends and some of its stars have not")
                graph.state = record.state
                limit_s = graph.budget.seconds
                is_early = limit_s is not None and record.at < graph.started_at + limit_s
                if "seconds is used up" in record.reason and is_early:
                    self._fail(Invariant.TIMEOUT, record, "the budget of seconds was not used up")
            case _:
                assert_never(record)

    def _accept(self, record: RequestAccepted) -> None:
        for name, other in self.graphs.items():
            if name not in self.forgotten and (other.owner, other.request_id) == (record.owner, record.request_id):
                self._fail(Invariant.KEPT, record, "the same request was accepted twice")
        graph = Graph(record.owner, record.request_id, record.budget, record.at)
        graph.journal.append(record)
        self.graphs[record.constellation] = graph

    def _edit(self, graph: Graph, record: EditsApplied) -> None:
        if record.revision != graph.revision + 1:
            self._fail(Invariant.JOURNAL, record, f"revision {record.revision} follows {graph.revision}")
        if record.by.startswith("star:"):
            self._check_proposer(graph, record)
        graph.revision = record.revision
        graph.edits[record.revision] = record
        if graph.state.is_terminal:
            graph.state, graph.started_at = ConstellationState.RUNNING, record.at
        for edit in record.edits:
            for name in self._edit_one(graph, record, edit):
                graph.stars[name].revision = record.revision
        if len(graph.stars) > graph.budget.stars:
            self._fail(Invariant.LIMITS, record, f"{len(graph.stars)} stars")
        self._check_acyclic(graph, record)

    def _check_proposer(self, graph: Graph, record: EditsApplied) -> None:
        """A batch of a star: whole, and from its live attempt. A later attempt leaves out what is there already."""
        live = self._answer(graph, record)
        is_later = live.number > 1 or "~" in live.star
        taken = count_edits(record.edits)
        if not any(
            number == record.proposal and (size == taken or (is_later and size > taken))
            for number, size in self.proposed.get(live.token, ())
        ):
            self._fail(Invariant.STALE, record, "it is not the whole of any batch that its attempt proposed")

    def _answer(self, graph: Graph, record: EditsApplied | EditsRefused) -> Run:
        """What an attempt is told of its proposal, once for each; 0 is for what comes with its result."""
        live = graph.stars[StarId(record.by.removeprefix("star:"))].live
        if live is None:
            self._fail(Invariant.ACCEPTED, record, "no attempt of it is live")
        if record.proposal in live.answers:
            self._fail(Invariant.KEPT, record, f"proposal {record.proposal} was decided already")
        live.answers[record.proposal] = record
        return live

    def _edit_one(self, graph: Graph, record: EditsApplied, edit: Edit) -> list[StarId]:
        """Do one edit; gives the stars that it changed."""
        match edit:
            case AddStar(spec):
                if spec.id in graph.stars:
                    self._fail(Invariant.KEPT, record, f"{spec.id} is there already")
                graph.stars[spec.id] = Star(spec, record.revision)
                for line in edit.lines():
                    self._join(graph, record, line)
                return [spec.id]
            case RemoveStar(star):
                self._editable(graph, record, star)
                children = [child for parent, child in graph.lines if parent == star]
                graph.lines = {ends: line for ends, line in graph.lines.items() if star not in ends}
                del graph.stars[star]
                return [child for child in children if graph.stars[child].end is None]
            case UpdateStar(star):
                found = self._editable(graph, record, star)
                found.spec = update_spec(found.spec, edit)
                return [star]
            case AddLine(line):
                self._editable(graph, record, line.child)
                self._join(graph, record, line)
                return [line.child]
            case RemoveLine(parent, child):
                self._editable(graph, record, child)
                del graph.lines[parent, child]
                return [child]
            case RebindInputs(star):
                self._editable(graph, record, star)
                return [star]
            case CancelStar():
                return []
            case _:
                assert_never(edit)

    def _join(self, graph: Graph, record: EditsApplied, line: TaskStarLine) -> None:
        if line.parent not in graph.stars or (line.parent, line.child) in graph.lines:
            self._fail(Invariant.STALE, record, f"no line can lead from {line.parent} to {line.child}")
        graph.lines[line.parent, line.child] = line

    def _editable(self, graph: Graph, record: EditsApplied, name: StarId) -> Star:
        star = graph.stars.get(name)
        if star is None or star.end is not None or star.live is not None:
            self._fail(Invariant.TERMINAL, record, f"{name} runs, has ended or is not there, and was edited")
        return star

    def _check_acyclic(self, graph: Graph, record: EditsApplied) -> None:
        children: dict[StarId, list[StarId]] = {}
        unmet = dict.fromkeys(graph.stars, 0)
        for parent, child in graph.lines:
            children.setdefault(parent, []).append(child)
            unmet[child] += 1
        free = [star for star, count in unmet.items() if count == 0]
        for star in free:
            for child in children.get(star, ()):
                unmet[child] -= 1
                if unmet[child] == 0:
                    free.append(child)
        if len(free) != len(unmet):
            self._fail(Invariant.ACYCLIC, record, "there is a cycle")

    def _lease(self, graph: Graph, record: AttemptLeased) -> None:
        star, member = graph.stars[record.star], self.members[record.worker]
        if self.runs and record.fencing_token <= max(self.runs):
            self._fail(Invariant.FENCES, record, f"after {max(self.runs)}")
        if star.end is not None or graph.state.is_terminal:
            self._fail(Invariant.TERMINAL, record, "it has ended")
        if star.live is not None or record.attempt != len(star.runs) + 1:
            self._fail(Invariant.ACCEPTED, record, "it has a live attempt, or attempts are not numbered in order")
        for (_, child), line in graph.lines.items():
            if child == record.star and not _lets(graph, line):
                self._fail(Invariant.PARENTS, record, f"{line.parent} does not let it run")
        held = sum(run.holds_slot for run in self.runs.values() if run.worker == record.worker)
        failures = sum(run.outcome in (AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT) for run in star.runs)
        lost = sum(run.outcome is AttemptOutcome.LOST for run in star.runs)
        graph.leases += 1
        if held >= member.slots or member.has_left or member.is_draining:
            self._fail(Invariant.LIMITS, record, f"{held} of {member.slots} slots are taken, or it left or drains")
        if graph.is_paused:
            self._fail(Invariant.LIMITS, record, "its request is paused")
        if failures >= star.spec.retry.max_attempts or lost > MAX_LOST:
            self._fail(Invariant.LIMITS, record, "no attempt is left")
        if graph.leases > graph.budget.attempts:
            self._fail(Invariant.LIMITS, record, "the budget of attempts is used up")
        if star.retry_at is not None and record.at < star.retry_at:
            self._fail(Invariant.TIMEOUT, record, f"its backoff lasts until {star.retry_at}")
        run = Run(
            record.constellation,
            record.star,
            record.attempt,
            record.worker,
            record.fencing_token,
            record.at,
            self.epoch,
            star.spec,
        )
        star.runs.append(run)
        self.runs[record.fencing_token] = run

    def settled(self, records: Sequence[Record]) -> None:
        """Check what must hold once an append is whole: nobody listens to an attempt that counts for nothing."""
        for record in records:
            if not isinstance(record, AttemptEnded | StarFinished):
                continue
            graph = self.graphs[record.constellation]
            for (parent, child), line in graph.lines.items():
                is_heard = parent == record.star and line.kind is LineKind.STREAM
                if is_heard and graph.stars[child].live is not None and not _lets(graph, line):
                    self._fail(Invariant.PARENTS, record, f"{child} goes on with what it was given")

    def heard(self, token: FencingToken, name: str, value: object) -> bool:
        """Whether the input of an attempt has that value: its parent has succeeded with it."""
        run = self.runs[token]
        source = run.spec.inputs.get(name)
        if not isinstance(source, OutputOf):
            return False
        end = self.graphs[run.constellation].stars[source.star].end
        return end is not None and end.state is StarState.SUCCEEDED and end.result == value and not source.path

    def _end_attempt(self, graph: Graph, record: AttemptEnded) -> None:
        star = graph.stars[record.star]
        self._end_run(star, record, record.attempt, record.outcome)
        star.retry_at = record.retry_at

    def _finish(self, graph: Graph, record: StarFinished) -> None:
        star = graph.stars[record.star]
        if star.end is not None or graph.state.is_terminal:
            self._fail(Invariant.TERMINAL, record, "it has ended already")
        live = star.live
        if (live is None) != (record.attempt is None):
            self._fail(Invariant.ACCEPTED, record, "the live attempt does not end with its star")
        if record.source:
            self._check_reused(graph, star, record)
        elif record.state is StarState.SUCCEEDED:
            results = [] if live is None else [json.loads(text) for text in self.reported.get(live.token, ())]
            if record.result not in results or record.outcome is not AttemptOutcome.SUCCEEDED:
                self._fail(Invariant.ACCEPTED, record, "nobody reported that under the fence of its lease")
        if record.attempt is not None and record.outcome is not None:
            self._end_run(star, record, record.attempt, record.outcome)
        star.end = record

    def _check_reused(self, graph: Graph, star: Star, record: StarFinished) -> None:
        """The result is that of the star which it retries, and all that both were given is the same."""
        before = None if star.spec.reuses is None else graph.stars[star.spec.reuses]
        if before is None or before.end is None or before.end.state is not StarState.SUCCEEDED:
            self._fail(Invariant.ACCEPTED, record, "there is no result that could stand for it")
        if record.result != before.end.result or record.attempt is not None:
            self._fail(Invariant.ACCEPTED, record, "it is not the result of the star that it retries")
        if _given(graph, star.spec) != _given(graph, before.spec):
            self._fail(Invariant.ACCEPTED, record, "what it is given has changed")
        if not all(_lets(graph, line) for line in graph.lines.values() if line.child == record.star):
            self._fail(Invariant.ACCEPTED, record, "its parents do not let it run yet")

    def _end_run(self, star: Star, record: AttemptEnded | StarFinished, attempt: int, outcome: AttemptOutcome) -> None:
        live = star.live
        if live is None or live.number != attempt:
            self._fail(Invariant.ACCEPTED, record, "it is not the live attempt")
        live.outcome = outcome
        live.holds_slot = not record.releases_slot
        if live.holds_slot:
            self.must_stop[live.token] = live
        elif outcome in (AttemptOutcome.CANCELLED, AttemptOutcome.TIMED_OUT) and not _is_of_worker(record):
            self._fail(Invariant.CANCELLED, record, "its slot is free, and its worker may still run it")
        if outcome is AttemptOutcome.TIMED_OUT:
            self._check_timeout(live, record)

    def _check_timeout(self, run: Run, record: AttemptEnded | StarFinished) -> None:
        """That it is not early. The end of an attempt is stored, a silence begins anew with each life."""
        timeouts = run.spec.timeouts
        match "" if record.error is None else record.error.code:
            case "start_to_close":
                limit_s, took_s = timeouts.start_to_close_s, record.at - run.leased_at
            case "heartbeat":
                heard_at = run.leased_at if run.epoch == self.epoch else self.since
                limit_s, took_s = timeouts.heartbeat_s, record.at - heard_at
            case _:
                limit_s, took_s = None, 0.0
        if limit_s is None or took_s < limit_s:
            self._fail(Invariant.TIMEOUT, record, f"the limit of {limit_s} s ended it after {took_s:g} s")

    def _fail(self, invariant: Invariant, record: Record, what: str) -> NoReturn:
        raise Violation(invariant, f"{what}: {record}")


def _is_of_worker(record: AttemptEnded | StarFinished) -> bool:
    """Whether the worker itself said that the time is over: then it runs no more."""
    return record.error is not None and record.error.code not in ("start_to_close", "heartbeat", "cancelled")


def _given(graph: Graph, spec: StarSpec) -> list[object]:
    """What a star gets, by the names of its inputs; of its parents the results, whatever they are called."""
    given: list[object] = [spec.kind, spec.program, spec.requires]
    for name, source in sorted(spec.inputs.items()):
        match source:
            case OutputOf(parent, path):
                end = graph.stars[parent].end
                given.append((name, path, None if end is None else end.result))
            case ParentOutcomes():
                ends = {
                    line.parent: graph.stars[line.parent].end for line in graph.lines.values() if line.child == spec.id
                }
                outcomes = {
                    parent.partition("~")[0]: (end.state, end.result, None if end.error is None else end.error.message)
                    for parent, end in ends.items()
                    if end is not None
                }
                given.append((name, outcomes))
            case _:
                given.append((name, source))
    return given


def _has_quorum(graph: Graph, child: StarId) -> bool:
    """Whether enough of its parents by QUORUM lines have succeeded."""
    lines = graph.lines.values()
    voters = [line.parent for line in lines if line.child == child and line.kind is LineKind.QUORUM]
    ends = [graph.stars[voter].end for voter in voters]
    met = sum(end is not None and end.state is StarState.SUCCEEDED for end in ends)
    return met >= graph.stars[child].spec.quorum


def _lets(graph: Graph, line: TaskStarLine) -> bool:
    """Whether the line's parent lets its child run."""
    end = graph.stars[line.parent].end
    if end is None:
        return line.kind is LineKind.STREAM and graph.stars[line.parent].live is not None
    if line.kind in (LineKind.SUCCESS, LineKind.STREAM):
        return end.state is StarState.SUCCEEDED
    if line.kind is LineKind.QUORUM:
        return _has_quorum(graph, line.child)
    if line.condition is None:
        return line.kind in (LineKind.COMPLETION, LineKind.GUARD)
    error = None if end.error is None else {"code": end.error.code, "message": end.error.message}
    assert not isinstance(end.result, Artifact), "the workers of a schedule report small results"
    return line.condition.holds({"state": end.state.value, "result": end.result, "error": error})
