"""One constellation as plain JSON: how it stands, and how it came to be so. Every other form is drawn from this one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from asterism.orchestrator.core.constellation import BY_STAR, TaskConstellation
from asterism.orchestrator.core.edits import AddStar
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import TaskStarLine
from asterism.orchestrator.core.records import AttemptLeased, ConstellationRecord, EditsApplied
from asterism.orchestrator.core.star import Attempt, StarError, StarKind, TaskStar
from asterism.orchestrator.core.values import Artifact, Json, Result
from asterism.protocol.view.edits_text import describe_edits
from asterism.protocol.view.result import shown


@dataclass(frozen=True, slots=True)
class Revision:
    """One edit of the graph."""

    revision: int
    at: float
    """Seconds since the epoch."""
    by: str
    summary: str
    after_execution_began: bool
    """Whether a star other than the plan's had been leased by then: the graph was rewritten under way."""


@dataclass(slots=True)
class History:
    """What the journal says of the graph beyond the graph itself."""

    revisions: list[Revision] = field(default_factory=list)
    added: dict[StarId, Revision] = field(default_factory=dict)
    """Star -> the revision that added it."""

    @property
    def parents(self) -> dict[StarId, StarId]:
        """Star -> the star whose edit added it, where a star did."""
        return {
            star: StarId(revision.by.removeprefix(BY_STAR))
            for star, revision in self.added.items()
            if revision.by.startswith(BY_STAR)
        }


def read_history(records: Iterable[ConstellationRecord]) -> History:
    """Folds a constellation's journal, from its first record on, into the history of its edits."""
    history = History()
    plans: set[StarId] = set()
    began = False
    for record in records:
        match record:
            case EditsApplied():
                revision = Revision(record.revision, record.at, record.by, describe_edits(record.edits), began)
                history.revisions.append(revision)
                for edit in record.edits:
                    if isinstance(edit, AddStar):
                        history.added[edit.spec.id] = revision
                        if edit.spec.kind is StarKind.PLAN:
                            plans.add(edit.spec.id)
            case AttemptLeased():
                began = began or record.star not in plans
            case _:
                pass  # results and ends are in the constellation itself
    return history


def draw_picture(
    constellation: TaskConstellation, history: History, waiting_for: Mapping[StarId, str] | None = None
) -> dict[str, Json]:
    """The JSON of `asterism graph --format json`."""
    waits = waiting_for or {}
    workers = sorted({attempt.worker for star in constellation.stars.values() for attempt in star.attempts})
    return {
        "id": constellation.id,
        "request_id": constellation.request_id,
        "name": constellation.request.name,
        "form": constellation.request.form,
        "state": constellation.state.value,
        "reason": constellation.reason,
        "created_at": constellation.created_at,
        "ended_at": constellation.ended_at,
        "budget": {
            "stars": constellation.budget.stars,
            "attempts": constellation.budget.attempts,
            "seconds": constellation.budget.seconds,
            "tokens": constellation.budget.tokens,
            "replans": constellation.budget.replans,
        },
        "attempts": constellation.attempts,
        "tokens": constellation.tokens,
        "revision": constellation.revision,
        "revisions": [
            {
                "revision": revision.revision,
                "at": revision.at,
                "by": revision.by,
                "summary": revision.summary,
                "after_execution_began": revision.after_execution_began,
            }
            for revision in history.revisions
        ],
        "stars": [
            _star(star, history.added.get(star_id), waits.get(star_id, ""))
            for star_id, star in constellation.stars.items()
        ],
        "lines": [_line(line) for line in constellation.lines()],
        "workers": workers,
    }


def reasoning_threads(result: Result) -> int | None:
    """How many reasoning threads a star's result reports, or None where it reports none."""
    if isinstance(result, Artifact) or not isinstance(result, Mapping):
        return None
    match result.get("threads"):
        case bool() | None:
            return None
        case int() as number:
            return number
        case str():
            return None
        case Sequence() as threads:
            return len(threads)
        case _:
            return None


def _star(star: TaskStar, added: Revision | None, waiting_for: str) -> dict[str, Json]:
    threads = reasoning_threads(star.result)
    return {
        "id": star.spec.id,
        "kind": star.spec.kind.value,
        "program": star.spec.program,
        "state": star.state.value,
        "title": star.spec.title,
        "added_by": None if added is None else added.by,
        "added_in_revision": None if added is None else added.revision,
        "attempts": [_attempt(attempt) for attempt in star.attempts],
        "result": shown(star.result),
        "error": _error(star.error),
        **({"waiting_for": waiting_for} if waiting_for else {}),
        **({"source": star.source} if star.source else {}),
        **({"threads": threads} if threads is not None else {}),
    }


def _attempt(attempt: Attempt) -> dict[str, Json]:
    return {
        "number": attempt.number,
        "worker": attempt.worker,
        "outcome": None if attempt.outcome is None else attempt.outcome.value,
        "seconds": None if attempt.ended_at is None else round(attempt.ended_at - attempt.leased_at, 4),
        "error": _error(attempt.error),
    }


def _error(error: StarError | None) -> Json:
    return None if error is None else {"code": error.code, "message": error.message, "retryable": error.retryable}


def _line(line: TaskStarLine) -> dict[str, Json]:
    condition = {} if line.condition is None else {"condition": str(line.condition)}
    return {"parent": line.parent, "child": line.child, "kind": line.kind.value, **condition}
