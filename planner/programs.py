"""Planning as programs that a worker runs: the first star of every request, and the follower of a pair of boards."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from asterism.agents.asks import EditReply, Emit, Program, ProgramContext, ProgramFailed, ProgramResult, Say
from asterism.agents.registry import ProgramSpec
from asterism.orchestrator.core.edits import AddStar, Edit, EditBatch
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.request import Request
from asterism.orchestrator.core.values import Json
from asterism.planner.boards import NEXT_PROGRAM, following_edits
from asterism.planner.document import format_path
from asterism.planner.edits_json import edits_to_json
from asterism.planner.fields import Fields, WrongAt, refusal, validated
from asterism.planner.forms import find_form
from asterism.planner.mapping import EXPAND_PROGRAM, GATHER_PROGRAM, Template, expansion, in_order


class _RequestFields(Fields):
    form: str
    text: str
    name: str = ""
    options: Any = None


def plan(inputs: Mapping[str, Json], context: ProgramContext) -> Program:
    """Emits the edits that the request asks for, batch after batch; the result says how many stars there are."""
    try:
        fields = validated(_RequestFields, inputs.get("request"), at=("request",))
    except WrongAt as wrong:
        raise _refused(refusal(wrong, field="inputs").message) from None
    request = Request(fields.form, fields.text, fields.name, fields.options)
    stars = 0
    batches = _batches(request)
    # Everything that can be wrong with the request is found before the first batch.
    for edits in batches:
        reply = yield Emit(edits_to_json(EditBatch(edits)))
        if not isinstance(reply, EditReply):
            raise TypeError(f"Emit was answered by {type(reply).__name__}")
        if not reply.accepted:
            raise _refused("; ".join(reply.reasons))
        stars += sum(isinstance(edit, AddStar) for edit in edits)
    return ProgramResult({"form": request.form, "stars": stars})


def _batches(request: Request) -> Iterator[tuple[Edit, ...]]:
    try:
        yield from find_form(request.form).batches(request)
    except InvalidField as error:
        raise _refused(error.message) from None


def _refused(reasons: str) -> ProgramFailed:
    """The same request is refused in every attempt."""
    return ProgramFailed("plan_refused", reasons, retryable=False)


def plan_next(inputs: Mapping[str, Json], context: ProgramContext) -> Program:
    """Adds what follows two stars that both ended: nothing when one solved the board, else a level or the search."""
    try:
        edits = following_edits(inputs)
    except InvalidField as error:
        raise _refused(error.message) from None
    added = [edit.spec.id for edit in edits if isinstance(edit, AddStar)]
    yield Say(f"unsolved; next: {', '.join(added)}" if added else "nothing more to do")
    return ProgramResult({"added": added}, edits_to_json(EditBatch(edits)))


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
        raise _refused(refusal(wrong, field="inputs").message) from None
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


PROGRAMS: Final[Mapping[str, ProgramSpec]] = MappingProxyType(
    {
        "plan": ProgramSpec(plan, needs_model=False, summary="turns a request into stars"),
        EXPAND_PROGRAM: ProgramSpec(map_expand, needs_model=False, summary="adds a star for each item of a list"),
        GATHER_PROGRAM: ProgramSpec(gather_list, needs_model=False, summary="lists the results of other stars"),
        NEXT_PROGRAM: ProgramSpec(plan_next, needs_model=False, summary="goes deeper where a board is unsolved"),
    }
)
