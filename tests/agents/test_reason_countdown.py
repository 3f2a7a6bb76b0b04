from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.agents import markup
from asterism.agents.asks import Fork, Generate, Json, ProgramFailed, Sampling, prompt_text
from asterism.agents.countdown import Board, verify
from asterism.agents.reason_countdown import reason_countdown
from tests.agents.driver import CONTEXT, ScriptedWriter, Writer, drive

NUMBERS = [4, 6, 8, 3]
BOARD = Board((4, 6, 8, 3), 24)
OUTLINES = (
    "<Outline> 1 : 8 + 6 = 14 </Outline> <Outline> 2 : 4 * 3 = 12 </Outline> <Outline> 3 : 8 - 3 = 5 </Outline> "
    "</Outlines>"
)
WINNER = "12 needs + 12 - 36 * 2 : 8 - 6 = 2 yes 12 * 2 = 24 </Thread>"
LOSER = "14 needs + 10 - 38 : 4 + 3 = 7 no none </Thread>"
ANSWER = "2 : 4 * 3 = 12 , 8 - 6 = 2 , 12 * 2 = 24 </Answer> <end>"


def good_model(prompt: str, sampling: Sampling) -> str:
    if prompt.endswith("<Outlines>"):
        return OUTLINES
    if prompt.endswith("<Answer>"):
        return ANSWER
    return WINNER if prompt.endswith("4 * 3 = 12 left 6 8 12 :") else LOSER


def run(write: Writer, **inputs: Json) -> tuple[dict[str, Any], ScriptedWriter]:
    writer = ScriptedWriter(write)
    result = drive(reason_countdown({"numbers": NUMBERS, "target": 24, **inputs}, CONTEXT), writer.answer)
    assert isinstance(result.value, dict)
    return result.value, writer


def test_board_is_solved_by_the_thread_that_won() -> None:
    value, writer = run(good_model, threads=3)
    assert value["solved"]
    assert verify(BOARD, value["expression"]).is_correct
    assert [thread["outcome"] for thread in value["threads"]] == ["refuted", "verified", "cancelled"]
    assert (value["numbers"], value["target"]) == ([3, 4, 6, 8], 24)
    fork = next(ask for ask in writer.asks if isinstance(ask, Fork))
    assert prompt_text(fork.prefix).endswith("</Outlines>")
    assert [branch.suffix for branch in fork.branches][1] == " <Thread> 2 : 4 * 3 = 12 left 6 8 12 :"


def test_join_tells_the_model_which_threads_ended_how() -> None:
    _, writer = run(good_model, threads=3)
    tail = writer.asks[-2]
    assert isinstance(tail, Generate)
    assert "<Thread> 1 : none </Thread> <Thread> 2 : 8 - 6 = 2 , 12 * 2 = 24 </Thread> </Parallel>" in prompt_text(
        tail.prompt
    )


def test_verified_claim_stands_when_the_join_says_something_false() -> None:
    value, _ = run(lambda prompt, s: "2 : 4 * 3 = 13" if prompt.endswith("<Answer>") else good_model(prompt, s))
    assert value["solved"]
    assert value["accounting"]["false_claims"] == 1


def test_skip_leaves_out_the_outlines_of_earlier_stars() -> None:
    value, writer = run(good_model, threads=1, skip=2)
    assert [thread["outline"] for thread in value["threads"]] == ["8 - 3 = 5"]
    assert not value["solved"]
    fork = next(ask for ask in writer.asks if isinstance(ask, Fork))
    assert prompt_text(fork.prefix).count("<Outline>") == 3


def test_first_moves_that_the_list_leaves_out_are_added() -> None:
    value, _ = run(good_model, threads=2, skip=3)
    assert [thread["outline"] for thread in value["threads"]] == ["4 + 3 = 7", "4 - 3 = 1"]
    assert value["accounting"]["added_outlines"] == 2


def test_skip_beyond_every_first_move_is_a_success_without_a_solution() -> None:
    value, writer = run(good_model, skip=200)
    assert not value["solved"]
    assert value["threads"] == ()
    assert not any(isinstance(ask, Fork) for ask in writer.asks)


def test_false_claim_is_struck_out_and_the_thread_goes_on() -> None:
    lie = "8 + 6 = 14 yes 14 + 12 = 24 </Thread>"

    def write(prompt: str, sampling: Sampling) -> str:
        if "8 + 6 = 14 no" in prompt:
            return "8 - 6 = 2 yes 12 * 2 = 24 </Thread>"
        return lie if prompt.endswith("4 * 3 = 12 left 6 8 12 :") else good_model(prompt, sampling)

    value, _ = run(write, threads=3)
    assert value["solved"]
    assert value["accounting"]["false_claims"] == 1


def test_list_without_an_outline_falls_back_to_one_text() -> None:
    search = "try 4 * 3 = 12 left 6 8 12 : 8 - 6 = 2 yes 12 * 2 = 24 </Search>"
    value, _ = run(lambda prompt, _: search if prompt.endswith("<Search>") else "no no no </Outlines>")
    assert value["solved"]
    assert value["accounting"]["fallbacks"] == 1


def test_sequential_search_restarts_with_sampling_until_its_budget_is_spent() -> None:
    value, writer = run(lambda *_: "try 8 + 6 = 14 left none </Search>", mode="sequential", threads=2, tokens=20)
    asked = [ask.sampling for ask in writer.asks if isinstance(ask, Generate)]
    assert [sampling.temperature for sampling in asked] == [0.0, *[0.8] * (len(asked) - 1)]
    assert [sampling.seed for sampling in asked] == list(range(len(asked)))
    assert value["accounting"]["total_tokens"] == 40
    assert not value["solved"]


def test_model_may_choose_not_to_fork() -> None:
    value, _ = run(
        lambda prompt, _: "left 3 8 10 : none </Search>" if "<Search>" in prompt else "<Search>",
        mode="auto",
        numbers=[3, 8, 10],
    )
    assert value["mode"] == "sequential"


@pytest.mark.parametrize(("solved", "expected"), [(True, "b"), (False, "c")])
def test_edits_for_the_result_go_with_it(solved: bool, expected: str) -> None:
    on_result: Json = {"solved": [{"cancel_star": "b"}], "unsolved": [{"cancel_star": "c"}]}
    writer = ScriptedWriter(good_model)
    inputs: dict[str, Json] = {"numbers": NUMBERS, "skip": 0 if solved else 2, "on_result": on_result}
    result = drive(reason_countdown(inputs, CONTEXT), writer.answer)
    assert result.edits == ({"cancel_star": expected},)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("numbers", [1, 2]),
        ("numbers", [1, 2, 3, 999]),
        ("numbers", "4 6 8 3"),
        ("target", 201),
        ("target", 0),
        ("threads", 0),
        ("threads", 65),
        ("threads", True),
        ("skip", -1),
        ("tokens", 401),
        ("mode", "both"),
        ("temperature", -1),
        ("temperature", float("nan")),
        ("on_result", []),
        ("on_result", {"solved": [{}]}),
        ("on_result", {"other": []}),
    ],
)
def test_bad_input_fails_for_good(field: str, value: Json) -> None:
    with pytest.raises(ProgramFailed) as caught:
        run(good_model, **{field: value})
    assert caught.value.code == "invalid_input"
    assert not caught.value.retryable


words = st.sampled_from([*markup.VOCABULARY[1:32], "2", "3", "4", "6", "8", "12", "24", "</Thread>", "yes"])
fragments = st.sampled_from([OUTLINES, WINNER, LOSER, ANSWER, "<Outline> 1 : 8 + 6 = 14 </Outline>", "yes", ""])
texts = st.lists(st.one_of(words, fragments), max_size=40).map(" ".join)


@given(
    st.lists(texts, min_size=1, max_size=12),
    st.integers(1, 8),
    st.integers(0, 6),
    st.integers(1, 60),
    st.sampled_from(["parallel", "sequential", "auto"]),
)
@settings(max_examples=150, deadline=None)
def test_whatever_a_model_says_the_program_ends_within_bounds_and_says_nothing_false(
    said: list[str], threads: int, skip: int, tokens: int, mode: str
) -> None:
    turn = iter(range(10**6))
    value, writer = run(lambda *_: said[next(turn) % len(said)], threads=threads, skip=skip, tokens=tokens, mode=mode)
    if value["solved"]:
        assert verify(BOARD, value["expression"]).is_correct
    else:
        assert value["expression"] is None
    assert len(writer.asks) < 200
    assert all(thread["tokens"] <= max(tokens, threads * tokens) for thread in value["threads"])
