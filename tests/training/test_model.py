"""The shipped model, on the shipped engine, with boards that training never saw."""

from pathlib import Path

import pytest

from asterism.agents import markup
from asterism.agents.countdown import solve
from asterism.workers.engine.folder import load_folder
from asterism.workers.engine.torch_engine import TorchEngine
from asterism.workers.training.attempts import attempt_all
from asterism.workers.training.boards import RESERVED, read_boards

MODEL = Path(__file__).parents[2] / "workers" / "models" / "countdown"


def test_model_is_small_enough_to_ship() -> None:
    assert sum(file.stat().st_size for file in MODEL.iterdir()) <= 10 * 1024 * 1024


def test_every_word_of_the_markup_is_one_token_of_its_own() -> None:
    tokenizer = load_folder(MODEL).tokenizer
    assert [tokenizer.token_to_id(word) for word in markup.VOCABULARY] == list(range(len(markup.VOCABULARY)))


@pytest.mark.slow
async def test_model_solves_most_boards_with_sixteen_threads_and_claims_no_impossible_one() -> None:
    boards = read_boards(RESERVED)[:10]
    engine = TorchEngine(load_folder(MODEL), max_sequences=32)
    await engine.start()
    try:
        attempts = await attempt_all(engine, boards, {"threads": 16}, at_once=2)
    finally:
        await engine.close()
    solvable = [solve(board) is not None for board in boards]
    assert not any(one.solved for one, possible in zip(attempts, solvable, strict=True) if not possible)
    assert sum(one.solved for one in attempts) >= sum(solvable) - 2
