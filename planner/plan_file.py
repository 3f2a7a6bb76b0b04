"""Plan files: stars written by hand or by a program, as YAML or JSON, and their way to edits in a safe order."""

import graphlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Final, TypeAlias

from pydantic import Discriminator, Field, Tag

from asterism.orchestrator.core.constellation import PLAN_STAR
from asterism.orchestrator.core.edits import AddLine, AddStar, Edit
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.star import OutputOf
from asterism.orchestrator.core.values import Path
from asterism.planner.document import read_document
from asterism.planner.fields import (
    ConditionFields,
    Fields,
    Name,
    StarFields,
    WrongAt,
    line_condition,
    validated,
)


class AfterFields(Fields):
    """A parent, and what its end must be: `success` (the default), `completion`, or a condition on its outcome."""

    star: Name
    on: Annotated[LineKind | None, Field(strict=False)] = None
    when: ConditionFields | None = None


Parent: TypeAlias = Annotated[
    Annotated[Name, Tag("name")] | Annotated[AfterFields, Tag("line")],
    Discriminator(lambda value: "name" if isinstance(value, str) else "line"),
]


class NamedStar(StarFields):
    """A star whose id is its key in the map of stars."""

    after: list[Parent] = Field(default=[])
    """Parents besides those whose results the inputs use; these need no mention."""


class ListedStar(NamedStar):
    """A star of a list; without an id it gets one."""

    id: Name | None = None


StarList: TypeAlias = Annotated[list[ListedStar], Tag("list")]
StarMap: TypeAlias = Annotated[dict[Name, NamedStar], Tag("map")]


class PlanDocument(Fields):
    """A plan file."""

    stars: Annotated[
        StarList | StarMap,
        Discriminator(lambda value: "map" if isinstance(value, Mapping) else "list"),
    ]


Batch: TypeAlias = tuple[Edit, ...]

MAX_BATCH_STARS: Final = 64
"""Most stars of one batch of a streamed plan: large enough that a batch's cost is the stars' own."""


def plan_batches(text: str) -> Iterator[Batch]:
    """Edits that build the plan, parents before children, each star in one batch with all its lines.

    The first batch holds one star and the next ones twice as many each, so that work starts before the plan ends.
    Raises InvalidField, with line and column where the text is YAML, before the first batch.
    """
    size = 1
    batch: list[Edit] = []
    count = 0
    for star in _read_stars(text):
        batch.extend(star)
        count += 1
        if count == size:
            yield tuple(batch)
            batch, count, size = [], 0, min(2 * size, MAX_BATCH_STARS)
    if batch:
        yield tuple(batch)


def _read_stars(text: str) -> list[Batch]:
    """Every star's edits, itself and then its lines; parents before children."""
    document = read_document(text)
    try:
        fields, places = _with_ids(validated(PlanDocument, document.value))
        if not fields:
            raise WrongAt(("stars",), "a plan needs at least one star")
        stars = {star_id: _star_edits(star_id, fields, places[star_id]) for star_id in fields}
        return [stars[star_id] for star_id in _parents_first(stars, places)]
    except WrongAt as wrong:
        raise document.refusal(wrong.path, wrong.reason) from None


def _with_ids(plan: PlanDocument) -> tuple[dict[StarId, NamedStar], dict[StarId, Path]]:
    """The stars by id, and where each stands; raises WrongAt for an id that is taken."""
    fields: dict[StarId, NamedStar] = {}
    places: dict[StarId, Path] = {}
    if isinstance(plan.stars, dict):
        for key, star in plan.stars.items():
            fields[StarId(key)] = star
            places[StarId(key)] = ("stars", key)
    else:
        given = {star.id for star in plan.stars}
        free = (name for number in range(1, 2 * len(plan.stars) + 2) if (name := f"star-{number}") not in given)
        for index, listed in enumerate(plan.stars):
            star_id = StarId(next(free) if listed.id is None else listed.id)
            if star_id in fields:
                raise WrongAt(("stars", index, "id"), f"the id {star_id!r} is taken by {_place(places[star_id])}")
            fields[star_id] = listed
            places[star_id] = ("stars", index)
    if PLAN_STAR in fields:
        raise WrongAt(places[PLAN_STAR], f"the id {PLAN_STAR!r} is the planning star's own; take another")
    return fields, places


def _place(path: Path) -> str:
    return f"{path[0]}[{path[1]}]"


def _star_edits(star_id: StarId, fields: Mapping[StarId, NamedStar], at: Path) -> Batch:
    star = fields[star_id]
    spec = star.to_core(star_id, at=at)
    lines: dict[StarId, TaskStarLine] = {}
    for index, after in enumerate(star.after):
        here: Path = (*at, "after", index)
        line = _line(star_id, after, at=here)
        if line.parent in lines:
            raise WrongAt(here, f"the parent {line.parent!r} is given twice")
        lines[line.parent] = _known(line, fields, at=here)
    for name, value in spec.inputs.items():
        if isinstance(value, OutputOf) and value.star not in lines:
            line = TaskStarLine(value.star, star_id)
            lines[value.star] = _known(line, fields, at=(*at, "inputs", name))
    return (AddStar(spec), *(AddLine(line) for line in lines.values()))


def _line(child: StarId, after: "str | AfterFields", *, at: Path) -> TaskStarLine:
    if isinstance(after, str):
        return TaskStarLine(StarId(after), child)
    kind = line_condition(after.on, after.when, at=at)
    condition = None if after.when is None else after.when.to_core()
    return TaskStarLine(StarId(after.star), child, kind, condition)


def _known(line: TaskStarLine, fields: Mapping[StarId, NamedStar], *, at: Path) -> TaskStarLine:
    if line.parent not in fields:
        raise WrongAt(at, f"there is no star {line.parent!r} in this plan")
    return line


def _parents_first(stars: Mapping[StarId, Batch], places: Mapping[StarId, Path]) -> list[StarId]:
    """The ids in an order in which parents come first, and as written where that leaves a choice."""
    parents = {
        star_id: [edit.line.parent for edit in edits if isinstance(edit, AddLine)] for star_id, edits in stars.items()
    }
    written = {star_id: index for index, star_id in enumerate(stars)}
    sorter = graphlib.TopologicalSorter(parents)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        cycle: list[StarId] = error.args[1]
        raise WrongAt(places[cycle[0]], f"these stars wait for each other: {_shown(cycle)}") from None
    ordered: list[StarId] = []
    while sorter.is_active():
        free = sorted(sorter.get_ready(), key=written.__getitem__)
        ordered.extend(free)
        sorter.done(*free)
    return ordered


def _shown(cycle: Sequence[StarId]) -> str:
    """A cycle as text, its middle left out when it is long."""
    if len(cycle) > 12:
        return " -> ".join((*cycle[:6], f"... {len(cycle) - 12} more ...", *cycle[-6:]))
    return " -> ".join(cycle)
