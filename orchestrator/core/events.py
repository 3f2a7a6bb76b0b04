"""What happens to the orchestrator. Time, ids and chance come inside, so that the same events give the same state."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from asterism.orchestrator.core.edits import EditBatch
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.lean import lean
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.request import Budget, Request
from asterism.orchestrator.core.star import StarError, StarInput, StarSpec
from asterism.orchestrator.core.values import Json, Result


@lean
@dataclass(frozen=True, slots=True)
class RequestSubmitted:
    """A client submits; `constellation` is the id to use if the request is new, `plan` its first star."""

    at: float
    constellation: ConstellationId
    request_id: str
    owner: str
    request: Request
    budget: Budget
    plan: StarSpec
    replan: StarSpec | None = None
    """What stars are made from that ask for a rewrite; its id is of no account."""


@dataclass(frozen=True, slots=True)
class ReplanRequested:
    """A person wants the graph rewritten, and says why; `rule` is used where the request has none of its own."""

    at: float
    constellation: ConstellationId
    by: str
    why: str
    rule: StarSpec | None = None


@lean
@dataclass(frozen=True, slots=True)
class EditRequested:
    """A person or a program outside edits a graph."""

    at: float
    constellation: ConstellationId
    by: str
    batch: EditBatch
    reason: str = ""


@lean
@dataclass(frozen=True, slots=True)
class Decided:
    """A person decides an approval; `value` goes with a yes, for the children to use."""

    at: float
    constellation: ConstellationId
    star: StarId
    by: str
    is_approved: bool
    reason: str = ""
    value: Json = None


@lean
@dataclass(frozen=True, slots=True)
class PauseRequested:
    """A client wants no star of a request to be dispatched any more, or (`is_paused` False) again."""

    at: float
    constellation: ConstellationId
    by: str
    reason: str
    is_paused: bool


@lean
@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A client cancels a request."""

    at: float
    constellation: ConstellationId
    reason: str


@lean
@dataclass(frozen=True, slots=True)
class RetryRequested:
    """A client asks that what failed or was cancelled runs again, as new stars; or `stars`, whatever became of them.

    What depends on these runs again too, unless its content key has not changed.
    """

    at: float
    constellation: ConstellationId
    by: str
    stars: tuple[StarId, ...] = ()
    rebinds: Mapping[StarId, Mapping[str, StarInput]] = field(default_factory=dict)
    """Other inputs for some of `stars`."""


@lean
@dataclass(frozen=True, slots=True)
class HeldAttempt:
    """An attempt that an attaching worker still runs, or whose result it still keeps."""

    fencing_token: FencingToken


@lean
@dataclass(frozen=True, slots=True)
class WorkerAttached:
    """A worker opened its stream. `instance` names its process: it changes at every start."""

    at: float
    worker: WorkerId
    instance: str
    profile: WorkerProfile
    held: tuple[HeldAttempt, ...] = ()


@lean
@dataclass(frozen=True, slots=True)
class WorkerDetached:
    """The stream of that instance ended. `is_goodbye`: it said so itself, having nothing left to run."""

    at: float
    worker: WorkerId
    instance: str
    is_goodbye: bool = False
    chance: float = 0.0


@lean
@dataclass(frozen=True, slots=True)
class WorkerRenewed:
    """A sign of life: renews all the worker's leases."""

    at: float
    worker: WorkerId


@lean
@dataclass(frozen=True, slots=True)
class WorkerLeaving:
    """A worker finishes what it runs and takes nothing new; forgotten when it attaches again."""

    at: float
    worker: WorkerId


@lean
@dataclass(frozen=True, slots=True)
class DrainRequested:
    """An operator: a worker is to get no new stars, or again."""

    at: float
    worker: WorkerId
    is_draining: bool


@lean
@dataclass(frozen=True, slots=True)
class LabelRequested:
    """An operator sets labels (a value of None takes one away)."""

    at: float
    worker: WorkerId
    labels: Mapping[str, str | None]


@lean
@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of text that a running star streams, under the id of its reasoning thread."""

    thread: str
    text: str
    tokens: int


@lean
@dataclass(frozen=True, slots=True)
class AttemptProgressed:
    """A running attempt streams text; also its heartbeat."""

    at: float
    worker: WorkerId
    fencing_token: FencingToken
    chunks: tuple[Chunk, ...]


@lean
@dataclass(frozen=True, slots=True)
class EditsProposed:
    """A running attempt wants to edit its own constellation; `proposal` numbers the answer."""

    at: float
    worker: WorkerId
    fencing_token: FencingToken
    proposal: int
    batch: EditBatch


@lean
@dataclass(frozen=True, slots=True)
class AttemptSucceeded:
    """A worker reports a result, and the edits that go with it."""

    at: float
    worker: WorkerId
    fencing_token: FencingToken
    result: Result
    batch: EditBatch | None = None
    tokens: int = 0
    """That models wrote for the attempt."""


@lean
@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """A worker reports that an attempt failed, or (`is_stopped`) that it stopped it as told."""

    at: float
    worker: WorkerId
    fencing_token: FencingToken
    error: StarError
    is_stopped: bool = False
    chance: float = 0.0
    """Uniform in [0, 1): the jitter of a backoff."""
    tokens: int = 0
    """That models wrote for the attempt."""


WorkerEvent: TypeAlias = (
    WorkerRenewed | WorkerLeaving | AttemptProgressed | EditsProposed | AttemptSucceeded | AttemptFailed
)


@lean
@dataclass(frozen=True, slots=True)
class WorkerSaid:
    """What a frame of a worker says, in its order: one step, after which ready stars are placed once for all of it."""

    at: float
    """Of the last event."""
    worker: WorkerId
    events: tuple[WorkerEvent, ...]


@lean
@dataclass(frozen=True, slots=True)
class TimePassed:
    """A deadline may have come."""

    at: float
    chance: float = 0.0


Event: TypeAlias = (
    RequestSubmitted
    | EditRequested
    | ReplanRequested
    | Decided
    | PauseRequested
    | CancelRequested
    | RetryRequested
    | WorkerAttached
    | WorkerDetached
    | WorkerRenewed
    | WorkerLeaving
    | DrainRequested
    | LabelRequested
    | AttemptProgressed
    | EditsProposed
    | AttemptSucceeded
    | AttemptFailed
    | WorkerSaid
    | TimePassed
)
