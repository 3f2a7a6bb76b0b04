import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.workers.training.measures import ThreadCost, quantile, share_of, spread, steps_on_slots, wilson


def test_interval_is_the_one_in_the_books() -> None:
    low, high = wilson(8, 10)
    assert (low, high) == pytest.approx((0.490, 0.943), abs=1e-3)


@given(st.integers(1, 500).flatmap(lambda boards: st.tuples(st.integers(0, boards), st.just(boards))))
def test_interval_lies_around_the_share(solved_of: tuple[int, int]) -> None:
    solved, boards = solved_of
    low, high = wilson(solved, boards)
    assert -1e-9 <= low <= solved / boards + 1e-9
    assert solved / boards - 1e-9 <= high <= 1 + 1e-9


def test_share_of_nothing_is_nothing() -> None:
    assert share_of([]) is None


def test_spread_of_a_hundred() -> None:
    assert spread(range(1, 101)) == {"mean": 50.5, "p50": 50, "p95": 95}
    assert quantile([7], 0.95) == 7


def threads(*costs: tuple[int, int | None, bool]) -> list[ThreadCost]:
    return [ThreadCost(*cost) for cost in costs]


def test_eager_thread_ends_while_its_parent_still_lists() -> None:
    assert steps_on_slots(threads((7, 20, True), (14, None, False)), 100, 2, slots=8) == 7 + 20 + 2


def test_thread_behind_the_list_waits_for_it() -> None:
    assert steps_on_slots(threads((100, 30, False), (100, 20, True)), 100, 2, slots=8) == 100 + 20 + 2


def test_thread_waits_for_a_slot() -> None:
    # The list takes one of the two slots until step 21.
    assert steps_on_slots(threads((7, 20, False), (14, 20, True)), 21, 0, slots=2) == 21 + 20


def test_without_a_verified_thread_all_are_awaited() -> None:
    assert steps_on_slots(threads((7, 20, False), (14, 40, False)), 21, 1, slots=8) == 14 + 40 + 1


@given(
    st.lists(st.tuples(st.integers(0, 50), st.one_of(st.none(), st.integers(0, 60)), st.booleans()), max_size=12),
    st.integers(0, 60),
    st.integers(2, 9),
)
def test_more_slots_never_take_longer_than_one_after_another(
    costs: list[tuple[int, int | None, bool]], parent: int, slots: int
) -> None:
    ordered = threads(*sorted(costs, key=lambda cost: cost[0]))
    steps = steps_on_slots(ordered, parent, 0, slots)
    assert steps <= parent + 50 + sum(max(1, cost.tokens or 0) for cost in ordered)
