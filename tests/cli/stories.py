"""A short story of one request, as its journal tells it: a plan, and two siblings of which one cancels the other."""

from collections.abc import Sequence

from asterism.orchestrator.core.apply import apply
from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.edits import AddLine, AddStar, CancelStar, Edit
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.records import (
    AttemptEnded,
    AttemptLeased,
    ConstellationEnded,
    ConstellationRecord,
    EditsApplied,
    EditsRefused,
    RequestAccepted,
    StarFinished,
    WorkerJoined,
)
from asterism.orchestrator.core.request import Budget, ConstellationState, Request
from asterism.orchestrator.core.star import AttemptOutcome, StarError, StarKind, StarSpec, StarState
from asterism.orchestrator.core.state import State
from asterism.orchestrator.core.values import Json

ID = ConstellationId("c1")
START = 1_000_000.0
RESULT: Json = {"solved": True, "expression": "(1+2+3)*4", "threads": [{"thread": "t1"}, {"thread": "t2"}]}


def star(name: str, kind: StarKind = StarKind.REASON, program: str = "reason.countdown", title: str = "") -> StarSpec:
    """A spec with nothing but its name."""
    return StarSpec(StarId(name), kind, program, title=title)


def edits(seq: int, at: float, revision: int, by: str, *batch: Edit) -> EditsApplied:
    """A revision."""
    return EditsApplied(seq, START + at, ID, revision, by, batch)


def lease(seq: int, at: float, name: str, worker: str, attempt: int = 1) -> AttemptLeased:
    """A lease, whose fencing token is its place in the journal."""
    return AttemptLeased(seq, START + at, ID, StarId(name), attempt, WorkerId(worker), FencingToken(seq))


def finish(
    seq: int, at: float, name: str, state: StarState, result: Json = None, why: str = "", attempt: int = 1
) -> StarFinished:
    """The end of a star."""
    error = StarError("cancelled", why) if why else None
    outcome = AttemptOutcome(state.value)
    return StarFinished(seq, START + at, ID, StarId(name), state, result, error, attempt, outcome, releases_slot=True)


def constellation(records: int = 16) -> TaskConstellation:
    """The request as it stands after so many records, by the core's own fold."""
    state = State()
    for number in (1, 2, 3):
        apply(state, WorkerJoined(0, START, WorkerId(f"w{number}"), "i", WorkerProfile(slots=2)))
    for record in story()[:records]:
        apply(state, record)
    return state.constellations[ID]


def line(parent: str, child: str, kind: LineKind = LineKind.SUCCESS) -> AddLine:
    """A line."""
    return AddLine(TaskStarLine(StarId(parent), StarId(child), kind))


def story() -> Sequence[ConstellationRecord]:
    """All records of the request, in order."""
    return (
        RequestAccepted(1, START, ID, "r1", "local", Request("boards", "1 2 3 4", name="boards.txt"), Budget()),
        edits(2, 0.0, 1, "policy", AddStar(star("plan", StarKind.PLAN, "plan", "reads the request"))),
        lease(3, 0.1, "plan", "w1"),
        edits(
            4,
            0.2,
            2,
            "star:plan",
            AddStar(star("report", StarKind.GATHER, "gather.boards")),
            AddStar(star("b01-a", title="1 2 3 4")),
            AddStar(star("b01-b", title="1 2 3 4")),
            line("b01-a", "report", LineKind.COMPLETION),
            line("b01-b", "report", LineKind.COMPLETION),
        ),
        finish(5, 0.3, "plan", StarState.SUCCEEDED, {"stars": 3}),
        lease(6, 0.3, "b01-a", "w1"),
        lease(7, 0.3, "b01-b", "w2"),
        EditsRefused(8, START + 0.5, ID, "star:b01-a", ("star b09: there is no such star",)),
        AttemptEnded(
            9,
            START + 0.9,
            ID,
            StarId("b01-a"),
            1,
            AttemptOutcome.LOST,
            StarError("worker_lost", "w1 left", retryable=True),
            START + 1.4,
            releases_slot=True,
        ),
        lease(10, 1.4, "b01-a", "w3", attempt=2),
        edits(11, 2.4, 3, "star:b01-a", CancelStar(StarId("b01-b"))),
        finish(12, 2.4, "b01-a", StarState.SUCCEEDED, RESULT, attempt=2),
        finish(13, 2.4, "b01-b", StarState.CANCELLED, why="cancelled by star:b01-a"),
        lease(14, 2.5, "report", "w2"),
        finish(15, 2.7, "report", StarState.SUCCEEDED, {"text": "1 2 3 4: (1+2+3)*4"}),
        ConstellationEnded(16, START + 2.8, ID, ConstellationState.SUCCEEDED, ""),
    )
