"""Planning as programs that a worker runs: the first star of every request, and the follower of a pair of boards."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from asterism.agents.asks import EditReply, Effect, Emit, Program, ProgramContext, ProgramResult, Say
from asterism.agents.registry import ProgramSpec
from asterism.orchestrator.core.edits import AddStar, Edit, EditBatch
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.request import Request
from asterism.orchestrator.core.values import Json
from asterism.planner.boards import NEXT_PROGRAM, following_edits
from asterism.planner.edits_json import edits_to_json
from asterism.planner.forms import find_form
from asterism.planner.map_programs import gather_list, map_expand
from asterism.planner.mapping import EXPAND_PROGRAM, GATHER_PROGRAM
from asterism.planner.planning import TEXT_PROGRAM, plan_text
from asterism.planner.replanning import REPLAN_PROGRAM, replan
from asterism.planner.requests import plan_refused, read_request


def plan(inputs: Mapping[str, Json], context: ProgramContext) -> Program:
    """Emits the edits that the request asks for, batch after batch; the result says how many stars there are."""
    request = read_request(inputs)
    stars = 0
    batches = _batches(request)
    # Everything that can be wrong with the request is found before the first batch.
    for edits in batches:
        reply = yield Emit(edits_to_json(EditBatch(edits)))
        if not isinstance(reply, EditReply):
            raise TypeError(f"Emit was answered by {type(reply).__name__}")
        if not reply.accepted:
            raise plan_refused("; ".join(reply.reasons))
        stars += sum(isinstance(edit, AddStar) for edit in edits)
    return ProgramResult({"form": request.form, "stars": stars})


def _batches(request: Request) -> Iterator[tuple[Edit, ...]]:
    try:
        yield from find_form(request.form).batches(request, frozenset())
    except InvalidField as error:
        raise plan_refused(error.message) from None


def plan_next(inputs: Mapping[str, Json], context: ProgramContext) -> Program:
    """Adds what follows two stars that both ended: nothing when one solved the board, else a level or the search."""
    try:
        edits = following_edits(inputs)
    except InvalidField as error:
        raise plan_refused(error.message) from None
    added = [edit.spec.id for edit in edits if isinstance(edit, AddStar)]
    yield Say(f"unsolved; next: {', '.join(added)}" if added else "nothing more to do")
    return ProgramResult({"added": added}, edits_to_json(EditBatch(edits)))


# A later attempt may repeat the edits of an earlier one.
PROGRAMS: Final[Mapping[str, ProgramSpec]] = MappingProxyType(
    {
        "plan": ProgramSpec(plan, False, "turns a request into stars", Effect.IDEMPOTENT),
        EXPAND_PROGRAM: ProgramSpec(map_expand, False, "adds a star for each item of a list", Effect.IDEMPOTENT),
        GATHER_PROGRAM: ProgramSpec(gather_list, False, "lists the results of other stars", Effect.PURE),
        REPLAN_PROGRAM: ProgramSpec(replan, True, "lets a model rewrite a graph that is under way", Effect.IDEMPOTENT),
        TEXT_PROGRAM: ProgramSpec(plan_text, True, "lets a model turn a request into stars", Effect.IDEMPOTENT),
        NEXT_PROGRAM: ProgramSpec(plan_next, False, "goes deeper where a board is unsolved", Effect.IDEMPOTENT),
    }
)
