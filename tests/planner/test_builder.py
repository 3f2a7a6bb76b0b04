"""A plan built in Python is the plan file that says the same."""

import pytest

from asterism.orchestrator.core.edits import Edit
from asterism.orchestrator.core.errors import InvalidField
from asterism.planner.builder import Plan, ended, index, item, parents, stream, when
from asterism.planner.plan_file import plan_batches

FILE = """\
stars:
  page: {kind: tool, program: http.get, inputs: {url: "$1", raw: {$value: {$from: x}}}, timeouts: {start_to_close_s: 9}}
  rated:
    kind: map
    over: {$from: page, $path: [items, 0]}
    each: {kind: agent, program: answer, inputs: {offer: {$item: true, $path: [price]}, n: {$index: true}}, priority: 3}
    max_items: 7
    on: completion
  check: {kind: approval, inputs: {shows: {$from: rated}}}
  report:
    kind: agent
    program: answer
    inputs: {all: {$parents: true}}
    after: [{star: check, when: result.approved}, page, {star: rated, on: completion}]
  said: {kind: agent, program: follow, inputs: {text: {$from: page}}, after: [{star: page, on: stream}]}
  any: {kind: gather, program: gather, inputs: {}, quorum: {at_least: 1, of: [page, check]}}
"""


def _edits(text: str) -> list[Edit]:
    return [edit for batch in plan_batches(text) for edit in batch]


def test_a_plan_in_python_reads_like_its_graph() -> None:
    plan = Plan()
    page = plan.tool("page", "http.get", url="$1", raw={"$from": "x"}, settings={"timeouts": {"start_to_close_s": 9}})
    rated = plan.map(
        "rated",
        over=page["items"][0],
        kind="agent",
        program="answer",
        offer=item["price"],
        n=index,
        max_items=7,
        keep_failures=True,
        settings={"priority": 3},
    )
    check = plan.approval("check", shows=rated)
    plan.agent("report", "answer", all=parents, after=[when(check, "result.approved"), page, ended(rated)])
    plan.agent("said", "follow", text=page, after=[stream(page)])
    plan.gather("any", quorum=(1, [page, check]))

    assert _edits(plan.to_json()) == _edits(FILE)


def test_what_does_not_fit_is_refused() -> None:
    plan = Plan()
    page = plan.tool("page", "noop")

    with pytest.raises(InvalidField, match="taken"):
        plan.tool("page", "noop")
    with pytest.raises(InvalidField, match="not a part of its result"):
        plan.tool("b", "noop", after=[page["x"]])
    with pytest.raises(TypeError, match="map over it"):
        list(page)  # type: ignore[call-overload]  # which is the point
    plan.tool("c", "noop", after=[when(page, "1 < 2")])
    with pytest.raises(InvalidField, match="column 3 of the condition"):
        plan.to_json()
