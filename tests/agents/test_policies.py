import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.agents.policies import EAGER, All, Best, FirstVerified, JoinPolicy, Quorum, Standing, Vote, decide

POLICIES = st.sampled_from(
    [All(), FirstVerified(), EAGER, Quorum(2), Quorum(9), Vote(), Vote(1), Vote(2), Vote(9), Best()]
)


@st.composite
def standings(draw: st.DrawFn) -> list[Standing]:
    count = draw(st.integers(0, 6))
    order = draw(st.permutations(range(count)))
    ended = draw(st.integers(0, count))
    return [
        Standing()
        if order[index] >= ended
        else Standing(
            order[index],
            draw(st.booleans()),
            draw(st.sampled_from([None, "a", "b", "c"])),
            draw(st.sampled_from([None, 0.0, 1.0, 2.0])),
        )
        for index in range(count)
    ]


@given(POLICIES, standings())
def test_it_is_settled_at_the_latest_when_no_thread_lives(policy: JoinPolicy, threads: list[Standing]) -> None:
    is_over = all(thread.ended_as is not None for thread in threads)
    decision = decide(policy, threads)
    assert decision.is_settled or not is_over
    assert all(threads[index].ended_as is not None for index in decision.chosen)
    if not decision.is_settled:
        assert decision.chosen == ()


@given(standings(), st.booleans())
def test_only_a_verified_thread_is_the_first_verified(threads: list[Standing], may_grow: bool) -> None:
    decision = decide(FirstVerified(), threads, may_grow=may_grow)
    verified = [one.ended_as for one in threads if one.is_verified and one.ended_as is not None]
    assert [threads[index].ended_as for index in decision.chosen] == ([min(verified)] if verified else [])


@given(standings(), st.sampled_from([None, 1, 2, 3]), st.lists(st.sampled_from(["a", "b", "c"]), max_size=6))
def test_no_end_to_come_changes_a_vote_that_is_settled(
    threads: list[Standing], agree: int | None, coming: list[str]
) -> None:
    """For a majority of all; where k are enough, the first k are."""
    decision = decide(Vote(agree), threads)
    if not decision.is_settled:
        return
    ends = sum(one.ended_as is not None for one in threads)
    later: list[Standing] = []
    for index, one in enumerate(threads):
        answer = coming[index] if index < len(coming) else None
        later.append(one if one.ended_as is not None else Standing(ends + index, answer=answer))
    answers = {threads[index].answer for index in decision.chosen}
    after = {later[index].answer for index in decide(Vote(agree), later).chosen}
    assert answers == after or (agree is not None and answers)


@given(POLICIES, standings())
def test_a_list_that_may_grow_settles_nothing_that_counts_it(policy: JoinPolicy, threads: list[Standing]) -> None:
    if policy in (All(), Best(), Vote()):
        assert not decide(policy, threads, may_grow=True).is_settled


def test_the_best_has_the_highest_score_and_the_first_of_equals_counts() -> None:
    threads = [Standing(0, score=1.0), Standing(2, score=2.0), Standing(1, score=2.0), Standing(3)]
    assert decide(Best(), threads).chosen == (1,)


def test_the_answer_that_was_complete_first_wins_among_equals() -> None:
    threads = [Standing(1, answer="a"), Standing(0, answer="b"), Standing(2, answer="b"), Standing(3, answer="a")]
    assert decide(Vote(), threads).chosen == (1, 2)


@pytest.mark.parametrize("policy", [lambda: Quorum(0), lambda: Vote(0)])
def test_policies_that_wait_for_nobody_are_refused(policy: object) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        policy()  # type: ignore[operator]
