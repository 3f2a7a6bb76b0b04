"""A map is two stars: `m.each` adds a star for each item once the list is known, and `m` gathers what they gave.

No item is copied: each star `m.1`, `m.2`, ... takes its own by reference from the star that gave the list. The stars
are added in one step with the success of `m.each`, with lines to `m`, which waits for `m.each`, and so for all of them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import Field

from asterism.orchestrator.core.edits import AddStar, Edit
from asterism.orchestrator.core.errors import InvalidEdit
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.star import Constant, OutputOf, ParentOutcomes, StarInput, StarKind, StarSpec
from asterism.orchestrator.core.values import Json, Path
from asterism.planner.document import format_path
from asterism.planner.edits_json import edit_from_json
from asterism.planner.fields import Fields, Name, Steps, WrongAt, inputs_from_json, validated
from asterism.planner.stars import MAX_ITEMS, EachFields, MapStar

EXPAND_PROGRAM: Final = "map.expand"
GATHER_PROGRAM: Final = "gather.list"
OUTCOMES: Final = "outcomes"
MAX_BATCH_BYTES: Final = 768 * 1024
"""Of the edits as JSON; a worker sends at most 1 MiB, in a form that is a little shorter."""
_MAX_NAME: Final = 54
"""Longest name of a map: those of its stars have at most 60 characters."""


class _Item(Fields):
    is_item: Annotated[bool, Field(alias="$item")]
    path: Steps = Field(default=[], alias="$path")


class Template(Fields):
    """What `map.expand` is told: where the list stands, and what is to be done with each item."""

    map: Name
    source: Name
    path: Steps
    each: dict[str, Any]
    """A star without id, in the form of a plan file."""
    max_items: Annotated[int, Field(ge=1, le=MAX_ITEMS)]
    on: str


def expand_id(star: StarId) -> StarId:
    """The star that adds the others."""
    return StarId(f"{star}.each")


def is_of_map(name: str, star: str) -> bool:
    """Whether a star of this name belongs to the map `star`."""
    rest = name.removeprefix(f"{star}.")
    return rest != name and (rest == "each" or rest.isdecimal())


def expander(star_id: StarId, star: MapStar) -> StarSpec:
    """The star that adds one for each item."""
    template: Json = {
        "map": star_id,
        "source": star.over.star,
        "path": list(star.over.path),
        "each": star.each.model_dump(mode="json", exclude_defaults=True, by_alias=True),
        "max_items": star.max_items,
        "on": star.on,
    }
    return StarSpec(
        expand_id(star_id),
        StarKind.GATHER,
        EXPAND_PROGRAM,
        inputs={"template": Constant(template), "list": OutputOf(StarId(star.over.star), tuple(star.over.path))},
        # What is on the way to many stars goes before what is on the way to one.
        priority=star.each.priority,
        may_edit=True,
        title=star.title,
    )


def gatherer(star_id: StarId, star: MapStar, *, at: Path) -> StarSpec:
    """The star that bears the map's name, and gives its result."""
    if len(star_id) > _MAX_NAME:
        raise WrongAt(at, f"the id of a map has at most {_MAX_NAME} characters")
    inputs: dict[str, StarInput]
    if star.gather is None:
        inputs = {"map": Constant(star_id), OUTCOMES: ParentOutcomes()}
        return StarSpec(star_id, StarKind.GATHER, GATHER_PROGRAM, inputs=inputs, title=star.title)
    inputs = inputs_from_json(star.gather.inputs, at=(*at, "gather", "inputs"))
    if not any(isinstance(value, ParentOutcomes) for value in inputs.values()):
        inputs[OUTCOMES] = ParentOutcomes()
    requires = frozenset(star.gather.requires)
    return StarSpec(star_id, StarKind.GATHER, star.gather.program, inputs=inputs, requires=requires, title=star.title)


def template_parents(star: MapStar, *, at: Path) -> Mapping[str, StarId]:
    """The stars, by input, whose results each star of the map takes besides its item; raises WrongAt."""
    found: dict[str, StarId] = {}
    here: Path = (*at, "each", "inputs")
    for name, value in _item_inputs(star.each.inputs, "source", (), 0, at=here).items():
        match inputs_from_json({name: value}, at=here)[name]:
            case OutputOf(parent) if not _is_of_item(star.each.inputs[name]):
                found[name] = parent
            case ParentOutcomes():
                raise WrongAt((*here, name), "a star of a map has no parents of its own to look at")
            case _:
                pass
    return found


def _is_of_item(value: Json) -> bool:
    return isinstance(value, Mapping) and "$item" in value


def _item_inputs(inputs: Mapping[str, Json], source: str, path: Path, index: int, *, at: Path) -> dict[str, Json]:
    """The inputs of one star of a map; raises WrongAt."""
    filled: dict[str, Json] = {}
    for name, value in inputs.items():
        if _is_of_item(value):
            item = validated(_Item, value, at=(*at, name))
            if not item.is_item:
                raise WrongAt((*at, name), '"$item" is true, or is not there')
            filled[name] = {"$from": source, "$path": [*path, index, *item.path]}
        elif isinstance(value, Mapping) and "$index" in value:
            if value["$index"] is not True or len(value) > 1:
                raise WrongAt((*at, name), '{"$index": true} is the number of the item, from 0, and has no other key')
            filled[name] = index
        else:
            filled[name] = value
    return filled


def item_edits(template: Template, index: int) -> Iterator[Mapping[str, Json]]:
    """The star of the item `index`, from 0, and its lines; raises WrongAt."""
    name = f"{template.map}.{index + 1}"
    each = validated(EachFields, template.each, at=("template", "each"))
    at: Path = ("template", "each", "inputs")
    inputs = _item_inputs(each.inputs, template.source, tuple(template.path), index, at=at)
    parents: dict[str, None] = {template.source: None}
    for value in inputs_from_json(inputs, at=at).values():
        if isinstance(value, OutputOf):
            parents[value.star] = None
    yield {"add_star": {**template.each, "id": name, "inputs": inputs, "after": list(parents)}}
    yield {"add_line": {"parent": name, "child": template.map, "kind": template.on}}


def sample_edits(spec: StarSpec) -> tuple[Edit, ...]:
    """The edits of the first star that a map will add, for whoever checks them before there is a list; none for no map.

    Raises InvalidEdit for what no list would make right.
    """
    value = spec.inputs.get("template")
    if spec.program != EXPAND_PROGRAM or not isinstance(value, Constant):
        return ()
    template = validated(Template, value.value, at=("template",))
    try:
        return tuple(edit_from_json(edit) for edit in item_edits(template, 0))
    except WrongAt as wrong:
        raise InvalidEdit(f"{template.map}.1", f"{format_path(wrong.path[1:])}: {wrong.reason}") from None


def find_sample(spec: StarSpec) -> StarSpec | None:
    """The first star that a map will add; None for no map."""
    return next((edit.spec for edit in sample_edits(spec) if isinstance(edit, AddStar)), None)


def expansion(template: Template, count: int) -> tuple[Mapping[str, Json], ...] | None:
    """The edits for a list of `count` items; None when they are more than one batch may hold."""
    edits: list[Mapping[str, Json]] = []
    size = 0
    for index in range(count):
        for edit in item_edits(template, index):
            size += len(json.dumps(edit, ensure_ascii=False).encode())
            edits.append(edit)
        if size > MAX_BATCH_BYTES:
            return None
    return tuple(edits)


def in_order(outcomes: Mapping[str, Json], star: str | None) -> Sequence[Json]:
    """Results of the stars of a map in the order of the items, or of all that there are in the order of their lines.

    A retried star counts under the number of what it retries; one that did not succeed gives null.
    """
    if star is None:
        return [_result(outcome) for outcome in outcomes.values()]
    by_number: dict[int, tuple[int, Json]] = {}
    for name, outcome in outcomes.items():
        first, _, retry = name.partition("~")
        if is_of_map(first, star) and not first.endswith(".each"):
            number, attempt = int(first.rpartition(".")[2]), int(retry) if retry.isdecimal() else 1
            if number not in by_number or by_number[number][0] < attempt:
                by_number[number] = attempt, outcome
    return [_result(outcome) for _, (_, outcome) in sorted(by_number.items())]


def _result(outcome: Json) -> Json:
    return outcome.get("result") if isinstance(outcome, Mapping) else None
