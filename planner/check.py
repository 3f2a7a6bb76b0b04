"""The check at the door: a request that cannot be planned is refused before anything is stored about it."""

import json
from typing import Final

from asterism.orchestrator.core.check import check_new_name, check_spec
from asterism.orchestrator.core.constellation import PLAN_STAR
from asterism.orchestrator.core.edits import AddStar
from asterism.orchestrator.core.errors import InvalidEdit, InvalidField
from asterism.orchestrator.core.request import Budget, Request
from asterism.orchestrator.core.star import Constant, RetryPolicy, StarKind, StarSpec
from asterism.orchestrator.core.values import MAX_VALUE_BYTES, Json, json_bytes
from asterism.planner.document import plain
from asterism.planner.forms import find_form
from asterism.planner.mapping import find_sample
from asterism.planner.planning import TEXT_PROGRAM
from asterism.planner.surroundings import Surroundings
from asterism.planner.text_form import TEXT_FORM, settle_options

PLAN_PROGRAM: Final = "plan"


def check(request: Request, *, known_capabilities: frozenset[str] | None = None, budget: Budget | None = None) -> None:
    """Plan the request without doing it; raises InvalidField for the first thing that is wrong.

    `known_capabilities` is what the workers offer, None or empty while there is none: then everything may yet come.
    Takes up to a second for the largest plan: call it outside the event loop.
    """
    form = find_form(request.form)
    known = known_capabilities or frozenset()
    size = len(json.dumps(_as_json(request), ensure_ascii=False).encode())
    if size > MAX_VALUE_BYTES:
        raise InvalidField("text", f"the request has {size} bytes as JSON; at most {MAX_VALUE_BYTES} can be planned")
    stars = 1
    if request.form == TEXT_FORM:
        request, planner = settle_options(request, known)
        if planner is not None:
            _check_star(plan_star(request, known_capabilities=known), known)
            return
    for edits in form.batches(request):
        for edit in edits:
            if isinstance(edit, AddStar):
                stars += 1
                _check_star(edit.spec, known)
                sample = find_sample(edit.spec)
                if sample is not None:
                    _check_star(sample, known)
    most = form.most_stars(request) or stars
    if budget is not None and most > budget.stars:
        raise InvalidField("budget.stars", f"the plan may need {most} stars, and the budget is {budget.stars}")


def _check_star(spec: StarSpec, known: frozenset[str]) -> None:
    for name, source in spec.inputs.items():
        if isinstance(source, Constant) and json_bytes(source.value) > MAX_VALUE_BYTES:
            raise InvalidEdit(spec.id, f"input {name} has more than {MAX_VALUE_BYTES} bytes")
    check_new_name(spec.id)
    check_spec(spec, known)


def _as_json(request: Request) -> Json:
    return {
        "form": request.form,
        "text": request.text,
        "name": request.name,
        "options": plain(request.options, field="options"),
    }


def plan_star(
    request: Request,
    *,
    known_capabilities: frozenset[str] = frozenset(),
    surroundings: Surroundings | None = None,
) -> StarSpec:
    """The star that every request begins with, for one that `check` has let pass with the same capabilities.

    A request in natural language is planned by a model where the fleet has one that plans: it is told `surroundings`.
    """
    planner = None
    if request.form == TEXT_FORM:
        request, planner = settle_options(request, known_capabilities)
    inputs = {"request": Constant(_as_json(request))}
    if planner is not None:
        inputs["surroundings"] = Constant((surroundings or Surroundings()).to_json())
    return StarSpec(
        PLAN_STAR,
        StarKind.PLAN,
        PLAN_PROGRAM if planner is None else TEXT_PROGRAM,
        inputs=inputs,
        requires=frozenset() if planner is None else frozenset({f"model:{planner}"}),
        retry=RetryPolicy(),
        may_edit=True,
        title=request.name[:200],
    )
