"""Planning as programs that a worker runs: the first star of every request, and the follower of a pair of boards."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from asterism.agents.asks import EditReply, Effect, Emit, Program, ProgramContext, ProgramFailed, ProgramResult, Say
from asterism.agents.registry import ProgramSpec
from asterism.orchestrator.core.edits import AddStar, Edit, EditBatch
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.request import Request
from asterism.orchestrator.core.values import Json
from asterism.planner.boards import NEXT_PROGRAM, following_edits
from asterism.planner.edits_json import edits_to_json
from asterism.planner.fields import Fields, WrongAt, refusal, validated
from asterism.planner.forms import find_form


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


# A later attempt may repeat the edits of an earlier one.
PROGRAMS: Final[Mapping[str, ProgramSpec]] = MappingProxyType(
    {
        "plan": ProgramSpec(plan, False, "turns a request into stars", Effect.IDEMPOTENT),
        NEXT_PROGRAM: ProgramSpec(plan_next, False, "goes deeper where a board is unsolved", Effect.IDEMPOTENT),
    }
)
