"""JSON values, names, conditions on results, and what the nouns say when nothing else is said."""

from typing import Any

import pytest

from asterism.orchestrator.core.condition import Comparison, Condition
from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.credential import Role, StoredCredential
from asterism.orchestrator.core.edits import UpdateStar, update_spec
from asterism.orchestrator.core.ids import FencingToken, is_name
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.profile import Gpu, WorkerProfile
from asterism.orchestrator.core.request import Budget, ConstellationState, Request
from asterism.orchestrator.core.star import (
    Attempt,
    AttemptOutcome,
    Constant,
    RetryPolicy,
    StarKind,
    StarSpec,
    StarState,
    TaskStar,
    Timeouts,
    program_capability,
)
from asterism.orchestrator.core.values import MISSING, Json, Path, find_at, json_bytes
from tests.core.making import ADA, C, X, Y, tool

VALUE: Json = {"a": [10, {"b": None}], "t": "text"}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ((), VALUE),
        (("t",), "text"),
        (("a", 0), 10),
        (("a", 1, "b"), None),
        (("a", 2), MISSING),
        (("a", -1), MISSING),
        (("b",), MISSING),
        (("a", "0"), MISSING),
        (("t", 0), MISSING),
        (("t", "x"), MISSING),
        ((0,), MISSING),
    ],
)
def test_path_leads_to_its_part_or_nowhere(path: Path, found: object) -> None:
    assert find_at(VALUE, path) is found or find_at(VALUE, path) == found


def test_path_leads_into_a_tuple_too() -> None:
    assert find_at((1, 2), (1,)) == 2


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (None, 8),
        (12.5, 8),
        ("", 2),
        ("abc", 5),
        ([], 2),
        ([1, 2, 3], 29),
        ((1,), 11),
        ({}, 2),
        ({"key": "abc"}, 14),
        ({"k": {"l": [1]}}, 25),
    ],
)
def test_size_of_a_value_is_that_of_its_text_about(value: Json, size: int) -> None:
    assert json_bytes(value) == size


@pytest.mark.parametrize("text", ["a", "7", "A.b_c~2-d", "x" * 64])
def test_name_is_letters_digits_and_a_few_signs(text: str) -> None:
    assert is_name(text)


@pytest.mark.parametrize("text", ["", ".hidden", "-x", "~2", "_", "a/b", "a b", "a\n", "ä", "x" * 65])
def test_anything_else_is_no_name(text: str) -> None:
    assert not is_name(text)


@pytest.mark.parametrize(
    ("found", "value", "true_of"),
    [
        (1, 1, "eq le ge"),
        (1, 1.0, "eq le ge"),
        (1, 1.5, "ne lt le"),
        (1.5, 1, "ne gt ge"),
        (-3, -2, "ne lt le"),
        ("a", "b", "ne lt le"),
        ("b", "a", "ne gt ge"),
        ("a", "a", "eq le ge in contains"),
        (True, True, "eq le ge"),
        (True, 1, "ne"),
        (1, True, "ne"),
        (False, 1, "ne"),
        (0, True, "ne"),
        ("1", 1, "ne"),
        (1, "2", "ne"),
        (None, None, "eq le ge"),
        (None, 1, "ne"),
        ([1], [1], "eq le ge"),
        ([1], [2], "ne"),
        ("b", "abc", "ne gt ge in"),
        ("abc", "b", "ne lt le contains"),
        (1, [2, 1], "ne in"),
        (True, [1], "ne"),
        ([2, 1], 1, "ne contains"),
        ({"a": 1}, "a", "ne contains"),
        ("a", {"a": 1}, "ne in"),
    ],
)
def test_condition_compares_what_can_be_compared(found: Json, value: Json, true_of: str) -> None:
    holding = [
        comparison.value
        for comparison in Comparison
        if comparison not in (Comparison.EXISTS, Comparison.MISSING)
        and Condition.of(("result", "x"), comparison, value).holds({"result": {"x": found}})
    ]
    assert sorted(holding) == sorted(true_of.split())


@pytest.mark.parametrize(
    ("path", "true_of"), [(("result",), {"exists", "eq", "le", "ge"}), (("result", "nowhere"), {"missing", "ne"})]
)
def test_null_is_there_and_a_path_to_nowhere_is_missing(path: Path, true_of: set[str]) -> None:
    outcome: dict[str, Json] = {"result": None}
    assert {one.value for one in Comparison if Condition.of(path, one).holds(outcome)} == true_of


def test_line_asks_for_success_when_nothing_else_is_said() -> None:
    assert TaskStarLine(X, Y) == TaskStarLine(X, Y, LineKind.SUCCESS, None)


@pytest.mark.parametrize("state", list(StarState))
def test_three_states_of_a_star_are_terminal(state: StarState) -> None:
    assert state.is_terminal == (state.value in {"SUCCEEDED", "FAILED", "CANCELLED"})


@pytest.mark.parametrize("state", list(ConstellationState))
def test_every_state_of_a_request_but_running_is_terminal(state: ConstellationState) -> None:
    assert state.is_terminal == (state.value != "RUNNING")


def test_star_asks_for_little_when_nothing_is_said() -> None:
    spec = StarSpec(X, StarKind.REASON, "think")
    assert (spec.inputs, spec.requires, spec.priority, spec.may_edit, spec.title) == ({}, frozenset(), 0, False, "")
    assert spec.timeouts == Timeouts(schedule_to_start_s=None, start_to_close_s=600.0, heartbeat_s=None)
    assert spec.retry == RetryPolicy(max_attempts=3, backoff_s=0.5, multiplier=2.0, max_backoff_s=30.0, jitter=0.5)


@pytest.mark.parametrize(
    ("kind", "capability"),
    [(StarKind.TOOL, "tool:f"), (StarKind.PLAN, "program:f"), (StarKind.REASON, "program:f")],
)
def test_capability_of_a_program_says_whether_it_is_a_tool(kind: StarKind, capability: str) -> None:
    assert program_capability(kind, "f") == capability
    spec = StarSpec(X, kind, "f", requires=frozenset({"model:m"}))
    assert spec.capabilities == {"model:m", capability}


def test_live_attempt_is_the_last_one_while_it_has_no_outcome() -> None:
    star = TaskStar(tool("x"), StarState.RUNNING, 1)
    assert (star.unmet, star.live_attempt) == (0, None)
    lost = Attempt(1, ADA, FencingToken(1), 0.0, 1.0, AttemptOutcome.LOST)
    live = Attempt(2, ADA, FencingToken(2), 1.0)
    star.attempts += [lost, live]
    assert star.live_attempt is live
    assert live.holds_slot
    star.attempts.reverse()
    assert star.live_attempt is None


def test_constellation_begins_empty_and_running() -> None:
    new = TaskConstellation(C, "r", "me", Request("boards", ""), Budget(), 1.0, 1.0)
    assert (new.state, new.reason, new.ended_at) == (ConstellationState.RUNNING, "", None)
    assert (new.revision, new.unfinished, new.attempts, new.seq) == (0, 0, 0, 0)
    assert (new.stars, new.parents, new.children) == ({}, {}, {})


def test_budget_is_generous_when_nothing_is_said() -> None:
    assert Budget() == Budget(10_000, 50_000, 3600.0)


@pytest.mark.parametrize(
    "change",
    [
        {"priority": 3},
        {"priority": 0},
        {"requires": frozenset({"gpu"})},
        {"requires": frozenset()},
        {"timeouts": Timeouts(1.0)},
        {"retry": RetryPolicy(1)},
        {"title": "new"},
        {"title": ""},
    ],
)
def test_update_changes_what_it_names_and_nothing_else(change: dict[str, Any]) -> None:
    spec = tool("x", priority=5, requires=frozenset({"model:m"}), title="old", inputs={"i": Constant(1)})
    updated = update_spec(spec, UpdateStar(X, **change))
    assert updated == tool(
        "x", **{"priority": 5, "requires": frozenset({"model:m"}), "title": "old", "inputs": spec.inputs, **change}
    )


def test_worker_offers_what_its_profile_lists_and_an_operators_labels_win() -> None:
    own = WorkerProfile(1, models=("m",), tools=("t",), programs=("p",), labels={"zone": "a", "rack": "1"})
    assert own.capabilities({"zone": "b", "new": "yes"}) == {
        "model:m",
        "tool:t",
        "program:p",
        "label:zone=b",
        "label:rack=1",
        "label:new=yes",
    }
    assert WorkerProfile(1, gpus=(Gpu("h200", 1),)).capabilities({}) == {"gpu"}
    assert (WorkerProfile(1).cores, WorkerProfile(1).memory_bytes) == (0, 0)


def test_credential_is_valid_until_it_ends_or_is_taken_back() -> None:
    credential = StoredCredential("me", Role.CLIENT, b"", 0.0, 10.0)
    assert credential.is_valid(9.0)
    assert not credential.is_valid(10.0)
    assert not StoredCredential("me", Role.CLIENT, b"", 0.0, 10.0, revoked_at=1.0).is_valid(9.0)
