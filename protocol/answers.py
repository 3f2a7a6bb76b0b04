"""What the client library gives back and the core has no noun for."""

from collections.abc import Mapping
from dataclasses import dataclass

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.events import Chunk
from asterism.orchestrator.core.ids import ConstellationId, StarId, WorkerId
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.request import ConstellationState


@dataclass(frozen=True, slots=True)
class Submitted:
    """A request that is on disk. `is_new` is False when the same request was submitted before."""

    constellation: ConstellationId
    is_new: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """A constellation as it stood at journal record `constellation.seq`: watch from there to miss nothing."""

    constellation: TaskConstellation
    waiting_for: Mapping[StarId, str]
    """What each star that neither runs nor is terminal waits for, in words."""


@dataclass(frozen=True, slots=True)
class StreamedText:
    """Text that a running attempt streams; not stored, so a watcher that comes later does not see it."""

    star: StarId
    attempt: int
    worker: WorkerId
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker as the orchestrator sees it."""

    id: WorkerId
    profile: WorkerProfile
    is_attached: bool
    is_draining: bool
    slots_held: int
    labels: Mapping[str, str]
    """Set by an operator; they win over the worker's own."""
    last_seen_at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a constellation ended; an edit or a retry may have brought it back since."""

    state: ConstellationState
    """Terminal."""
    reason: str
    """Empty when it succeeded; else the first cause."""
    ended_at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What an orchestrator has done since it started."""

    appends: int
    """Transactions of the journal."""
    records: int
    """In all of them."""
    frames_received: int
    """From workers."""
    frames_sent: int
    """To workers."""
    dropped: int
    """Messages that were ignored, because a newer stream of their worker had replaced theirs."""
