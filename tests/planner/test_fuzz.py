"""The doors of the planner take any text: a plan, a condition or edits come out, or a refusal in words."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asterism.agents.asks import ProgramFailed
from asterism.agents.json_check import JsonCheck
from asterism.orchestrator.core.edits import AddStar, EditBatch, added_lines
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.request import Request
from asterism.orchestrator.core.values import Json
from asterism.planner.condition_text import read_condition
from asterism.planner.document import plain
from asterism.planner.edits_json import edit_to_json, edits_to_json
from asterism.planner.fields import WrongAt
from asterism.planner.graph_rows import describe, read_graph
from asterism.planner.plan_file import plan_batches
from asterism.planner.programs import PROGRAMS
from asterism.planner.push_parser import Found, GoodStar, PushParser
from asterism.planner.rewriting import SCHEMA, compile_operations
from asterism.planner.tokens import BadText
from tests.fuzzing import fuzz, patient
from tests.planner.fleet import PROFILE, Fleet
from tests.strategies import json_values

pytestmark = patient
QUIET: Final = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
)


def _joined(*groups: str) -> "st.SearchStrategy[str]":
    """Texts of these words, which stand between blanks; `_` is a blank, and `\\n` a line's end."""
    words = [word.replace("_", " ").replace("\\n", "\n") for group in groups for word in group.split()]
    return st.lists(st.sampled_from(words), max_size=60).map("".join) | st.text(max_size=80)


WHOLE_LINES: Final = (
    "a_=_tool.x()\\n b_=_agent.y(z=a)\\n c_=_map.tool.z(i=item).over(a.b)\\n d_=_agent.z(data={'k':a})\\n"
)
LINES: Final = _joined(WHOLE_LINES) | _joined(
    "a b c s1 _=_ tool agent map approval .http.get .x ( ) , \\n \r\\n \" ' \\ \\u12 x= y= 1 -2.5 [ ] { } :",
    "null True item index parents # ``` .after( .stream( .when( .over( .quorum(1,_ .model( result.ok",
    "state == _and_ 😀 \x00 - ` ** é :",
    "step-2_=_tool.x(\\n `a_=_tool.x()`\\n é:_T_=_approval(a=b)\\n",
    f"a_=_tool.x( b_=_agent.y(z=a)\\n {WHOLE_LINES}",
)
CONDITIONS: Final = _joined(
    "result .a [0] state error .code _and_ _or_ _not_ _in_ == < ( ) len( exists( \"SUCCEEDED\" 'x' 1 -2.5e3 [ ] ,",
    '{ } : true None _is_ \\ " \\n _contains_ missing( != >=',
)
OUTCOMES: Final[tuple[Mapping[str, Json], ...]] = (
    {"state": "SUCCEEDED", "result": {"a": [1, {"a": "x"}], "b": True}, "error": None},
    {"state": "FAILED", "result": None, "error": {"code": "x", "message": "y"}},
)


def test_any_lines_in_any_pieces_give_the_same_stars() -> None:
    good = 0

    @QUIET
    @given(LINES, st.data())
    def check(text: str, data: st.DataObject) -> None:
        nonlocal good
        parser = PushParser()
        whole = [*parser.feed(text), *parser.finish()]
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
        parser = PushParser()
        found: list[Found] = []
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            found.extend(parser.feed(text[start:end]))
        assert [*found, *parser.finish()] == whole
        seen: set[str] = set()
        for star in whole:
            if isinstance(star, GoodStar):
                assert star.compiled.parents.keys() <= seen
                good += 1
            if star.id is not None:
                seen.add(star.id)

    fuzz(check)
    assert good


def test_any_condition_can_be_evaluated_or_is_refused_with_its_place() -> None:
    good = 0

    @QUIET
    @given(CONDITIONS)
    def check(text: str) -> None:
        nonlocal good
        try:
            condition = read_condition(text)
        except BadText as bad:
            is_inside = 0 <= bad.at <= len(text)
            assert is_inside
            return
        assert condition.find_fault() is None
        assert all(condition.holds(outcome) in (True, False) for outcome in OUTCOMES)
        assert read_condition(str(condition)) == condition
        good += 1

    fuzz(check)
    assert good


_NAMES: Final = ("a", "b", "c", "m", "m.1")
_names = st.sampled_from([*_NAMES, "plan", "", "a b", "x" * 70])
_inputs = st.dictionaries(
    st.sampled_from(["x", "data.y", "", "a b"]),
    json_values
    | st.builds(lambda star, path: {"$from": star, "$path": path}, _names, json_values)
    | st.sampled_from([{"$item": True}, {"$index": True}, {"$parents": True}, {"$value": {"$from": 1}}, {"$item": 0}]),
    max_size=3,
)
_on = st.sampled_from(["completion", "quorum", "stream", "x"])
_parents = _names | st.fixed_dictionaries({"star": _names}, optional={"on": _on, "when": CONDITIONS | json_values})
_work: "dict[str, st.SearchStrategy[Any]]" = {"program": _names | json_values, "inputs": _inputs}
_more: "dict[str, st.SearchStrategy[Any]]" = {
    "after": st.lists(_parents, max_size=3),
    "quorum": st.integers(-1, 3)
    | st.fixed_dictionaries({"at_least": st.integers(0, 3), "of": st.lists(_names, max_size=3)}),
    "requires": st.lists(st.sampled_from(["gpu", "model:x", " "]), max_size=2),
    "priority": st.integers(-200, 200),
    "timeouts": st.dictionaries(st.sampled_from(["start_to_close_s", "x"]), st.floats() | st.none(), max_size=2),
    "may_edit": st.booleans(),
    "title": st.text(max_size=5),
}
_kinds = st.sampled_from(["tool", "agent", "reason", "plan", "gather", "approval", "map", "x"])
_stars = st.one_of(
    st.fixed_dictionaries({"kind": _kinds, **_work}, optional={"id": _names, **_more}),
    st.fixed_dictionaries(
        {
            "kind": st.just("map"),
            "over": st.fixed_dictionaries({"$from": _names}, optional={"$path": json_values}),
            "each": st.fixed_dictionaries({"kind": _kinds, **_work}),
        },
        optional={
            "id": _names,
            "max_items": st.integers(-1, 3000),
            "on": st.sampled_from(["completion", "x"]),
            **_more,
        },
    ),
)


NAMED: Final = replace(PROFILE, models=("x",), tools=_NAMES, programs=(*PROFILE.programs, *_NAMES))
"""Has programs of the names that plans name."""
KNOWN: Final = NAMED.capabilities({})


def test_any_plan_file_gives_edits_that_the_core_takes_or_is_refused() -> None:
    good = 0

    @QUIET
    @given(
        st.fixed_dictionaries({"stars": st.lists(_stars, max_size=4) | st.dictionaries(_names, _stars, max_size=4)}),
        st.integers(0, 200),
    )
    def check(plan: Json, cut: int) -> None:
        nonlocal good
        text = json.dumps(plan)
        text = text[:-cut] if cut % 7 == 1 else text
        with suppress(InvalidField):
            added: set[str] = set()
            batches = list(plan_batches(text, KNOWN))
            fleet = Fleet(Request("plan", text), profile=NAMED)
            (token,) = fleet.running
            for batch in batches:
                reply = fleet.emit(token, edits_to_json(EditBatch(batch)))
                assert reply.accepted, reply.reasons
                for edit in batch:
                    if isinstance(edit, AddStar):
                        added.add(edit.spec.id)
                    assert all({line.parent, line.child} <= added for line in added_lines((edit,)))
            good += 1

    fuzz(check)
    assert good


def _fleet() -> Fleet:
    stars = {"a": [], "b": ["a"], "c": ["b"], "d": ["a"]}
    plan = {name: {"kind": "tool", "program": "noop", "after": after} for name, after in stars.items()}
    fleet = Fleet(Request("plan", json.dumps({"stars": plan})))
    (token,) = fleet.running
    ended = fleet.run(token, PROGRAMS["plan"].function)
    assert not isinstance(ended, ProgramFailed)
    return fleet


_star = st.sampled_from(["a", "b", "c", "d", "plan", "nobody", "x", "y"])
_new = st.one_of(
    _stars,
    st.builds(
        lambda name, uses: {"id": name, "kind": "tool", "program": "noop", "inputs": {"of": {"$from": uses}}},
        _star,
        _star,
    ),
    st.builds(lambda name: {"id": name, "kind": "tool", "program": "noop"}, _star),
)
_operations = st.one_of(
    st.fixed_dictionaries({"op": st.just("add"), "star": _new}),
    st.fixed_dictionaries({"op": st.sampled_from(["remove", "cancel", "update"]), "star": _star}),
    st.fixed_dictionaries({"op": st.just("update"), "star": _star, "priority": st.integers(-200, 200)}),
    st.fixed_dictionaries({"op": st.just("rebind"), "star": _star, "inputs": _inputs}),
    st.fixed_dictionaries({"op": st.sampled_from(["link", "unlink"]), "parent": _star, "child": _star}),
    st.fixed_dictionaries({"op": st.just("split"), "star": _star, "into": st.lists(_new, max_size=3)}),
    st.fixed_dictionaries({"op": st.just("merge"), "stars": st.lists(_star, max_size=3), "into": _new}),
    st.fixed_dictionaries({"op": json_values}),
    json_values,
)


def test_any_edits_of_a_model_apply_whole_or_change_nothing() -> None:
    schema = JsonCheck(SCHEMA, root="answer")
    fleets = [_fleet()]
    applied = 0

    @QUIET
    @given(st.lists(_operations, max_size=5))
    def check(operations: list[Json]) -> None:
        nonlocal applied
        fleet = fleets[-1]
        graph = read_graph(plain(describe(fleet.constellation), field="graph"))
        schema.find_fault({"thought": "", "edits": operations})
        try:
            edits = compile_operations(operations, graph)
        except WrongAt:
            return
        if not edits:
            return
        before = (dict(fleet.constellation.stars), {star: dict(of) for star, of in fleet.constellation.parents.items()})
        token = next(token for token, assign in fleet.running.items() if assign.star == "plan")
        reply = fleet.emit(token, [edit_to_json(edit) for edit in edits], graph.revision)
        if reply.accepted:
            applied += 1
            fleets.append(_fleet())
        else:
            assert reply.reasons
            assert before == (fleet.constellation.stars, fleet.constellation.parents)

    fuzz(check)
    assert applied
