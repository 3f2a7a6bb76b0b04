"""The program `plan.replan`: a model rewrites a graph under way, by edits under a schema, against the revision it saw.

One text of the model in the ordinary case: more only where it asks to see more of some stars, where its answer does not
match the schema, and once where its edits are refused.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from asterism.agents.asking import Asking, say
from asterism.agents.asks import (
    EditReply,
    Emit,
    Json,
    Message,
    Program,
    ProgramContext,
    ProgramFailed,
    ProgramResult,
    Sampling,
)
from asterism.agents.chatting import Question, Spent, Written, answer
from asterism.agents.data import RULE, as_data, as_text, shortened
from asterism.agents.json_check import JsonCheck
from asterism.orchestrator.core.edits import EditBatch
from asterism.orchestrator.core.errors import InvalidField
from asterism.planner.briefing import offers_text
from asterism.planner.edits_json import edits_to_json
from asterism.planner.fields import WrongAt, refusal
from asterism.planner.graph_rows import Graph, read_graph
from asterism.planner.graph_view import CHARACTERS_A_TOKEN, DEFAULT_CHARACTERS, details, view
from asterism.planner.requests import plan_refused, read_request
from asterism.planner.rewriting import SCHEMA, compile_operations
from asterism.planner.surroundings import Surroundings

REPLAN_PROGRAM: Final = "plan.replan"
MAX_TOKENS: Final = 4_096
PROMPT_TOKENS: Final = 8_000
"""Of the first conversation, at four characters a token."""
_MAX_REQUEST: Final = 3_000
"""Characters; of a longer one its beginning and end."""
_MAX_WHY: Final = 1_000
_MAX_OFFERS: Final = 3_000
_MAX_MORE: Final = 8_000
_AGAIN: Final = "Write all edits again, put right."

RULES: Final = """\
You mend a graph of stars that is under way. Each star is work for a worker; a star runs when its parents have ended as
its lines say. You see the request, why you are asked, and the graph at a revision. Stars that have succeeded keep their
results: use them, and do not do their work again. FAILED and CANCELLED stars never run again: add new ones in their
place, with other ids, and lead the results to where they are needed. All else goes on while you think.

Answer with one JSON object: {"thought": why, briefly, "edits": [...]}. An empty list leaves the graph as it is. Edits:
  {"op": "add", "star": {"id": "new", "kind": "agent", "program": "answer", "inputs": {"task": "...", "data.page":
    {"$from": "page", "$path": ["body"]}}, "after": ["other"], "requires": ["model:NAME"]}}
    kind: tool, agent, reason, gather, approval, or map with "over": {"$from": STAR, "$path": [...]} and "each": a star
    without id whose inputs may be {"$item": true}. An input is data, or {"$from": STAR, "$path": [...]}, which makes
    STAR a parent, or {"$parents": true}. In "after": "STAR", {"star": STAR, "on": "completion"} or
    {"star": STAR, "when": "result.score >= 0.5"}.
  {"op": "rebind", "star": ID, "inputs": {...}}   replaces inputs of a WAITING or READY star
  {"op": "link", "parent": ID, "child": ID}, {"op": "unlink", "parent": ID, "child": ID}
  {"op": "update", "star": ID, "priority"/"requires"/"timeouts"/"retry"/"title": ...}
  {"op": "remove", "star": ID}, {"op": "cancel", "star": ID}   cancel also stops a RUNNING star
  {"op": "split", "star": ID, "into": [STAR, ...]}, {"op": "merge", "stars": [ID, ...], "into": STAR}
    the new stars take over lines, and the last one the places where the old result was used
All edits apply together, or none. To see more of some stars first: {"thought": "...", "edits": [], "show": [ID, ...]}.
"""


def replan(inputs: Mapping[str, Json], context: ProgramContext) -> Program:
    """Edits the `graph` for the `request`, because of `why`; the result says what was thought and done.

    With `must_edit` an answer without edits fails the star: what it was asked about has failed, and stays so.
    """
    request = read_request(inputs)
    try:
        graph = read_graph(inputs.get("graph"))
        surroundings = Surroundings.from_json(inputs.get("surroundings"))
    except InvalidField as error:
        raise plan_refused(error.message) from None
    spent = Spent()
    messages = replanning_messages(request.text, as_text(inputs.get("why", "")), graph, surroundings)
    question = Question(messages, Sampling(max_tokens=MAX_TOKENS), JsonCheck(SCHEMA, root="answer"), "replan")
    written = yield from answer(question, spent)
    shown = _read_texts(written.value, "show")
    if shown and not _read_edits(written.value):
        more = details(graph, shown, _MAX_MORE)
        question = _go_on(question, written, f"{as_data('more of the stars', more)}\nNow answer with your edits.")
        written = yield from answer(question, spent)
    done = yield from _propose(written, graph)
    if isinstance(done, str):
        yield from say(f"asking again: {done}\n")
        reason = f"Nothing was changed. The edits are refused: {shortened(done, _MAX_MORE)}\n{_AGAIN}"
        written = yield from answer(_go_on(question, written, reason), spent)
        done = yield from _propose(written, graph)
    if done is None and inputs.get("must_edit") is True:
        raise ProgramFailed(
            "replan_declined", f"the model leaves the graph as it is: {_thought(written)}", retryable=False
        )
    if isinstance(done, str):
        raise ProgramFailed("replan_refused", f"the edits, put right once: {done}", retryable=False)
    result: dict[str, Json] = {
        "edits": len(_read_edits(written.value)),
        "thought": _thought(written),
        "revision": graph.revision if done is None else done.revision,
        "spent": spent.to_json(),
    }
    return ProgramResult(result)


def replanning_messages(request: str, why: str, graph: Graph, surroundings: Surroundings) -> tuple[Message, ...]:
    """The conversation that a rewrite begins with: less than PROMPT_TOKENS whatever the graph."""
    offers = shortened(offers_text(surroundings, _MAX_OFFERS), _MAX_OFFERS)
    models = shortened(", ".join(surroundings.models), 300)
    system = f"{RULES}\nThere are:\n{offers}\nModels: {models or 'none'}.\n{RULE}"
    asked = (
        f"{as_data('request', shortened(request, _MAX_REQUEST))}\n"
        f"{as_data('why you are asked', shortened(why, _MAX_WHY))}\n"
    )
    room = PROMPT_TOKENS * CHARACTERS_A_TOKEN - len(system) - len(asked) - 200
    text = f"{asked}{as_data('graph', view(graph, min(room, DEFAULT_CHARACTERS)))}\nAnswer with your edits."
    return (Message("system", system), Message("user", text))


def _propose(written: Written, graph: Graph) -> Asking[EditReply | str | None]:
    """The reply, None where there was nothing to propose, or why the edits are refused."""
    operations = _read_edits(written.value)
    if not operations:
        return None
    try:
        edits = compile_operations(operations, graph)
    except WrongAt as wrong:
        return refusal(wrong, field="answer").message
    reply = yield Emit(edits_to_json(EditBatch(edits)), base_revision=graph.revision)
    if not isinstance(reply, EditReply):
        raise TypeError(f"Emit was answered by {type(reply).__name__}")
    return reply if reply.accepted else "; ".join(reply.reasons)


def _thought(written: Written) -> Json:
    return written.value.get("thought") if isinstance(written.value, Mapping) else None


def _go_on(question: Question, written: Written, said: str) -> Question:
    return replace(question, messages=(*question.messages, Message("assistant", written.text), Message("user", said)))


def _read_edits(value: Json) -> list[Json]:
    found = value.get("edits") if isinstance(value, Mapping) else None
    return list(found) if isinstance(found, list | tuple) else []


def _read_texts(value: Json, field: str) -> list[str]:
    found = value.get(field) if isinstance(value, Mapping) else None
    return [item for item in found if isinstance(item, str)] if isinstance(found, list | tuple) else []
