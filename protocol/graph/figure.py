"""What every drawn form needs of a constellation: boxes with two lines of words, and arrows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import LineKind
from asterism.orchestrator.core.star import StarState, TaskStar
from asterism.protocol.graph.picture import History, reasoning_threads
from asterism.protocol.view.wording import one_line, seconds


class ArrowKind(StrEnum):
    """The kinds of lines, and one that is no line: a star that added another by an edit."""

    SUCCESS = "success"
    COMPLETION = "completion"
    CONDITION = "condition"
    QUORUM = "quorum"
    GUARD = "guard"
    STREAM = "stream"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class Box:
    """One star."""

    id: StarId
    state: StarState
    words: str
    """What it is and how it went, in one short line."""
    note: str
    """More, for those who point at it."""


@dataclass(frozen=True, slots=True)
class Arrow:
    """From a parent to its child, or from a star to one that it added."""

    parent: StarId
    child: StarId
    kind: ArrowKind


@dataclass(frozen=True, slots=True)
class Figure:
    """A constellation, ready to be drawn."""

    name: str
    state: str
    revision: int
    boxes: Mapping[StarId, Box]
    arrows: tuple[Arrow, ...]


def figure_of(constellation: TaskConstellation, history: History) -> Figure:
    """Boxes in the order of the stars; an `ADDED` arrow only where no line joins the two already."""
    lines = tuple(Arrow(line.parent, line.child, _kind(line.kind)) for line in constellation.lines())
    joined = {(arrow.parent, arrow.child) for arrow in lines}
    added = tuple(
        Arrow(parent, child, ArrowKind.ADDED)
        for child, parent in history.parents.items()
        if child in constellation.stars and parent in constellation.stars and (parent, child) not in joined
    )
    return Figure(
        name=one_line(constellation.request.name or constellation.request.form, 60),
        state=constellation.state.value,
        revision=constellation.revision,
        boxes={star_id: _box(star) for star_id, star in constellation.stars.items()},
        arrows=lines + added,
    )


def _kind(kind: LineKind) -> ArrowKind:
    return ArrowKind(kind.value)


def _box(star: TaskStar) -> Box:
    return Box(
        id=star.spec.id,
        state=star.state,
        words=" · ".join(_words(star)),
        note=one_line("; ".join(_notes(star)), 240),
    )


def _notes(star: TaskStar) -> Iterator[str]:
    if star.spec.title:
        yield star.spec.title
    yield star.spec.program
    yield star.state.value
    if star.error is not None:
        yield star.error.message


def _words(star: TaskStar) -> Iterator[str]:
    yield star.spec.program
    if star.attempts:
        last = star.attempts[-1]
        yield last.worker
        if last.ended_at is not None:
            yield seconds(last.ended_at - last.leased_at)
        if len(star.attempts) > 1:
            yield f"{len(star.attempts)} attempts"
    if star.source:
        yield f"as {star.source}"
    threads = reasoning_threads(star.result)
    if threads is not None and threads > 1:
        yield f"{threads} threads"
