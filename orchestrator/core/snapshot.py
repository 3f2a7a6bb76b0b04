"""What a store gives back: everything that is live, and short pictures of what is not."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, WorkerId
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.request import ConstellationState


@dataclass(frozen=True, slots=True)
class StoredWorker:
    """A worker that is known. It is in the fleet unless it has left."""

    id: WorkerId
    instance: str
    profile: WorkerProfile
    has_left: bool
    is_draining: bool
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state on disk: what recovery starts from."""

    constellations: tuple[TaskConstellation, ...]
    """Those that have not ended, oldest first, and ended ones of which an attempt still holds a slot."""
    workers: tuple[StoredWorker, ...]
    last_seq: int
    last_fencing_token: FencingToken


@dataclass(frozen=True, slots=True)
class Summary:
    """One row of a list of constellations."""

    id: ConstellationId
    request_id: str
    owner: str
    name: str
    form: str
    created_at: float
    state: ConstellationState
    reason: str
    ended_at: float | None
    revision: int
    stars: int
    stars_terminal: int
