"""What of two pictures of the same thing differs, and what an edit is about."""

from dataclasses import fields
from typing import Any, Final, assert_never

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.edits import (
    AddLine,
    AddStar,
    CancelStar,
    Edit,
    RebindInputs,
    RemoveLine,
    RemoveStar,
    UpdateStar,
)
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.records import EditsApplied
from asterism.orchestrator.core.star import TaskStar
from asterism.orchestrator.core.state import Worker

_STAR_FIELDS: Final = tuple(field.name for field in fields(TaskStar))
_GRAPH_FIELDS: Final = tuple(field.name for field in fields(TaskConstellation) if field.name != "stars")


def difference(here: TaskConstellation, there: TaskConstellation) -> str:
    """The first thing in which they differ; empty when they are the same."""
    for name in _GRAPH_FIELDS:
        if getattr(here, name) != getattr(there, name):
            return f"{name}: {getattr(here, name)} is not {getattr(there, name)}"
    if list(here.stars) != list(there.stars):
        return f"stars: {list(here.stars)} are not {list(there.stars)}"
    for star_id, star in here.stars.items():
        other = there.stars[star_id]
        for name in _STAR_FIELDS:
            if getattr(star, name) != getattr(other, name):
                return f"{star_id}.{name}: {getattr(star, name)} is not {getattr(other, name)}"
        for attempt, known in zip(star.attempts, other.attempts, strict=True):
            if attempt.answers != known.answers:
                return f"{star_id}'s answers: {attempt.answers} are not {known.answers}"
    return ""


def picture_of(worker: Worker) -> tuple[Any, ...]:
    """What is stored of a worker, and what it holds."""
    return (
        worker.instance,
        worker.profile,
        worker.labels,
        worker.has_left,
        worker.is_draining,
        sorted((token, lease.star, lease.is_stopping) for token, lease in worker.running.items()),
    )


def marker_of(edit: Edit) -> str:
    """The name by which a client's batch is known: that of a star that nobody else adds."""
    return edit.spec.id if isinstance(edit, AddStar) else ""


def named_in(edit: Edit) -> tuple[StarId, ...]:
    """The stars that an edit names, but for one that it adds."""
    match edit:
        case AddStar(_, after):
            return after
        case AddLine(line):
            return line.parent, line.child
        case RemoveLine(parent, child):
            return parent, child
        case RemoveStar(star) | UpdateStar(star) | RebindInputs(star) | CancelStar(star):
            return (star,)
        case _:
            assert_never(edit)


def touched_by(record: EditsApplied) -> set[StarId]:
    """The stars to which an edit gave its revision, as far as names tell: those that it added, or changed."""
    touched: set[StarId] = set()
    for edit in record.edits:
        match edit:
            case AddStar(spec):
                touched.add(spec.id)
            case AddLine(line):
                touched.add(line.child)
            case RemoveLine(_, child):
                touched.add(child)
            case UpdateStar(star) | RebindInputs(star):
                touched.add(star)
            case RemoveStar() | CancelStar():
                pass
            case _:
                assert_never(edit)
    return touched
