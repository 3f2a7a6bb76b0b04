"""A map that has not been spread yet, as a plan file has it: one star again, where that compiles to the same two."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.edits import AddLine, AddStar, Edit, added_lines
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import TaskStarLine
from asterism.orchestrator.core.star import Constant, StarSpec, StarState
from asterism.orchestrator.core.values import Json
from asterism.planner.compiling import compile_star
from asterism.planner.edits_json import line_to_json, star_to_json
from asterism.planner.fields import WrongAt, validated
from asterism.planner.mapping import EXPAND_PROGRAM, GATHER_PROGRAM, Template, expand_id, template_parents
from asterism.planner.stars import DEFAULT_MAX_ITEMS, MapStar

WriteParents: TypeAlias = Callable[[Mapping[StarId, TaskStarLine], set[StarId], int], Mapping[str, Json]]


def find_map(
    constellation: TaskConstellation, star_id: StarId, write_parents: WriteParents
) -> tuple[StarId, Mapping[str, Json]] | None:
    """Where `star_id` is the star of a map that is to add the others: the map's id, and its fields."""
    expands = constellation.stars[star_id].spec
    template = expands.inputs.get("template")
    if expands.program != EXPAND_PROGRAM or not isinstance(template, Constant):
        return None
    try:
        told = validated(Template, template.value)
    except WrongAt:
        return None
    owner = StarId(told.map)
    gathers = constellation.stars.get(owner)
    if gathers is None or expand_id(owner) != star_id or set(constellation.children.get(star_id, ())) != {owner}:
        return None
    if gathers.state not in (StarState.WAITING, StarState.READY):
        return None
    fields = _fields(told, expands, gathers.spec)
    try:
        star = validated(MapStar, fields)
        used = {StarId(told.source), *template_parents(star, at=()).values()}
        parents = constellation.parents.get(star_id, {})
        fields = {**fields, **write_parents(parents, used, expands.quorum)}
        made = compile_star(owner, validated(MapStar, fields)).edits
    except WrongAt:
        return None
    return (owner, fields) if _told(made) == _told(_edits_of(constellation, star_id, owner)) else None


def _fields(told: Template, expands: StarSpec, gathers: StarSpec) -> dict[str, Json]:
    over: dict[str, Json] = {"$from": told.source, **({"$path": list(told.path)} if told.path else {})}
    first: dict[str, Json] = {name: told.each[name] for name in ("kind", "program") if name in told.each}
    fields: dict[str, Json] = {"kind": "map", "over": over, "each": {**first, **told.each}}
    if told.max_items != DEFAULT_MAX_ITEMS:
        fields["max_items"] = told.max_items
    if told.on != "success":
        fields["on"] = told.on
    if expands.title:
        fields["title"] = expands.title
    if gathers.program != GATHER_PROGRAM:
        own = star_to_json(gathers)
        fields["gather"] = {name: own[name] for name in ("program", "inputs", "requires") if name in own}
    return fields


def _edits_of(constellation: TaskConstellation, *stars: StarId) -> list[Edit]:
    """What would add these stars as they stand."""
    edits: list[Edit] = [AddStar(constellation.stars[star].spec) for star in stars]
    for star in stars:
        edits.extend(AddLine(line) for line in constellation.parents.get(star, {}).values())
    return edits


def _told(edits: Sequence[Edit]) -> list[str]:
    """As texts that depend neither on the order of the edits nor on which lines come with a star."""
    stars = [star_to_json(edit.spec) for edit in edits if isinstance(edit, AddStar)]
    lines = map(line_to_json, added_lines(edits))
    return sorted(json.dumps(one, sort_keys=True) for one in (*stars, *lines))
