"""What the tests of the orchestrator share: requests, stars and events in their plainest form."""

from asterism.orchestrator.core.edits import AddStar, EditBatch
from asterism.orchestrator.core.events import AttemptSucceeded, RequestSubmitted, WorkerAttached
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.request import Budget, Request
from asterism.orchestrator.core.star import StarKind, StarSpec

PLAN = StarSpec(StarId("plan"), StarKind.PLAN, "plan", may_edit=True)
EMPTY_PLAN = '{"stars": [{"id": "a", "kind": "tool", "program": "noop"}]}'


def submitted(at: float, name: str = "c1", *, owner: str = "ann", request_id: str = "") -> RequestSubmitted:
    """A request with nothing but its plan star."""
    return RequestSubmitted(
        at, ConstellationId(name), request_id or f"r-{name}", owner, Request("plan", EMPTY_PLAN), Budget(), PLAN
    )


def attached(at: float, worker: str = "w1", instance: str = "i1", *, slots: int = 2) -> WorkerAttached:
    """A worker that plans and runs `noop`."""
    return WorkerAttached(at, WorkerId(worker), instance, WorkerProfile(slots, programs=("plan",), tools=("noop",)))


def succeeded(at: float, token: int, *, batch: EditBatch | None = None, worker: str = "w1") -> AttemptSucceeded:
    """An attempt that ended well."""
    return AttemptSucceeded(at, WorkerId(worker), FencingToken(token), "ok", batch)


def noop(star: str) -> EditBatch:
    """One more star, which anyone can run."""
    return EditBatch((AddStar(StarSpec(StarId(star), StarKind.TOOL, "noop")),))
