"""Conditions: many comparisons joined, what they look into, and how they read."""

import pytest

from asterism.orchestrator.core.condition import MAX_TERMS, Compare, Comparison, Condition, Connect, Operator, Term
from asterism.orchestrator.core.values import Json

OK = Compare(("result", "ok"), Comparison.EQ, True)
MANY = Compare(("result", "items"), Comparison.GT, 2, of_length=True)
AND, OR, NOT = Connect(Operator.AND), Connect(Operator.OR), Connect(Operator.NOT)


@pytest.mark.parametrize(
    ("terms", "reads", "true_of"),
    [
        ((OK,), "result.ok == true", "both ok"),
        ((OK, NOT), "not (result.ok == true)", "many none"),
        ((OK, MANY, AND), "(result.ok == true) and (len(result.items) > 2)", "both"),
        ((OK, MANY, OR), "(result.ok == true) or (len(result.items) > 2)", "both many ok"),
        ((OK, NOT, MANY, AND), "(not (result.ok == true)) and (len(result.items) > 2)", "many"),
        ((OK, MANY, OR, NOT), "not ((result.ok == true) or (len(result.items) > 2))", "none"),
    ],
)
def test_operators_join_what_stands_before_them(terms: tuple[Term, ...], reads: str, true_of: str) -> None:
    outcomes: dict[str, Json] = {
        "both": {"ok": True, "items": [1, 2, 3]},
        "many": {"ok": 1, "items": "abc"},
        "none": None,
        "ok": {"ok": True, "items": 3},
    }
    condition = Condition(terms)
    assert condition.find_fault() is None
    assert str(condition) == reads
    assert [name for name, result in outcomes.items() if condition.holds({"result": result})] == true_of.split()


@pytest.mark.parametrize(
    ("compare", "reads"),
    [
        (Compare(("result", "two words", 0, "x"), Comparison.EXISTS), 'exists(result["two words"][0].x)'),
        (Compare(("error",), Comparison.MISSING), "missing(error)"),
        (Compare(("state",), Comparison.IN, ["FAILED", "CANCELLED"]), 'state in ["FAILED", "CANCELLED"]'),
        (Compare(("result",), Comparison.CONTAINS, "${x}"), 'result contains "${x}"'),
    ],
)
def test_comparison_reads_as_it_is_written(compare: Compare, reads: str) -> None:
    assert str(compare) == reads


@pytest.mark.parametrize(
    ("terms", "fault"),
    [
        ((), "1 to 64 terms, not 0"),
        ((OK,) * (MAX_TERMS + 1), "not 65"),
        ((NOT,), "'not' needs 1 terms before it"),
        ((OK, AND), "'and' needs 2 terms before it"),
        ((OK, OK), "2 terms are not joined"),
        ((OK, OK, OK, AND), "2 terms are not joined"),
    ],
)
def test_fault_says_why_it_cannot_be_evaluated(terms: tuple[Term, ...], fault: str) -> None:
    assert fault in (Condition(terms).find_fault() or "")


@pytest.mark.parametrize(
    ("compare", "looks"),
    [
        (Compare(("result",), Comparison.EXISTS), False),
        (Compare(("result",), Comparison.EXISTS, of_length=True), True),
        (MANY, True),
        (Compare(("state",), Comparison.EQ, "FAILED"), False),
    ],
)
def test_one_look_into_the_result_is_enough(compare: Compare, looks: bool) -> None:
    failed = Compare(("state",), Comparison.EQ, "FAILED")
    assert Condition((failed, compare, OR)).looks_into_result is looks
