"""The check at the door: a request that cannot be planned is refused before anything is stored about it."""

import json
from typing import Final

from asterism.orchestrator.core.check import check_spec
from asterism.orchestrator.core.constellation import PLAN_STAR
from asterism.orchestrator.core.edits import AddStar
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.request import Budget, Request
from asterism.orchestrator.core.star import Constant, RetryPolicy, StarKind, StarSpec
from asterism.orchestrator.core.values import MAX_VALUE_BYTES, Json
from asterism.planner.document import plain
from asterism.planner.forms import find_form
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
    check_size(request)
    if request.form == TEXT_FORM:
        request, planner = settle_options(request, known)
        if planner is not None:
            check_spec(plan_star(request, known_capabilities=known), known)
            return
    stars = sum(isinstance(edit, AddStar) for edits in form.batches(request, known) for edit in edits)
    most = form.most_stars(request) or 1 + stars
    if budget is not None and most > budget.stars:
        raise InvalidField("budget.stars", f"the plan may need {most} stars, and the budget is {budget.stars}")


def check_size(request: Request) -> None:
    """Refuse what is too large to be the input of the star that plans it; raises InvalidField."""
    size = len(json.dumps(_as_json(request), ensure_ascii=False).encode())
    if size > MAX_VALUE_BYTES:
        raise InvalidField("text", f"the request has {size} bytes as JSON; at most {MAX_VALUE_BYTES} can be planned")


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
