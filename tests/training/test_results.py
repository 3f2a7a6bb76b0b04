from dataclasses import replace

import pytest

from asterism.agents.countdown import Board
from asterism.workers.training.attempts import Attempt
from asterism.workers.training.results import Records, results_json

BOARDS = (Board((3, 4, 6, 8), 24), Board((1, 5, 9, 20), 77))
SOLVED = Attempt(
    solved=True,
    mode="parallel",
    tokens=300,
    critical_path=80,
    steps=100,
    first_text=None,
    prefill=50,
    join_prefill=5,
    forked=7,
    false_claims=1,
    seconds=0.5,
    said=["8 * 3", [{"thread": "t1", "tokens": 4}]],
)
FAILED = replace(SOLVED, solved=False, tokens=1_000, critical_path=120, steps=200)


def records(*attempts: Attempt, boards: tuple[Board, ...] = BOARDS) -> Records:
    return Records(boards, attempts, wall_s=4.0, processor_s=3.0)


def test_records_survive_being_written() -> None:
    one = records(SOLVED, FAILED)
    assert Records.from_json(one.to_json()) == one


def test_run_says_shares_by_kind_of_board_and_cost_of_a_solved_one() -> None:
    results = results_json({"cancel": records(SOLVED, FAILED)})["runs"]
    run = results["cancel"]
    assert (run["all"]["solved"], run["game_of_24"]["solved"], run["countdown"]["solved"]) == (1, 1, 0)
    assert run["wall_ms_a_solved_board"] == 4000.0


def test_run_in_which_nothing_was_solved_has_no_cost_of_a_solved_board() -> None:
    results = results_json({"cancel": records(FAILED, FAILED)})["runs"]
    assert results["cancel"]["wall_ms_a_solved_board"] is None


def test_critical_paths_are_compared_on_the_boards_of_both_runs() -> None:
    text = replace(SOLVED, mode="sequential", critical_path=400, first_text=400)
    saved = {
        "sequential, 1700 tokens": records(text, text),
        "cancel": records(SOLVED, boards=BOARDS[:1]),
    }
    tests = results_json(saved)["tests"]
    compared = tests["sequential over cancel"]
    assert compared["all"]["boards"] == 1
    assert compared["all"]["times_mean"] == pytest.approx(5.0)
    assert compared["solved_by_both"]["times_mean_in_steps"] == pytest.approx(4.0)


def test_fewer_tokens_are_read_from_the_same_run() -> None:
    late = replace(SOLVED, mode="direct", tokens=900)
    tests = results_json({"direct, 1700 tokens": records(SOLVED, late)})["tests"]
    assert tests["direct, 800 tokens"]["solved"] == 1


def test_texts_of_repeated_runs_are_compared() -> None:
    other = replace(SOLVED, said=[None, []])
    saved = {"repeated, 1 at once": records(SOLVED, SOLVED), "repeated, 8 at once": records(SOLVED, other)}
    tests = results_json(saved)["tests"]
    assert tests["same texts at 1 and 8 at once"] is False
