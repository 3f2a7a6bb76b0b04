from collections.abc import Callable

import pytest

from asterism.agents.accounting import Accounting
from asterism.agents.asking import Asking
from asterism.agents.asks import Json, Program, ProgramResult, Sampling
from asterism.agents.sampled import best_of, first_verified, majority
from tests.agents.driver import drive
from tests.agents.lockstep import Lockstep

WARM = Sampling(max_tokens=20, temperature=0.8, seed=1, stop=("stop",))
TEXTS = ["x is 7 stop", "is 5 stop", "x x is 7 stop", "y y y y is 5 stop", "z z z z z is 7 stop"]


def value_of(asking: Asking[str | None]) -> tuple[Json, Lockstep]:
    def write(thread: str, prompt: str, sampling: Sampling) -> str:
        assert prompt == "question"
        return TEXTS[int(thread.removeprefix("t")) - 1]

    def program() -> Program:
        return ProgramResult((yield from asking))

    engine = Lockstep(write)
    return drive(program(), engine.answer).value, engine


def last_word(text: str) -> str | None:
    return text.split()[-1]


def test_best_of_n_is_the_one_with_the_highest_score() -> None:
    value, engine = value_of(best_of("question", 5, lambda text: text.count("y"), sampling=WARM))
    assert value == "y y y y is 5"
    assert len(engine.forks) == 1
    assert len({sampling.seed for sampling in engine.decoded}) == 5


def test_majority_cancels_samples_that_can_change_nothing() -> None:
    spent = Accounting()
    value, engine = value_of(majority("question", 5, last_word, sampling=WARM, accounting=spent))
    assert value == "7"
    # 5, 7, 7, 5 end first, and the last one decides.
    assert (spent.threads_cancelled, engine.ticks) == (0, 8)
    spent = Accounting()
    value, engine = value_of(majority("question", 5, last_word, sampling=WARM, agree=2, accounting=spent))
    assert (value, spent.threads_cancelled, engine.ticks) == ("7", 2, 5)


def test_first_verified_sample_cancels_the_others() -> None:
    spent = Accounting()
    value, _ = value_of(first_verified("question", 5, lambda text: "x x" in text, sampling=WARM, accounting=spent))
    assert (value, spent.threads_cancelled) == ("x x is 7", 2)
    value, _ = value_of(first_verified("question", 5, lambda text: "q" in text, sampling=WARM))
    assert value is None


def test_a_vote_without_an_answer_is_none() -> None:
    nothing: Callable[[str], str | None] = lambda text: None  # noqa: E731
    assert value_of(majority("question", 3, nothing, sampling=WARM))[0] is None


def test_greedy_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="temperature"):
        value_of(best_of("question", 2, len, sampling=Sampling(max_tokens=5)))
