"""What the core would refuse of a plan is refused before anything runs, at both doors and with its place."""

import json
from typing import Final

import pytest

from asterism.agents.asks import ProgramResult
from asterism.orchestrator.core.edits import AddStar, count_edits
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.request import Request
from asterism.orchestrator.core.values import Json
from asterism.planner.check import check
from asterism.planner.outline import read_plan
from asterism.planner.plan_file import MAX_BATCH_EDITS, plan_batches
from asterism.planner.programs import plan
from asterism.planner.rehearsal import Rehearsal
from tests.planner.fleet import PROFILE, Fleet

KNOWN: Final = PROFILE.capabilities({})
START: Final = "stars:\n  b: {kind: tool, program: noop}\n  c: {kind: tool, program: noop}\n"
"""The stars that the others of a test come after; theirs is line 4."""
DEEP: Final = ", ".join(["k"] * 20)


def _star(fields: str) -> str:
    return f"{START}  a: {{kind: tool, program: noop, {fields}}}\n"


def _map(fields: str, each: str) -> str:
    return f"{START}  m: {{kind: map, over: {{$from: b}}, {fields} each: {{kind: tool, program: noop, {each}}}}}\n"


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        (_star("quorum: 5, after: [b]"), "line 4, column 6", "stars.a: its quorum is 5, and it has 0 lines of kind"),
        (_star("quorum: {at_least: 2, of: [b]}"), "line 4, column 6", "its quorum is 2, and it has 1 lines"),
        (_star("after: [{star: b, on: quorum}]"), "line 4, column 6", "kind quorum needs a star with a quorum"),
        (_star("after: [{star: b, on: guard}]"), "line 4, column 56", "Input should be 'success', 'completion'"),
        (_star("inputs: {x: {$from: b}}, quorum: {at_least: 1, of: [b, c]}"), "line 4, column 6",
         "stars.a: input x refers to b, which its quorum may do without"),
        (_star(f"inputs: {{{', '.join(f'x{i}: {{$from: b}}' for i in range(9))}}}, after: [{{star: b, on: stream}}]"),
         "line 4, column 6", "9 inputs stream from b; at most 8"),
        (_star("inputs: {x: {$told: graph}}"), "line 4, column 6", "only a rewrite is told the graph"),
        (_star("retry: {backoff_s: 9, max_backoff_s: 1}"), "line 4, column 6", "must not be less than backoff_s"),
        (f"{START}  b~2: {{kind: tool, program: noop}}\n", "line 4, column 8", "are kept for retries"),
        (f"{START}  replan.1: {{kind: plan, program: x}}\n", "line 4, column 13", "are kept for rewrites"),
        (f"{START}  {'n' * 61}: {{kind: tool, program: noop}}\n", "line 4, column 66", "has at most 60 characters"),
        (f"{START}  a: {{kind: approval, requires: [gpu]}}\n", "line 4, column 6", "an approval is decided by a"),
        (_map("quorum: 1,", ""), "line 4, column 6", "star m.each: its quorum is 1, and it has 0 lines"),
        (_map("quorum: {at_least: 1, of: [b, c]},", ""), "line 4, column 6", "star m.each: input list refers to b"),
        (_map("", "inputs: {x: {$told: offers}}"), "line 4, column 6", "star m.1: input x: only a rewrite is told"),
        (_map(f"gather: {{program: p, inputs: {{{', '.join(f'x{i}: 1' for i in range(64))}}}}},", ""),
         "line 4, column 6", "stars.m: 65 inputs; at most 64"),
        (f"{START}  m: {{kind: map, over: {{$from: b, $path: [{DEEP}]}}, each: {{kind: tool, program: noop, "
         f"inputs: {{x: {{$item: true, $path: [{DEEP}]}}}}}}}}\n",
         "line 4, column 6", "star m.1: each.inputs.x.$path: List should have at most 32 items"),
        (_star(f"inputs: {{x: [{', '.join(['1e15'] * 20_000)}]}}"), "line 4, column 6",
         "stars.a: input x has more than 262144 bytes as JSON"),
    ],
)  # fmt: skip
def test_what_the_core_would_refuse_is_refused_at_both_doors(text: str, place: str, reason: str) -> None:
    for look in (lambda: read_plan(text, is_lines=False), lambda: check(Request("plan", text))):
        with pytest.raises(InvalidField) as refused:
            look()

        assert refused.value.field == place
        assert reason in refused.value.reason


@pytest.mark.parametrize(
    ("fields", "place", "reason"),
    [
        ("inputs: {x: {$from: b, $path: [4294967296]}}", "line 4, column 65", "less than or equal to 4294967295"),
        ("inputs: {x: {$from: b, $path: [-1]}}", "line 4, column 65", "greater than or equal to 0"),
        (f"inputs: {{x: {{$from: b, $path: [{'k' * 1025}]}}}}", "line 4, column 65", "at most 1024 characters"),
        ("retry: {max_backoff_s: 604801}", "line 4, column 57", "less than or equal to 604800"),
        ("retry: {multiplier: 101}", "line 4, column 54", "less than or equal to 100"),
        ("replan_when: {terms: [and]}", "line 4, column 47", "'and' needs 2 terms before it"),
        ("after: [{star: b, when: {terms: [not]}}]", "line 4, column 58", "'not' needs 1 terms before it"),
        (f"replan_when: result{'.k' * 32}", "line 4, column 47", "a path has at most 32 steps"),
        (f"replan_when: result.{'k' * 1025}", "line 4, column 47", "a key in a path has at most 1024 characters"),
        ("replan_when: 'result[4294967296] == 1'", "line 4, column 47", "an index is at most 4294967295"),
        (f"inputs: {{x: {'1' * 301}}}", "line 4, column 46", "a whole number has at most 300 digits"),
    ],
)
def test_what_the_wire_would_not_carry_is_refused_at_the_door(fields: str, place: str, reason: str) -> None:
    with pytest.raises(InvalidField) as refused:
        check(Request("plan", _star(fields)))

    assert refused.value.field == place
    assert reason in refused.value.reason


def test_a_fault_behind_a_batch_that_would_have_run_is_found_before_it_is_given() -> None:
    stars: dict[str, Json] = {f"s{i}": {"kind": "tool", "program": "noop"} for i in range(100)}
    text = json.dumps({"stars": {**stars, "end": {"kind": "tool", "program": "noop", "quorum": 1, "after": ["s99"]}}})

    with pytest.raises(InvalidField, match=r"stars\.end: its quorum is 1"):
        next(plan_batches(text))


def test_many_lines_come_as_several_batches_that_the_core_takes() -> None:
    roots = [f"r{i}" for i in range(383)]
    noops = "".join(f"  {root}: {{kind: tool, program: noop}}\n" for root in roots)
    ends = "".join(f"  e{i}: {{kind: tool, program: noop, after: [{','.join(roots)}]}}\n" for i in range(64))
    request = Request("plan", f"stars:\n{noops}{ends}")
    check(request, known_capabilities=KNOWN)
    fleet = Fleet(request)
    (token,) = fleet.running

    ended = fleet.run(token, plan)

    assert isinstance(ended, ProgramResult)
    assert len(fleet.constellation.parents[StarId("e63")]) == 383
    for batch in plan_batches(request.text):
        assert count_edits(batch) <= MAX_BATCH_EDITS or sum(isinstance(edit, AddStar) for edit in batch) == 1


def test_a_star_with_more_lines_than_a_batch_of_several_may_have_comes_alone() -> None:
    stars: dict[str, Json] = {f"{i}": {"kind": "tool", "program": "noop"} for i in range(5_000)}
    stars["any"] = {"kind": "tool", "program": "noop", "quorum": {"at_least": 1, "of": [*stars]}}

    *_, last = plan_batches(json.dumps({"stars": stars}))

    assert count_edits(last) == 5_001


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("b = tool.noop().quorum(2, a)", "its quorum is 2, and it has 1 lines"),
        ("b = tool.noop(x=a.y).quorum(1, a)", "input x refers to a, which its quorum may do without"),
        ("b = map.tool.noop(x=item).over(a.list).quorum(1, a)", "star b.each: input list refers to a"),
    ],
)
def test_lines_are_refused_with_their_place(line: str, reason: str) -> None:
    with pytest.raises(InvalidField) as refused:
        read_plan(f"a = tool.noop()\n{line}\n", is_lines=True)

    assert refused.value.field == "line 2, column 1"
    assert reason in refused.value.reason


def test_a_rehearsal_takes_named_stars_for_granted_and_no_others() -> None:
    _, edits = plan_batches("stars:\n  b: {kind: tool, program: noop}\n  a: {kind: tool, program: noop, after: [b]}\n")

    Rehearsal(others=[StarId("b")]).take(edits)
    with pytest.raises(InvalidField, match="star b: there is no such star; there are plan"):
        Rehearsal().take(edits)
