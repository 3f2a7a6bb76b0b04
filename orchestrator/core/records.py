"""What is stored: the journal. The state is the fold of its records, so a record holds all that `apply` needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from asterism.orchestrator.core.edits import Edit
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.lean import lean
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.request import Budget, ConstellationState, Request
from asterism.orchestrator.core.star import AttemptOutcome, StarError, StarSpec, StarState
from asterism.orchestrator.core.values import Result


@lean
@dataclass(frozen=True, slots=True)
class RequestAccepted:
    """A constellation begins, empty; the edit that adds its plan star follows."""

    seq: int
    """Place in the journal of the whole orchestrator; rises by one."""
    at: float
    """Seconds since the epoch."""
    constellation: ConstellationId
    request_id: str
    owner: str
    request: Request
    budget: Budget
    replan: StarSpec | None = None
    """What the stars are made from that ask for a rewrite."""


@lean
@dataclass(frozen=True, slots=True)
class EditsApplied:
    """The graph has a new revision."""

    seq: int
    at: float
    constellation: ConstellationId
    revision: int
    by: str
    """`star:ID`, `client:NAME`, `policy` or `policy:budget`."""
    edits: tuple[Edit, ...]
    reason: str = ""
    """Of a person, or why a rewrite is asked for."""
    proposal: int = 0
    """Which one of the running attempt it was; 0 for what no attempt asked for in mid-run."""


@lean
@dataclass(frozen=True, slots=True)
class EditsRefused:
    """A star proposed edits that do not hold; nothing was changed."""

    seq: int
    at: float
    constellation: ConstellationId
    by: str
    reasons: tuple[str, ...]
    proposal: int = 0
    """As of `EditsApplied`."""


@lean
@dataclass(frozen=True, slots=True)
class AttemptLeased:
    """A star runs on a worker."""

    seq: int
    at: float
    constellation: ConstellationId
    star: StarId
    attempt: int
    worker: WorkerId
    fencing_token: FencingToken


@lean
@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt ended and its star did not: it waits for `retry_at`, or is READY again where that is None."""

    seq: int
    at: float
    constellation: ConstellationId
    star: StarId
    attempt: int
    outcome: AttemptOutcome
    error: StarError
    retry_at: float | None
    releases_slot: bool
    tokens: int = 0
    """That models wrote for the attempt."""


@lean
@dataclass(frozen=True, slots=True)
class StarFinished:
    """A star is terminal; so is its live attempt, if it had one."""

    seq: int
    at: float
    constellation: ConstellationId
    star: StarId
    state: StarState
    result: Result = None
    error: StarError | None = None
    attempt: int | None = None
    """The live attempt that ended with it, if any."""
    outcome: AttemptOutcome | None = None
    releases_slot: bool = False
    version: str = ""
    """Of the program or tool that gave the result."""
    source: str = ""
    """`CONSTELLATION/STAR` whose result it is, where the star did not run."""
    tokens: int = 0
    """That models wrote for its last attempt."""


@lean
@dataclass(frozen=True, slots=True)
class SlotReleased:
    """A worker has confirmed that it stopped an attempt which had ended before."""

    seq: int
    at: float
    constellation: ConstellationId
    star: StarId
    attempt: int


@lean
@dataclass(frozen=True, slots=True)
class ConstellationPaused:
    """No star is dispatched any more (or again)."""

    seq: int
    at: float
    constellation: ConstellationId
    by: str
    reason: str
    is_paused: bool


@lean
@dataclass(frozen=True, slots=True)
class ConstellationEnded:
    """Every star is terminal, or the request was cancelled or ran out of its budget."""

    seq: int
    at: float
    constellation: ConstellationId
    state: ConstellationState
    reason: str
    """Empty when it succeeded; else the first cause."""


@lean
@dataclass(frozen=True, slots=True)
class WorkerJoined:
    """A worker has attached with a profile that is new or has changed, or after it had left."""

    seq: int
    at: float
    worker: WorkerId
    instance: str
    profile: WorkerProfile


@lean
@dataclass(frozen=True, slots=True)
class WorkerLeft:
    """A worker's lease ran out or it said goodbye; it holds nothing any more."""

    seq: int
    at: float
    worker: WorkerId
    reason: str


@lean
@dataclass(frozen=True, slots=True)
class WorkerDraining:
    """A worker gets no new stars (or gets them again)."""

    seq: int
    at: float
    worker: WorkerId
    is_draining: bool


@lean
@dataclass(frozen=True, slots=True)
class WorkerLabelled:
    """An operator's labels of a worker, all of them."""

    seq: int
    at: float
    worker: WorkerId
    labels: Mapping[str, str]


ConstellationRecord: TypeAlias = (
    RequestAccepted
    | EditsApplied
    | EditsRefused
    | AttemptLeased
    | AttemptEnded
    | StarFinished
    | SlotReleased
    | ConstellationPaused
    | ConstellationEnded
)
WorkerRecord: TypeAlias = WorkerJoined | WorkerLeft | WorkerDraining | WorkerLabelled
Record: TypeAlias = ConstellationRecord | WorkerRecord
