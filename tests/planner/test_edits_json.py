"""Edits as JSON say exactly what the core's edits say, and what does not fit is named by its path."""

import json
from contextlib import suppress

import pytest
from hypothesis import given

from asterism.orchestrator.core.edits import AddStar, EditBatch
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.star import Constant, OutputOf, ParentOutcomes, StarInput
from asterism.orchestrator.core.values import Json
from asterism.planner.edits_json import KINDS, edits_from_json, edits_to_json
from tests import strategies


@given(strategies.edit_batches)
def test_a_batch_survives_its_json(batch: EditBatch) -> None:
    text = json.dumps(edits_to_json(batch))

    assert edits_from_json(json.loads(text), batch.base_revision) == batch


@given(strategies.json_values)
def test_whatever_is_no_edit_is_refused_and_not_more(value: Json) -> None:
    with suppress(InvalidField):
        edits_from_json([{"add_star": value}])
    for kind in (*KINDS, "explode"):
        with pytest.raises(InvalidField):
            edits_from_json([{kind: value, "and": value}])


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("${a.out}", Constant("${a.out}")),
        ({"$from": "a"}, OutputOf(StarId("a"))),
        ({"$from": "a", "$path": ["x", 0]}, OutputOf(StarId("a"), ("x", 0))),
        ({"$parents": True}, ParentOutcomes()),
        ({"$value": {"$from": "a"}}, Constant({"$from": "a"})),
        ({"inner": {"$from": "a"}}, Constant({"inner": {"$from": "a"}})),
        ([{"$from": "a"}], Constant([{"$from": "a"}])),
    ],
)
def test_an_input_is_a_constant_unless_it_says_otherwise_itself(written: Json, means: StarInput) -> None:
    batch = edits_from_json([_add(inputs={"x": written})])

    (edit,) = batch.edits
    assert isinstance(edit, AddStar)
    assert edit.spec.inputs == {"x": means}


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"add_star": {"id": "a", "kind": "tool"}}, "edits[0].add_star.program"),
        ({"add_star": {"id": "a", "kind": "wish", "program": "p"}}, "edits[0].add_star.kind"),
        ({"add_star": {"id": "../a", "kind": "tool", "program": "p"}}, "edits[0].add_star.id"),
        ({"cancel_star": {"id": "a"}}, "edits[0].cancel_star.star"),
        ({"add_line": {"parent": "a", "child": "b", "kind": "condition"}}, "edits[0].add_line"),
        ({"rebind_inputs": {"star": "a", "inputs": {"x": {"$form": "b"}}}}, "edits[0].rebind_inputs.inputs.x"),
        ({"rebind_inputs": {"star": "a", "inputs": {"x": {"$from": 3}}}}, "edits[0].rebind_inputs.inputs.x.$from"),
        ({"update_star": {"star": "a", "priority": "high"}}, "edits[0].update_star.priority"),
        ({"update_star": {"star": "a", "priority": True}}, "edits[0].update_star.priority"),
        ({"explode": {}}, "edits[0]"),
        ({}, "edits[0]"),
        ({"remove_star": {"star": "a"}, "cancel_star": {"star": "a"}}, "edits[0]"),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(item: dict[str, Json], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        edits_from_json([item])

    assert refused.value.field == field


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "\ud800", {"\udfff": 1}])
def test_what_has_no_json_text_is_refused(value: Json) -> None:
    with pytest.raises(InvalidField, match=r"^edits\[0\]"):
        edits_from_json([_add(inputs={"x": [value]})])


def test_deep_nesting_is_refused() -> None:
    value: Json = []
    for _ in range(5000):
        value = [value]

    with pytest.raises(InvalidField, match="nests deeper"):
        edits_from_json([_add(inputs={"x": value})])


def _add(**fields: Json) -> dict[str, Json]:
    return {"add_star": {"id": "s", "kind": "tool", "program": "noop", **fields}}
