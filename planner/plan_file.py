"""Plan files: stars written by hand or by a program, as YAML or JSON, and their way to edits in a safe order."""

import graphlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Final, TypeAlias

from pydantic import Discriminator, Tag

from asterism.orchestrator.core.constellation import PLAN_STAR
from asterism.orchestrator.core.edits import Edit, count_edits
from asterism.orchestrator.core.errors import InvalidEdit
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.values import Path
from asterism.planner.compiling import Compiled, compile_star
from asterism.planner.document import read_document
from asterism.planner.fields import Fields, Name, WrongAt, validated
from asterism.planner.mapping import is_of_map
from asterism.planner.rehearsal import Rehearsal
from asterism.planner.replanning import REPLAN_PROGRAM
from asterism.planner.stars import AnyStar, MapStar, PlanStar

StarList: TypeAlias = Annotated[list[AnyStar], Tag("list")]
StarMap: TypeAlias = Annotated[dict[Name, AnyStar], Tag("map")]


class ReplanFields(Fields):
    """Who is asked to rewrite the graph when a star has failed for good or a result is a surprise."""

    model: Name
    program: Name = REPLAN_PROGRAM
    """One that takes the inputs `request`, `graph`, `surroundings` and `why`."""


class PlanDocument(Fields):
    """A plan file."""

    stars: Annotated[
        StarList | StarMap,
        Discriminator(lambda value: "map" if isinstance(value, Mapping) else "list"),
    ]
    replan: ReplanFields | None = None


Batch: TypeAlias = tuple[Edit, ...]

MAX_BATCH_STARS: Final = 64
"""Most stars of one batch of a streamed plan: large enough that a batch's cost is the stars' own."""
MAX_BATCH_EDITS: Final = 4096
"""Most edits of one batch of several stars: a line to a star with a long name takes some 130 bytes of the MiB that a
worker sends at once."""


def plan_batches(text: str, known: frozenset[str] = frozenset()) -> Iterator[Batch]:
    """Edits that build the plan, parents before children, each star in one batch with all its lines.

    The first batch holds one star and the next ones twice as many each, so that work starts before the plan ends.
    Raises InvalidField, with line and column where the text is YAML, before the first batch: also for what the core
    would refuse of it. `known` is what the workers offer, empty while there is none.
    """
    document = read_document(text)
    try:
        fields, places = with_ids(validated(PlanDocument, document.value).stars)
        if not fields:
            raise WrongAt(("stars",), "a plan needs at least one star")
        stars = compile_stars(fields, places)
        batches = list(_in_batches(made.edits for made in stars.values()))
        _rehearse(batches, stars, places, known)
    except WrongAt as wrong:
        raise document.refusal(wrong.path, wrong.reason) from None
    yield from batches


def _in_batches(stars: Iterable[Batch]) -> Iterator[Batch]:
    size = 1
    batch: list[Edit] = []
    count = worth = 0
    for star in stars:
        more = count_edits(star)
        if count == size or (count and worth + more > MAX_BATCH_EDITS):
            yield tuple(batch)
            batch, count, worth, size = [], 0, 0, min(2 * size, MAX_BATCH_STARS)
        batch.extend(star)
        count += 1
        worth += more
    yield tuple(batch)


def _rehearse(
    batches: Iterable[Batch], stars: Mapping[StarId, Compiled], places: Mapping[StarId, Path], known: frozenset[str]
) -> None:
    """Raises WrongAt for the first star that the core would refuse."""
    rehearsal = Rehearsal(known)
    try:
        for edits in batches:
            rehearsal.take(edits)
    except InvalidEdit as error:
        refused = StarId(error.star)
        if refused in stars:
            raise WrongAt(places[refused], error.reason) from None
        of_map = StarId(refused.rpartition(".")[0])
        raise WrongAt(places[of_map], f"star {refused}: {error.reason}") from None


def read_replan(text: str) -> ReplanFields | None:
    """What a plan file says of rewrites; raises InvalidField."""
    if "replan" not in text:
        return None
    document = read_document(text)
    try:
        return validated(PlanDocument, document.value).replan
    except WrongAt as wrong:
        raise document.refusal(wrong.path, wrong.reason) from None


def compile_stars(
    fields: Mapping[StarId, PlanStar], places: Mapping[StarId, Path], others: Collection[StarId] = ()
) -> dict[StarId, Compiled]:
    """The edits of each star, parents before children; raises WrongAt. `others` are stars beside the plan that may be
    parents, too."""
    maps = {star_id for star_id, star in fields.items() if isinstance(star, MapStar)}
    for star_id in fields:
        owner = StarId(star_id.rpartition(".")[0])
        if owner in maps and is_of_map(star_id, owner):
            raise WrongAt(places[star_id], f"the map {owner!r} makes a star of this id; take another")
    compiled: dict[StarId, Compiled] = {}
    for star_id, star in fields.items():
        made = compile_star(star_id, star, at=places[star_id])
        for parent, place in made.parents.items():
            if parent not in fields and parent not in others:
                raise WrongAt(place, f"there is no star {parent!r} in this plan")
        compiled[star_id] = made
    return {star_id: compiled[star_id] for star_id in _parents_first(compiled, places)}


def with_ids(
    stars: StarList | StarMap, *, has_plan_star: bool = False
) -> tuple[dict[StarId, PlanStar], dict[StarId, Path]]:
    """The stars by id, and where each stands; raises WrongAt for an id that is taken.

    The planning star's own is, unless `has_plan_star` says that it may be among them.
    """
    fields: dict[StarId, PlanStar] = {}
    places: dict[StarId, Path] = {}
    if isinstance(stars, dict):
        for key, star in stars.items():
            if star.id is not None:
                raise WrongAt(("stars", key, "id"), "in a mapping of stars the key is the id")
            fields[StarId(key)] = star
            places[StarId(key)] = ("stars", key)
    else:
        given = {star.id for star in stars}
        free = (name for number in range(1, 2 * len(stars) + 2) if (name := f"star-{number}") not in given)
        for index, listed in enumerate(stars):
            star_id = StarId(next(free) if listed.id is None else listed.id)
            if star_id in fields:
                raise WrongAt(("stars", index, "id"), f"the id {star_id!r} is taken by {_place(places[star_id])}")
            fields[star_id] = listed
            places[star_id] = ("stars", index)
    if PLAN_STAR in fields and not has_plan_star:
        raise WrongAt(places[PLAN_STAR], f"the id {PLAN_STAR!r} is the planning star's own; take another")
    return fields, places


def _place(path: Path) -> str:
    return f"{path[0]}[{path[1]}]"


def _parents_first(stars: Mapping[StarId, Compiled], places: Mapping[StarId, Path]) -> list[StarId]:
    """The ids in an order in which parents come first, and as written where that leaves a choice."""
    parents = {star_id: [parent for parent in made.parents if parent in stars] for star_id, made in stars.items()}
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
