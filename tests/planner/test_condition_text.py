"""Conditions as text mean what Python would have them mean, and whatever is none is refused with its place."""

from collections.abc import Mapping
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.orchestrator.core.condition import MAX_TERMS, Compare, Comparison, Condition, Connect, Operator
from asterism.orchestrator.core.values import Json
from asterism.planner.condition_text import MAX_CHARACTERS, read_condition
from asterism.planner.tokens import BadText
from tests.strategies import json_values

OUTCOME: Final[Mapping[str, Json]] = {
    "state": "SUCCEEDED",
    "result": {"ok": True, "score": 0.75, "tags": ["new", "red"], "a b": {"c": 1}, "items": [{"n": 3}], "text": "true"},
    "error": None,
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ('result.items[0].n >= 3 and state == "SUCCEEDED"', True),
        ("result.ok", True),
        ("not result.ok", False),
        ("result.text", False),  # true is true, and "true" is a text
        ("0.5 <= result.score < 0.75", False),
        ("0.5 < result.score <= 0.75", True),
        ('"red" in result.tags', True),
        ('"blue" not in result.tags', True),
        ('result.tags contains "red"', True),
        ('state in ["FAILED", "CANCELLED"]', False),
        ("len(result.tags) == 2", True),
        ("len(result.score) == 1", False),
        ('result["a b"].c is not null', True),
        ("error is None", True),
        ("exists(result.ok) and missing(result.no)", True),
        ("result.no == 1 or result.no != 1", True),
        ("result.no < 1 or result.no >= 1", False),
        ('result["a b"] == {"c": 1}', True),
        # As in Python: not binds tighter than and, and that tighter than or.
        ("result.ok or result.ok and not result.ok", True),
        ("(result.ok or result.ok) and not result.ok", False),
        ("not not result.ok", True),
        ("not (result.score > 1 or result.score < 0)", True),
    ],
)
def test_a_condition_holds_as_it_reads(text: str, holds: bool) -> None:
    condition = read_condition(text)

    assert condition.find_fault() is None
    assert condition.holds(OUTCOME) is holds


_comparisons = st.sampled_from(["result.ok", "result.score > 1", "result.no == 1", 'state == "SUCCEEDED"'])
_conditions = st.recursive(
    _comparisons,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" and ", " or "]), inner).map("".join),
        inner.map("not {}".format),
        inner.map("({})".format),
    ),
    max_leaves=12,
)


@given(_conditions)
def test_operators_bind_as_in_python(text: str) -> None:
    values = {
        "result.ok": "True",
        "result.score > 1": "False",
        "result.no == 1": "False",
        'state == "SUCCEEDED"': "True",
    }
    as_python = text
    for comparison, value in values.items():
        as_python = as_python.replace(comparison, value)

    assert read_condition(text).holds(OUTCOME) is eval(as_python)


@st.composite
def _core_conditions(draw: st.DrawFn) -> Condition:
    """Conditions that can be written: comparisons that may hold, joined."""
    keys = st.text(max_size=5) | st.integers(0, 99) | st.sampled_from(["ok", "in", "not", "result"])
    paths = st.lists(keys, max_size=3).map(lambda steps: ("result", *steps))
    one = st.one_of(
        st.builds(Compare, paths, st.sampled_from([Comparison.EQ, Comparison.NE, Comparison.CONTAINS]), json_values),
        st.builds(Compare, paths, st.sampled_from([Comparison.LT, Comparison.GE]), st.integers(-9, 9) | st.text()),
        st.builds(Compare, paths, st.just(Comparison.IN), st.lists(json_values, max_size=3)),
        st.builds(Compare, paths, st.sampled_from([Comparison.EXISTS, Comparison.MISSING])),
        st.builds(Compare, paths, st.just(Comparison.GT), st.integers(0, 9), st.just(True)),
    )
    terms: list[Compare | Connect] = [draw(one)]
    for _ in range(draw(st.integers(0, 6))):
        if draw(st.booleans()):
            terms.append(Connect(Operator.NOT))
        else:
            terms.extend((draw(one), Connect(draw(st.sampled_from([Operator.AND, Operator.OR])))))
    return Condition(tuple(terms))


@given(_core_conditions())
def test_a_condition_written_by_the_core_reads_the_same(condition: Condition) -> None:
    text = str(condition)

    if len(text) <= MAX_CHARACTERS:
        assert read_condition(text) == condition


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("", 1, "a part of the outcome or a value is missing before the end"),
        ("state", 1, "compare the state with one of SUCCEEDED, FAILED, CANCELLED"),
        ("1 < 2", 3, "a part of the outcome on one side"),
        ("result.a == result.b", 10, "a part of the outcome on one side"),
        ("result.a = 1", 10, "write == to compare"),
        ("(result.a", 1, "the bracket that opens here is not closed"),
        ("result.a)", 9, "'and', 'or' or the end must follow"),
        ('state == "DONE"', 10, "a state is one of SUCCEEDED"),
        ('state in ["DONE"]', 10, "a state is one of SUCCEEDED"),
        ("state == 1", 10, "a state is one of SUCCEEDED"),
        ("state.x == 1", 1, "the state has no parts"),
        ("error.text == 1", 1, "an error has a code and a message"),
        ("result.a and", 13, "is missing before the end"),
        ("result < [1]", 10, "only numbers and texts have an order"),
        ("result > true", 10, "only numbers and texts have an order"),
        ("len(result.a)", 1, "a length alone is no condition"),
        ('len(result.a) == "2"', 18, "a length is compared with numbers"),
        ("not", 4, "is missing before the end"),
        ("result.a not 1", 14, "'in' follows 'not' here"),
        ("result.a in 5", 13, "'in' needs a list or a text"),
        ("result.a == $x", 13, "'$' does not belong here"),
        ("rows[0] == 1", 1, "a condition looks at state, result or error of the parent, not at 'rows'"),
        ("result[-1] == 1", 8, "an index from 0 or a key in quotes"),
        ("result.1a == 1", 9, "'and', 'or' or the end must follow"),
        ('result == "a', 11, "has no closing"),
        ("__import__('os')", 1, "not at '__import__'"),
        ("result.a == 1e999", 13, "too large for a number"),
        ("exists(1)", 8, "not at '1'"),
        ("not " * MAX_TERMS + "result.a", 4 * MAX_TERMS + 1, "at most 64 comparisons and operators"),
        ("(" * 3000, 1 + MAX_TERMS, "at most 64 comparisons and operators"),
        ("x" * (MAX_CHARACTERS + 1), 1, "at most 4096 characters"),
        ("result == " + "[" * 100, 75, "nests deeper than 64 levels"),
    ],
)
def test_what_is_no_condition_is_refused_with_its_column(text: str, column: int, reason: str) -> None:
    with pytest.raises(BadText) as refused:
        read_condition(text)

    assert reason in refused.value.reason
    assert refused.value.at + 1 == column
