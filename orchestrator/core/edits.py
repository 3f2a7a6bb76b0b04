"""What can be done to a graph. A batch applies whole or not at all."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.lean import lean
from asterism.orchestrator.core.line import TaskStarLine
from asterism.orchestrator.core.star import RetryPolicy, StarInput, StarSpec, Timeouts


@lean
@dataclass(frozen=True, slots=True)
class AddStar:
    """A new star, with the plain lines that most come with; lines of other kinds are edits of their own."""

    spec: StarSpec
    after: tuple[StarId, ...] = ()
    """Its parents by lines of kind SUCCESS. Each counts as an edit, see `count_edits`."""

    def lines(self) -> Iterator[TaskStarLine]:
        """Those that it comes with."""
        child = self.spec.id
        for parent in self.after:
            yield TaskStarLine(parent, child)


@lean
@dataclass(frozen=True, slots=True)
class RemoveStar:
    """Takes away a star that neither runs nor is terminal, and its lines."""

    star: StarId


@lean
@dataclass(frozen=True, slots=True)
class UpdateStar:
    """Changes what is given and leaves what is None."""

    star: StarId
    priority: int | None = None
    requires: frozenset[str] | None = None
    timeouts: Timeouts | None = None
    retry: RetryPolicy | None = None
    title: str | None = None


@lean
@dataclass(frozen=True, slots=True)
class AddLine:
    """A new line; its child must neither run nor be terminal."""

    line: TaskStarLine


@lean
@dataclass(frozen=True, slots=True)
class RemoveLine:
    """Takes away a line; its child must neither run nor be terminal."""

    parent: StarId
    child: StarId


@lean
@dataclass(frozen=True, slots=True)
class RebindInputs:
    """Replaces the named inputs and keeps the others."""

    star: StarId
    inputs: Mapping[str, StarInput]


@lean
@dataclass(frozen=True, slots=True)
class CancelStar:
    """Ends a star that is not terminal; harmless to one that is."""

    star: StarId


Edit: TypeAlias = AddStar | RemoveStar | UpdateStar | AddLine | RemoveLine | RebindInputs | CancelStar


@lean
@dataclass(frozen=True, slots=True)
class EditBatch:
    """Edits that belong together, made by someone who saw the graph at `base_revision`."""

    edits: tuple[Edit, ...]
    base_revision: int | None = None
    """None: whatever it is now. An older one is fine while nothing that the batch names was edited since."""


def adds_stars(batch: EditBatch) -> bool:
    """Whether it leaves some star that was not there before."""
    added = {edit.spec.id for edit in batch.edits if isinstance(edit, AddStar)}
    return not added <= {edit.star for edit in batch.edits if isinstance(edit, RemoveStar)}


def added_lines(edits: Iterable[Edit]) -> Iterator[TaskStarLine]:
    """Every line that they add, in their order, whether it comes with its star or by itself."""
    for edit in edits:
        if isinstance(edit, AddStar):
            yield from edit.lines()
        elif isinstance(edit, AddLine):
            yield edit.line


def count_edits(edits: Iterable[Edit]) -> int:
    """How many edits they are worth: a new star is one, and one more for each parent that it comes with."""
    return sum(1 + len(edit.after) if isinstance(edit, AddStar) else 1 for edit in edits)


def update_spec(spec: StarSpec, edit: UpdateStar) -> StarSpec:
    """The specification as the edit leaves it."""
    return replace(
        spec,
        priority=spec.priority if edit.priority is None else edit.priority,
        requires=spec.requires if edit.requires is None else edit.requires,
        timeouts=spec.timeouts if edit.timeouts is None else edit.timeouts,
        retry=spec.retry if edit.retry is None else edit.retry,
        title=spec.title if edit.title is None else edit.title,
    )
