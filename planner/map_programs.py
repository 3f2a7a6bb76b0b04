"""The programs of a map's two stars: `map.expand` and `gather.list`."""

from collections.abc import Mapping

from asterism.agents.asks import Json, Program, ProgramContext, ProgramFailed, ProgramResult, Say
from asterism.planner.document import format_path
from asterism.planner.fields import WrongAt, refusal, validated
from asterism.planner.mapping import Template, expansion, in_order


def map_expand(inputs: Mapping[str, Json], context: ProgramContext) -> Program:
    """Adds a star for each item of `list`, as `template` says; the result says how many there are."""
    try:
        template = validated(Template, inputs.get("template"), at=("template",))
        items = inputs.get("list")
        if not isinstance(items, list | tuple):
            raise _not_mappable(
                "not_a_list", f"{_shown_source(template)} is {_json_type(items)}, and a map needs a list"
            )
        if len(items) > template.max_items:
            reason = f"{_shown_source(template)} has {len(items)} items, and the map takes at most {template.max_items}"
            raise _not_mappable("too_many_items", reason)
        edits = expansion(template, len(items))
    except WrongAt as wrong:
        raise _not_mappable("invalid_input", refusal(wrong, field="inputs").message) from None
    if edits is None:
        raise _not_mappable("map_too_large", f"the stars for {len(items)} items are more than one batch may hold")
    yield Say(f"{len(items)} items")
    return ProgramResult({"items": len(items)}, edits)


def _not_mappable(code: str, message: str) -> ProgramFailed:
    """The list stays what it is in every attempt."""
    return ProgramFailed(code, message, retryable=False)


def _shown_source(template: Template) -> str:
    return f"{template.source}.{format_path(tuple(template.path))}" if template.path else template.source


def _json_type(value: Json) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case _:
            return "a mapping"


def gather_list(inputs: Mapping[str, Json], context: ProgramContext) -> Program:
    """The results in `outcomes`, as a list: of the stars of `map` in the order of its items, else of all parents."""
    outcomes, of = inputs.get("outcomes"), inputs.get("map")
    if not isinstance(outcomes, Mapping) or not (of is None or isinstance(of, str)):
        raise ProgramFailed(
            "invalid_input", 'outcomes: must be the outcomes of stars, {"$parents": true}', retryable=False
        )
    results = list(in_order(outcomes, of))
    yield Say(f"{len(results)} results")
    return ProgramResult(results)
