"""Two people and a worker of a state machine that change requests, beside a model of what each call may add."""

from typing import Any, Final

import grpc
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.credential import Role
from asterism.orchestrator.core.edits import AddLine, AddStar, CancelStar, Edit, EditBatch, RemoveStar, UpdateStar
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import TaskStarLine
from asterism.orchestrator.core.records import (
    AttemptLeased,
    ConstellationEnded,
    ConstellationPaused,
    ConstellationRecord,
    EditsApplied,
    RequestAccepted,
    StarFinished,
    WorkerDraining,
    WorkerJoined,
    WorkerLabelled,
    WorkerLeft,
)
from asterism.orchestrator.core.request import Budget, ConstellationState, Request
from asterism.orchestrator.core.star import RetryPolicy, StarKind, StarSpec, StarState, TaskStar
from asterism.protocol.convert import (
    budget_to_proto,
    edit_batch_to_proto,
    request_to_proto,
)
from asterism.protocol.v1 import client_pb2, types_pb2, worker_pb2
from tests.orchestrator.lives import Lives
from tests.orchestrator.request_model import INVALID, MISSING, WRONG, Known, refusal_of, retried
from tests.orchestrator.serving import PLAN, RawWorker

PEOPLE: Final = ("ann", "bob")
READERS: Final = (*PEOPLE, "root")
WORKER: Final = "ada"
ROLES: Final = {**dict.fromkeys(PEOPLE, Role.CLIENT), "root": Role.ADMIN, WORKER: Role.WORKER}
ASKED: Final = [
    (Request("plan", PLAN), Budget()),
    (Request("plan", PLAN, name="small"), Budget(stars=6)),
    (Request("plan", PLAN.replace('"a"', '"b"')), Budget()),
]
GROWN: Final = ("approval", "child", "tool")
picks = st.integers(0, 11)
"""One of those that there are, however many."""
people = st.sampled_from(PEOPLE)


def spec_of(name: StarId, kind: StarKind) -> StarSpec:
    program = "approve" if kind is StarKind.APPROVAL else "noop"
    return StarSpec(name, kind, program, retry=RetryPolicy(max_attempts=1))


def is_asked(star: TaskStar) -> bool:
    """Whether a person may decide it now."""
    return star.spec.is_decided_by_people and star.state is StarState.READY


class Changing(RuleBasedStateMachine):
    """What each call leads to is on disk when it is answered, and no more than that."""

    def __init__(self, lives: Lives) -> None:
        super().__init__()
        self.lives = lives
        self.known: list[Known] = []
        self.last: Known | None = None
        """What was spoken of last."""
        self.seq = 0
        """Of the last record that was looked at."""
        self.grown = 0
        self.worker: RawWorker | None = None

    def teardown(self) -> None:
        self.lives.end()

    # What was asked, and what it has led to.

    def news(self) -> list[ConstellationRecord]:
        """What has been stored of requests since the last look."""
        by_id = {of.id: of for of in self.known}
        new = list[ConstellationRecord]()
        for record in self.lives.journal(self.seq):
            self.seq += 1
            assert record.seq == self.seq, "the journal has a gap"
            if not isinstance(record, WorkerJoined | WorkerLeft | WorkerDraining | WorkerLabelled):
                assert record.constellation in by_id, f"nobody was told of {record}"
                by_id[record.constellation].history.append(record)
                new.append(record)
        return new

    def refuse(self, code: grpc.StatusCode, who: str, method: str, message: Any) -> None:
        """It is refused, and nothing has changed."""
        (answer,) = self.lives.ask(who, method, message)
        assert answer is code, f"{method} was answered with {answer}, not with {code}: {message}"
        assert self.news() == []

    def accept(self, of: Known, who: str, method: str, message: Any) -> tuple[Any, list[ConstellationRecord]]:
        """The answer, and what is new about the request; others may at most get a slot that is free now."""
        (answer,) = self.lives.ask(who, method, message)
        assert not isinstance(answer, grpc.StatusCode), f"{method} was refused with {answer}: {message}"
        return answer, self.own_news(of)

    def own_news(self, of: Known) -> list[ConstellationRecord]:
        new = self.news()
        others = [record for record in new if record.constellation != of.id]
        assert all(isinstance(record, AttemptLeased) for record in others), others
        return [record for record in new if record.constellation == of.id]

    def pick(self, number: int) -> Known:
        self.last = self.known[number % len(self.known)]
        return self.last

    def visible(self, who: str) -> list[Known]:
        """To whom it is, newest first."""
        seen = [of for of in self.known if who in (of.owner, "root")]
        return sorted(seen, key=lambda of: of.id, reverse=True)

    # Submitting.

    @initialize(kinds=st.lists(st.sampled_from(GROWN), min_size=3, max_size=3))
    def begin(self, kinds: list[str]) -> None:
        """A worker, and some requests that are under way."""
        self.attach()
        for who, number in (("ann", 0), ("bob", 0), ("ann", 1)):
            self.submit(who, number, 0, 1)
        for kind in kinds:
            for number in range(len(self.known)):
                self.grow(number, kind, 0, 0)

    @rule(who=people, number=st.integers(0, 3), variant=st.integers(0, 2), copies=st.sampled_from([1, 1, 1, 3]))
    def submit(self, who: str, number: int, variant: int, copies: int) -> None:
        """A new request, a repeat, or another one under the same id; `copies` of it at one time."""
        request, budget = ASKED[variant]
        message = client_pb2.SubmitRequest(
            request_id=f"r{number}", request=request_to_proto(request), budget=budget_to_proto(budget)
        )
        earlier = [of for of in self.known if (of.owner, of.asked.request_id) == (who, message.request_id)]
        if earlier and earlier[0].asked != message:
            self.refuse(grpc.StatusCode.ALREADY_EXISTS, who, "Submit", message)
        elif earlier:
            self.submit_again(earlier[0])
        else:
            answers = self.lives.ask(who, "Submit", *[message] * copies)
            assert len({answer.constellation for answer in answers}) == 1
            assert sum(answer.is_new for answer in answers) == 1
            of = self.last = Known(answers[0].constellation, who, message)
            assert all(of.id != other.id for other in self.known)
            self.known.append(of)
            accepted, planned, *leased = self.own_news(of)
            assert isinstance(accepted, RequestAccepted)
            assert (accepted.owner, accepted.request_id) == (who, message.request_id)
            assert (accepted.request, accepted.budget) == (request, budget)
            assert isinstance(planned, EditsApplied)
            assert all(isinstance(record, AttemptLeased) for record in leased)

    @rule(number=picks)
    def repeat(self, number: int) -> None:
        """A submission of long ago comes once more."""
        self.submit_again(self.pick(number))

    def submit_again(self, of: Known) -> None:
        (answer,) = self.lives.ask(of.owner, "Submit", of.asked)
        assert (answer.constellation, answer.is_new) == (of.id, False)
        assert self.news() == []

    # Changing.

    @rule(number=picks, kind=st.sampled_from(GROWN), below=picks, base=st.integers(-3, 0))
    def grow(self, number: int, kind: str, below: int, base: int) -> None:
        """One star more: such a batch holds, unless its parent has changed or the budget is used up."""
        of = self.pick(number)
        parent = sorted(of.graph.stars)[below % len(of.graph.stars)]
        self.try_batch(of, EditBatch(self.new_star(kind, parent), max(0, of.graph.revision + base)))

    def new_star(self, kind: str, parent: StarId) -> tuple[Edit, ...]:
        """One that was never there."""
        self.grown += 1
        star = StarId(f"g{self.grown}")
        spec = spec_of(star, StarKind.TOOL if kind == "tool" else StarKind.APPROVAL)
        return (AddStar(spec, (parent,) if kind == "child" else ()),)

    @rule(
        data=st.data(),
        number=picks,
        base=st.sampled_from([None, None, 0, 0, 0, -1, -1, -2, 1]),
        count=st.sampled_from([1, 1, 1, 2]),
    )
    def edit(self, data: st.DataObject, number: int, base: int | None, count: int) -> None:
        """Based on what is there, or (`base`, counted from now) on what was there or is to come."""
        of = self.pick(number)
        edits = [edit for _ in range(count) for edit in self.draw_edits(data, of.graph)]
        self.try_batch(of, EditBatch(tuple(edits), None if base is None else max(0, of.graph.revision + base)))

    def try_batch(self, of: Known, batch: EditBatch) -> None:
        graph = of.graph
        message = client_pb2.EditRequest(constellation=of.id, batch=edit_batch_to_proto(batch), reason="so")
        code = refusal_of(graph, batch)
        if code is not None:
            self.refuse(code, of.owner, "Edit", message)
            return
        answer, (applied, *_) = self.accept(of, of.owner, "Edit", message)
        assert isinstance(applied, EditsApplied)
        assert (applied.by, applied.edits, applied.reason) == (f"client:{of.owner}", batch.edits, "so")
        assert answer.revision == applied.revision == graph.revision + 1 == of.graph.revision

    def draw_edits(self, data: st.DataObject, graph: TaskConstellation) -> list[Edit]:
        star = data.draw(st.sampled_from([*graph.stars, StarId("new")]))
        match data.draw(st.sampled_from(["update", "add", "cancel", "remove", "child"])):
            case "add":
                return [AddStar(spec_of(star, StarKind.APPROVAL))]
            case "child":
                added = StarId(f"{star}.child"[:60])
                return [AddStar(spec_of(added, StarKind.APPROVAL)), AddLine(TaskStarLine(star, added))]
            case "update":
                return [UpdateStar(star, priority=data.draw(st.integers(-3, 3)))]
            case "cancel":
                return [CancelStar(star)]
            case _:
                return [RemoveStar(star)]

    @rule(number=picks, is_paused=st.booleans())
    def pause(self, number: int, is_paused: bool) -> None:
        """Hold it back or let it go on; what is so already stays as it is."""
        self.hold_back(self.pick(number), is_paused=is_paused)

    def hold_back(self, of: Known, *, is_paused: bool) -> None:
        graph = of.graph
        message = client_pb2.PauseRequest(constellation=of.id, is_paused=is_paused, reason="so")
        if graph.state.is_terminal:
            self.refuse(WRONG, of.owner, "Pause", message)
            return
        _, new = self.accept(of, of.owner, "Pause", message)
        if is_paused is (graph.pause is not None):
            assert new == []
            return
        paused, *leased = new
        assert isinstance(paused, ConstellationPaused)
        assert (paused.is_paused, paused.by, paused.reason) == (is_paused, f"client:{of.owner}", "so")
        assert all(isinstance(record, AttemptLeased) for record in leased)
        assert not (leased and is_paused)

    @rule(number=picks, reason=st.sampled_from(["", "enough"]))
    def cancel(self, number: int, reason: str) -> None:
        """It ends; a second time is harmless, and what has ended by itself is refused."""
        of = self.pick(number)
        state = of.graph.state
        message = client_pb2.CancelRequest(constellation=of.id, reason=reason)
        if state in (ConstellationState.SUCCEEDED, ConstellationState.FAILED):
            self.refuse(WRONG, of.owner, "Cancel", message)
            return
        _, new = self.accept(of, of.owner, "Cancel", message)
        if state is ConstellationState.CANCELLED:
            assert new == []
            return
        *stars, end = new
        assert isinstance(end, ConstellationEnded)
        assert (end.state, end.reason) == (ConstellationState.CANCELLED, reason or "cancelled")
        assert all(isinstance(star, StarFinished) and star.state is StarState.CANCELLED for star in stars)

    @rule(data=st.data(), number=picks, is_named=st.booleans())
    def retry(self, data: st.DataObject, number: int, is_named: bool) -> None:
        """What failed or was cancelled runs again, or a star that is named, and all below."""
        of = self.pick(number)
        graph = of.graph
        stars = [data.draw(st.sampled_from([*graph.stars, StarId("nobody")]))] if is_named else []
        message = client_pb2.RetryRequest(constellation=of.id, stars=stars)
        added = retried(graph, stars)
        if isinstance(added, grpc.StatusCode):
            self.refuse(added, of.owner, "Retry", message)
            return
        answer, (applied, *_) = self.accept(of, of.owner, "Retry", message)
        assert isinstance(applied, EditsApplied)
        assert answer.revision == applied.revision == graph.revision + 1
        assert of.graph.stars.keys() - graph.stars.keys() == added

    @rule(data=st.data(), number=picks, is_approved=st.booleans())
    def decide(self, data: st.DataObject, number: int, is_approved: bool) -> None:
        """A person's answer: it ends an approval once, and the same one again is harmless."""
        of = self.pick(number)
        approvals = [star for star, found in of.graph.stars.items() if found.spec.is_decided_by_people]
        star = data.draw(st.sampled_from(approvals or [StarId("plan"), StarId("nobody")]))
        self.answer(of, star, is_approved)

    def answer(self, of: Known, star: StarId, is_approved: bool) -> None:
        graph = of.graph
        message = client_pb2.DecideRequest(
            constellation=of.id, star=star, is_approved=is_approved, reason="so", value_json="[7]"
        )
        found = graph.stars.get(star)
        if found is None or not found.spec.is_decided_by_people:
            self.refuse(MISSING if found is None else INVALID, of.owner, "Decide", message)
            return
        earlier = found.state is StarState.SUCCEEDED
        was_decided = earlier or (found.error is not None and found.error.code == "rejected")
        if is_asked(found):
            answer, (finished, *_) = self.accept(of, of.owner, "Decide", message)
            assert isinstance(finished, StarFinished)
            assert answer.revision == graph.revision
            assert (finished.star, finished.state is StarState.SUCCEEDED) == (star, is_approved)
            if is_approved:
                by = f"client:{of.owner}"
                assert finished.result == {"approved": True, "by": by, "reason": "so", "value": [7]}
        elif was_decided and earlier is is_approved:
            _, new = self.accept(of, of.owner, "Decide", message)
            assert new == []
        else:
            self.refuse(WRONG, of.owner, "Decide", message)

    @rule(number=picks)
    def replan(self, number: int) -> None:
        """Nobody here rewrites graphs."""
        of = self.pick(number)
        self.refuse(WRONG, of.owner, "Replan", client_pb2.ReplanRequest(constellation=of.id, why="so"))

    # The worker.

    @rule()
    def attach(self) -> None:
        """It comes, or comes back with what it holds."""
        held = [attempt for _, _, attempt in self.held()]
        work = self.lives.peers[WORKER].attach(WORKER, held=held)
        self.worker = self.lives.wait(work)
        assert all(isinstance(record, AttemptLeased) for record in self.news())

    def held(self) -> list[tuple[Known, StarId, int]]:
        """Request, star and fencing token of each attempt that holds a slot."""
        found = [
            (of, star.spec.id, attempt.fencing_token)
            for of in self.known
            for star in of.graph.stars.values()
            for attempt in star.attempts
            if attempt.holds_slot
        ]
        return sorted(found, key=lambda one: one[2])

    @precondition(lambda self: self.worker is not None)
    @rule(
        number=picks,
        how=st.sampled_from(["succeeds", "succeeds", "fails", "plans"]),
    )
    def work(self, number: int, how: str) -> None:
        """An attempt ends as it likes, or as it was told."""
        held = self.held()
        if held:
            self.end_attempt(*held[number % len(held)], how)

    @rule(number=picks, is_good=st.booleans())
    def bring_to_its_end(self, number: int, is_good: bool) -> None:
        """Everybody does what it waits for, one after the other."""
        of = self.pick(number)
        if of.graph.pause is not None:
            self.hold_back(of, is_paused=False)
        if self.worker is None:
            self.attach()
        while not of.graph.state.is_terminal:
            asked = [star for star, found in of.graph.stars.items() if is_asked(found)]
            if asked:
                self.answer(of, asked[0], is_good)
            else:
                self.end_attempt(*self.held()[0], "succeeds")

    def end_attempt(self, of: Known, name: StarId, token: int, how: str) -> None:
        running = of.graph.stars[name]
        finished = worker_pb2.Finished(fencing_token=token, result_json='"ok"')
        if running.state.is_terminal or how == "fails":
            finished.error.CopyFrom(types_pb2.StarError(code="boom", message="it broke"))
            finished.is_stopped = running.state.is_terminal
        elif how == "plans" and running.spec.may_edit:
            finished.edits.CopyFrom(edit_batch_to_proto(EditBatch(self.new_star("child", StarId("plan")))))
        self.lives.wait(self.report(finished))
        assert self.own_news(of), "what was acknowledged is on disk"
        assert not any(attempt.holds_slot for attempt in of.graph.stars[name].attempts)

    async def report(self, finished: worker_pb2.Finished) -> None:
        """Say it, and wait until it is acknowledged."""
        assert self.worker is not None
        await self.worker.call.write(worker_pb2.WorkerFrame(finished=[finished]))
        while finished.fencing_token not in (await self.worker.read()).acknowledged:
            pass
