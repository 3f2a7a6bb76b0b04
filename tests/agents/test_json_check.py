"""Schemas that are refused, and values of every kind against schemas that are not."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.agents.asks import Json
from asterism.agents.json_check import JsonCheck
from asterism.agents.tools import TOOLS

VALUES: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


SCHEMAS: tuple[dict[str, Json], ...] = (
    {"type": "object"},
    {"items": {"type": "string", "minLength": 2}},
    {"minimum": 3},
    {},
)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"$ref": "http://127.0.0.1:1/x"}, "Retrieval is disabled"),
        ({"$ref": "file:///etc/passwd"}, "Retrieval is disabled"),
        ({"type": "elephant"}, "schema: it is not valid"),
        ({"properties": []}, "schema: it is not of type"),
        ({"pattern": "("}, "regex"),
        ({"const": "x" * 70_000}, "at most 65536"),
    ],
)
def test_a_schema_that_is_none_or_leads_elsewhere_is_refused(schema: dict[str, Json], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        JsonCheck(schema)


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a+)+(?=c)$", r"^(a|a)*\1$"])
def test_a_pattern_that_would_take_for_ever_is_cut_off(pattern: str) -> None:
    try:
        check = JsonCheck({"type": "string", "pattern": pattern})
    except ValueError:
        return  # refused: as good
    assert check.find_fault("a" * 50_000 + "b") is not None


def test_a_fault_names_its_place_and_not_the_value() -> None:
    fault = JsonCheck({"items": {"properties": {"a": {"type": "null"}}}}, root="answer").find_fault([{"a": "x" * 9999}])
    assert str(fault) == 'answer[0].a: it is not of type "null"'


@given(VALUES)
def test_every_value_is_accepted_or_gets_a_reason(value: Json) -> None:
    for schema in SCHEMAS:
        fault = JsonCheck(schema).find_fault(value)
        assert fault is None or (fault.field.startswith("arguments") and fault.reason)


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=3))
def test_every_schema_is_compiled_or_refused_with_a_reason(schema: dict[str, Json]) -> None:
    with suppress(ValueError):
        assert JsonCheck(schema).text


def test_every_pure_tool_has_a_schema_that_compiles() -> None:
    for spec in TOOLS.values():
        JsonCheck(spec.description.schema)
        assert spec.description.effect.value == "pure"
