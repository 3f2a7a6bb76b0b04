from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asterism.agents import markup
from asterism.agents.asks import Fork, Generate, Json, ProgramFailed, Sampling, prompt_text
from asterism.agents.countdown import verify
from asterism.agents.effort import CONTEXT_TOKENS
from asterism.agents.reason_countdown import reason_countdown
from tests.agents.board import BOARD, LIE, LIST, LOSER, NUMBERS, WINNER, good_model, rest_of_list
from tests.agents.driver import CONTEXT, ScriptedWriter, Writer, drive


def run(write: Writer, **inputs: Json) -> tuple[dict[str, Any], ScriptedWriter]:
    writer = ScriptedWriter(write)
    result = drive(reason_countdown({"numbers": NUMBERS, "target": 24, **inputs}, CONTEXT), writer.answer)
    assert isinstance(result.value, dict)
    return result.value, writer


def prompts(writer: ScriptedWriter) -> list[str]:
    """Every prompt of a fork's branches, in order."""
    forks = [ask for ask in writer.asks if isinstance(ask, Fork)]
    return [prompt_text(fork.prefix) + prompt_text(branch.suffix) for fork in forks for branch in fork.branches]


def test_board_is_solved_by_the_thread_that_won() -> None:
    value, _ = run(good_model, threads=3, eager=False)
    assert value["solved"]
    assert verify(BOARD, value["expression"]).is_correct
    assert [thread["outcome"] for thread in value["threads"]] == ["refuted", "verified", "cancelled"]
    assert [thread["outline"] for thread in value["threads"]] == list(LIST)
    assert (value["numbers"], value["target"]) == ([3, 4, 6, 8], 24)


def test_thread_starts_behind_the_outlines_that_there_are() -> None:
    _, writer = run(good_model, threads=3)
    first = next(prompt for prompt in prompts(writer) if prompt.endswith("8 + 6 = 14 left 3 4 14 -> 24 :"))
    assert first == (
        "<Board> 3 4 6 8 -> 24 <Parallel> <Outlines> <Outline> 8 + 6 = 14 </Outline> </Outlines> "
        "<Thread> 1 : 8 + 6 = 14 left 3 4 14 -> 24 :"
    )


def test_thread_that_is_not_eager_starts_behind_the_whole_list() -> None:
    _, writer = run(good_model, threads=3, eager=False)
    threads = [prompt for prompt in prompts(writer) if prompt.endswith(":")]
    assert len(threads) == 3
    assert all(prompt.count("<Outline>") == 3 for prompt in threads)


def test_join_shows_the_model_the_claims() -> None:
    _, writer = run(good_model, threads=3)
    tail = prompts(writer)[-1]
    assert tail.endswith(
        "</Outline> </Outlines> <Thread> 2 : 4 * 3 = 12 left 6 8 12 -> 24 : yes 12 * 2 = 24 </Thread> "
        "</Parallel> <Answer>"
    )


def test_every_word_that_the_program_writes_is_in_the_vocabulary() -> None:
    for inputs in ({"threads": 20}, {"mode": "sequential"}, {"mode": "direct"}):
        _, writer = run(good_model, **inputs)
        asked = [prompt_text(ask.prompt) for ask in writer.asks if isinstance(ask, Generate)]
        assert {word for prompt in (*asked, *prompts(writer)) for word in prompt.split()} <= set(markup.VOCABULARY)


def test_every_thread_is_awaited_when_the_star_asks_for_it() -> None:
    value, _ = run(good_model, threads=3, wait="all")
    assert value["solved"]
    assert [thread["outcome"] for thread in value["threads"]] == ["refuted", "verified", "refuted"]


def test_skip_leaves_out_the_outlines_of_earlier_stars() -> None:
    value, writer = run(good_model, threads=1, skip=2)
    assert [thread["outline"] for thread in value["threads"]] == ["8 - 3 = 5"]
    assert not value["solved"]
    assert next(prompt for prompt in prompts(writer) if prompt.endswith(":")).count("<Outline>") == 3


def test_first_moves_that_the_list_leaves_out_are_added() -> None:
    value, _ = run(good_model, threads=2, skip=3)
    assert [thread["outline"] for thread in value["threads"]] == ["4 + 3 = 7", "4 - 3 = 1"]
    assert value["accounting"]["added_entries"] == 2


def test_moves_that_leave_the_same_numbers_share_a_thread() -> None:
    value, _ = run(lambda prompt, _: rest_of_list(prompt), numbers=[2, 2, 7, 9], threads=20)
    outlines = [thread["outline"] for thread in value["threads"]]
    assert "2 + 2 = 4" in outlines
    assert "2 * 2 = 4" not in outlines


def test_skip_beyond_every_first_move_is_a_success_without_a_solution() -> None:
    value, _ = run(good_model, skip=200)
    assert not value["solved"]
    assert value["threads"] == ()


def test_false_claim_is_struck_out_and_the_thread_goes_on() -> None:
    def write(prompt: str, sampling: Sampling) -> str:
        if "4 3 + 7 no" in prompt:
            return "- 1 none </Thread>"
        return LIE if prompt.endswith("8 + 6 = 14 left 3 4 14 -> 24 :") else good_model(prompt, sampling)

    value, _ = run(write, threads=3, wait="all")
    assert value["solved"]
    assert [thread["outcome"] for thread in value["threads"]] == ["refuted", "verified", "refuted"]
    assert value["accounting"]["false_claims"] == 1


def test_sequential_search_restarts_with_sampling_until_its_budget_is_spent() -> None:
    value, writer = run(lambda *_: "try 8 + 6 = 14 left none </Search>", mode="sequential", threads=2, tokens=20)
    asked = [ask.sampling for ask in writer.asks if isinstance(ask, Generate)]
    assert [sampling.temperature for sampling in asked] == [0.0, *[0.8] * (len(asked) - 1)]
    assert [sampling.seed for sampling in asked] == list(range(len(asked)))
    assert value["accounting"]["total_tokens"] == value["accounting"]["critical_path_tokens"] == 40
    assert not value["solved"]


def test_false_claim_of_a_search_is_struck_out_in_the_same_text() -> None:
    def write(prompt: str, sampling: Sampling) -> str:
        if "+ 14 no" in prompt:
            return "- 2 yes 12 * 2 = 24 </Search>"
        return "try 4 * 3 = 12 left 6 8 12 -> 24 : with 12 add 12 : 8 6 + 14 yes 12 + 14 = 24 </Search>"

    value, writer = run(write, mode="sequential")
    assert value["solved"]
    assert value["accounting"]["false_claims"] == 1
    assert [ask.sampling.temperature for ask in writer.asks if isinstance(ask, Generate)] == [0.0, 0.0]


def test_direct_answers_are_sampled_until_one_verifies() -> None:
    def write(prompt: str, sampling: Sampling) -> str:
        moves = "4 * 3 = 12 , 8 - 6 = 2 , 12 * 2 = 24" if sampling.seed == 2 else "4 * 3 = 12 , 8 + 6 = 14"
        return f"{moves} </Answer>"

    value, writer = run(write, mode="direct")
    assert value["solved"]
    assert value["accounting"]["false_claims"] == 2
    assert [ask.sampling.seed for ask in writer.asks if isinstance(ask, Generate)] == [0, 1, 2]


def test_model_may_choose_not_to_fork() -> None:
    value, _ = run(
        lambda prompt, _: "left 3 8 10 -> 24 : none </Search>" if "<Search>" in prompt else "<Search>",
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
        ("target", 401),
        ("target", 0),
        ("threads", 0),
        ("threads", 65),
        ("threads", True),
        ("skip", -1),
        ("tokens", 401),
        ("mode", "both"),
        ("temperature", -1),
        ("temperature", float("nan")),
        ("budget", 0),
        ("context", 5),
        ("at_once", 0),
        ("eager", 1),
        ("wait", "any"),
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


words = st.sampled_from([*markup.VOCABULARY[1:40], "2", "3", "4", "6", "8", "12", "24", "</Thread>", "yes"])
fragments = st.sampled_from([rest_of_list("", *LIST), WINNER, LOSER, LIE, "2 </Answer>", "<Outline> 8 + 6 = 14", ""])
texts = st.lists(st.one_of(words, fragments), max_size=40).map(" ".join)


@given(
    st.lists(texts, min_size=1, max_size=12),
    st.integers(1, 8),
    st.integers(0, 6),
    st.integers(1, 60),
    st.sampled_from(["parallel", "sequential", "auto", "direct"]),
    st.booleans(),
)
@example(["<Search> <end>"], 1, 0, 1, "auto", False)
@settings(max_examples=150, deadline=None)
def test_whatever_a_model_says_the_program_ends_within_bounds_and_says_nothing_false(
    said: list[str], threads: int, skip: int, tokens: int, mode: str, eager: bool
) -> None:
    turn = iter(range(10**6))
    effort: dict[str, Json] = {"threads": threads, "skip": skip, "tokens": tokens, "mode": mode, "eager": eager}
    value, writer = run(lambda *_: said[next(turn) % len(said)], **effort)
    if value["solved"]:
        assert verify(BOARD, value["expression"]).is_correct
    else:
        assert value["expression"] is None
    assert len(writer.asks) < 400
    # A model that chose one text after another is bounded by the context of each, and by the whole budget.
    chose_texts = mode == "auto" and value["mode"] == "sequential"
    longest = CONTEXT_TOKENS if chose_texts else max(tokens, threads * tokens)
    assert all(thread["tokens"] <= longest for thread in value["threads"])
