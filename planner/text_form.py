"""Requests in natural language: who plans them, and the one star that they become where nobody can."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from asterism.agents.briefs import MAX_TASK
from asterism.agents.chatting import DEFAULT_CONTEXT, MAX_CONTEXT
from asterism.orchestrator.core.edits import AddStar, Edit
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.request import Request
from asterism.orchestrator.core.star import Constant, StarInput, StarKind, StarSpec
from asterism.orchestrator.core.values import Json
from asterism.planner.document import plain
from asterism.planner.fields import Fields, Name, WrongAt, refusal, validated
from asterism.planner.surroundings import find_default_model, find_planner

TEXT_FORM: Final = "text"
ANSWER_STAR: Final = StarId("answer")
_NO_MODEL: Final = (
    "a request in natural language needs a language model, and no worker offers one: give a worker a model folder "
    "(`asterism work --model-dir DIR`) or a section [models.NAME] with the url of an OpenAI-compatible server in its "
    "file; of several models, a worker's label chooses one (`--label default-model=NAME`), and a star of a plan file "
    'names its own (`requires: ["model:NAME"]`)'
)


class TextOptions(Fields):
    """Settings of the form `text`."""

    model: Name | None = None
    """For stars that name none; by default what the fleet says (planner/surroundings.py)."""
    planner: Name | None = None
    """The model that plans; by default the one that a worker's label `planner=NAME` names."""
    plan: bool = True
    """False: one star answers, even where a model could plan."""


def read_text_options(options: Json) -> TextOptions:
    """Options as they come with a request; raises InvalidField."""
    try:
        return validated(TextOptions, {} if options is None else plain(options, field="options"))
    except WrongAt as wrong:
        raise refusal(wrong, field="options") from None


def settle_options(request: Request, known: frozenset[str]) -> tuple[Request, str | None]:
    """The request with its model chosen, and the model that plans it; None: it becomes one star.

    `known` is what the fleet offers. Raises InvalidField where there is no model, and says how to get one.
    """
    if not request.text.strip():
        raise InvalidField("text", "the request is empty")
    if len(request.text) > MAX_TASK:
        reason = f"a request in natural language has at most {MAX_TASK} characters, not {len(request.text)}"
        raise InvalidField("text", f"{reason}; put what is long into a plan file, or where a tool can read it")
    options = read_text_options(request.options)
    planner = (options.planner or find_planner(known)) if options.plan else None
    model = options.model or find_default_model(known) or planner
    if model is None:
        raise InvalidField("form", _NO_MODEL)
    settled: Json = {"model": model, "planner": planner, "plan": planner is not None}
    return replace(request, options=settled), planner


def text_batches(request: Request) -> Iterator[tuple[Edit, ...]]:
    """One star that answers; the options say with which model."""
    options = read_text_options(request.options)
    if options.model is None:
        raise InvalidField("form", _NO_MODEL)
    inputs: dict[str, StarInput] = {"task": Constant(request.text)}
    if 4 * len(request.text) > DEFAULT_CONTEXT:
        # A task takes at most half of the context, and the other half is for its answer.
        inputs["context_characters"] = Constant(min(4 * len(request.text), MAX_CONTEXT))
    yield (
        AddStar(
            StarSpec(
                ANSWER_STAR,
                StarKind.AGENT,
                "answer",
                inputs=inputs,
                requires=frozenset({f"model:{options.model}"}),
                title=request.name[:200],
            )
        ),
    )
