"""Who is asked to rewrite a graph: what the stars are made from that ask, by the form of the request."""

from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.request import Request
from asterism.orchestrator.core.star import RetryPolicy, StarKind, StarSpec, Telling, Timeouts, Told
from asterism.planner.plan_file import read_replan
from asterism.planner.replanning import REPLAN_PROGRAM
from asterism.planner.surroundings import find_planner
from asterism.planner.text_form import TEXT_FORM, settle_options

_TIMEOUTS = Timeouts(schedule_to_start_s=300.0, start_to_close_s=600.0)
"""What a failure would skip waits for the rewrite, so it must come to an end also where nobody can do it."""
_RETRY = RetryPolicy(max_attempts=2)


def replan_rule(request: Request, known_capabilities: frozenset[str]) -> StarSpec | None:
    """The rule of a request that `check` has let pass; None where it has none.

    A request in words is rewritten by the model that plans it, a plan file by the one that it names.
    """
    if request.form == TEXT_FORM:
        _, planner = settle_options(request, known_capabilities)
        rule = None if planner is None else make_rule(planner)
        return rule if rule is None or not known_capabilities or rule.capabilities <= known_capabilities else None
    if request.form == "plan":
        asked = read_replan(request.text)
        return None if asked is None else make_rule(asked.model, asked.program)
    return None


def default_rule(known_capabilities: frozenset[str]) -> StarSpec | None:
    """For a request without a rule that a person wants rewritten; None where no model plans."""
    planner = find_planner(known_capabilities)
    return None if planner is None else make_rule(planner)


def make_rule(model: str, program: str = REPLAN_PROGRAM) -> StarSpec:
    """The specification that each star which asks is made from."""
    return StarSpec(
        StarId("replan"),
        StarKind.PLAN,
        program,
        inputs={
            "request": Told(Telling.REQUEST),
            "graph": Told(Telling.GRAPH),
            "surroundings": Told(Telling.OFFERS),
        },
        requires=frozenset({f"model:{model}"}),
        timeouts=_TIMEOUTS,
        retry=_RETRY,
        may_edit=True,
        title="rewrites the graph",
    )
