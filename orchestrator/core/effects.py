"""What is to be done after the append that explains it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from asterism.orchestrator.core.events import Chunk
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.lean import lean
from asterism.orchestrator.core.records import Record
from asterism.orchestrator.core.star import StarKind
from asterism.orchestrator.core.values import Artifact, Json, Path


@lean
@dataclass(frozen=True, slots=True)
class Place:
    """Where in an assignment's inputs the worker is to put a value that lies in an artifact."""

    input: str
    at: Path
    """Where in the input; until then it holds None."""
    artifact: Artifact
    path: Path
    """Where in the artifact's value."""


@lean
@dataclass(frozen=True, slots=True)
class Assign:
    """Send a star to a worker, its inputs resolved."""

    worker: WorkerId
    constellation: ConstellationId
    star: StarId
    attempt: int
    fencing_token: FencingToken
    kind: StarKind
    program: str
    inputs: Mapping[str, Json]
    model: str | None
    """The model that the star requires, without the `model:` before it."""
    revision: int
    may_edit: bool
    start_to_close_s: float | None
    heartbeat_s: float | None
    places: tuple[Place, ...] = ()
    """What is to be put into `inputs` before the star runs."""
    streams: tuple[str, ...] = ()
    """Inputs that are not in `inputs`, since their parents are still writing them."""


@dataclass(frozen=True, slots=True)
class InputText:
    """Tell a running attempt more of an input that its parent is still writing."""

    worker: WorkerId
    fencing_token: FencingToken
    input: str
    at: int
    """How many characters came before it: what a worker has already it leaves out, and after a gap it waits."""
    text: str


@dataclass(frozen=True, slots=True)
class InputValue:
    """Tell a running attempt the whole of an input that was being written."""

    worker: WorkerId
    fencing_token: FencingToken
    input: str
    value: Json
    place: Place | None = None
    """Where it lies in an artifact; the value is None then."""


@lean
@dataclass(frozen=True, slots=True)
class Stop:
    """Tell a worker to stop an attempt and to confirm."""

    worker: WorkerId
    fencing_token: FencingToken
    reason: str


@lean
@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Tell a worker that what it reported is on disk, or of no use: it may forget it."""

    worker: WorkerId
    fencing_tokens: tuple[FencingToken, ...]
    """Of all reports of one step."""


@lean
@dataclass(frozen=True, slots=True)
class AnswerEdits:
    """Tell a worker what became of the edits that its attempt proposed."""

    worker: WorkerId
    fencing_token: FencingToken
    proposal: int
    is_accepted: bool
    reasons: tuple[str, ...]
    revision: int


@lean
@dataclass(frozen=True, slots=True)
class Broadcast:
    """Show streamed text to whoever watches the constellation; it is not stored."""

    constellation: ConstellationId
    star: StarId
    attempt: int
    worker: WorkerId
    chunks: tuple[Chunk, ...]


@lean
@dataclass(frozen=True, slots=True)
class Disconnect:
    """End a worker's stream: its lease ran out, or another instance holds the identity."""

    worker: WorkerId
    instance: str
    reason: str


Effect: TypeAlias = Assign | InputText | InputValue | Stop | Acknowledge | AnswerEdits | Broadcast | Disconnect


@lean
@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a client's event: which constellation, at which revision."""

    constellation: ConstellationId
    revision: int
    is_new: bool = True
    """False when a submit repeated a request_id that is known."""


@dataclass(slots=True)
class Outcome:
    """All that one event led to: append `records`, then release `effects`, then answer with `reply`."""

    records: list[Record]
    effects: list[Effect]
    reply: Reply | None = None
