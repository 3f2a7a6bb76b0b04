import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.folder import load_folder
from asterism.workers.training.learning import Plan, embed_values, learning_rate_factor, train
from asterism.workers.training.makers import Makers, MakersEnded, Recipe
from asterism.workers.training.optimizer import Optimizer, orthogonalised
from asterism.workers.training.shape import CONFIG, DISTRIBUTIONS
from asterism.workers.training.traces import TOKEN_ID


def plan(folder: Path, minutes: float, boards: str = "countdown", rows: int = 0, makers: int = 0) -> Plan:
    return Plan(
        boards=boards,
        minutes=minutes,
        rows=rows,
        scale=1,
        makers=makers,
        seed=3,
        device=torch.device("cpu"),
        bfloat16=False,
        recorded=False,
        compiled=False,
        checkpoint=folder / "checkpoint.pt",
        out=folder / "model",
    )


def test_training_goes_on_from_its_checkpoint_and_writes_a_model(tmp_path: Path) -> None:
    first = train(plan(tmp_path, 0.005))
    second = train(plan(tmp_path, first.spent_s / 60 + 0.001))
    assert second.steps > first.steps
    assert second.spent_s > first.spent_s
    model = load_folder(tmp_path / "model")
    assert model.decoder.config == CONFIG
    ids = model.tokenizer.encode("<Board> 3 4 6 8 -> 24").ids
    assert ids == [TOKEN_ID[word] for word in ("<Board>", "3", "4", "6", "8", "->", "24")]
    assert json.loads((tmp_path / "model" / "config.json").read_text())["model_type"] == "llama"


def test_training_learns_from_what_other_processes_made(tmp_path: Path) -> None:
    progress = train(plan(tmp_path, 0.02, rows=1, makers=1))
    assert progress.steps > 0
    assert progress.tokens > 0


def test_makers_with_one_seed_make_the_same_updates_as_the_recipe_alone() -> None:
    recipe = Recipe(largest=20, share_24=0.2, rows=1)
    with Makers(recipe, "7", 1) as makers:
        made = list(islice(makers.updates(), 3))
    for (given,), (own,) in zip(made, recipe.updates("7 0"), strict=False):
        assert np.array_equal(given, own)


def test_makers_that_have_all_ended_are_not_awaited_for_ever() -> None:
    # No board has numbers to 0: each maker ends with an error.
    with (
        Makers(Recipe(largest=0, share_24=0.0, rows=1), "1", 1, silence_s=1.0) as makers,
        pytest.raises(MakersEnded),
    ):
        next(makers.updates())


def test_text_survives_the_tokenizer(tmp_path: Path) -> None:
    train(plan(tmp_path, 0.0))
    tokenizer = load_folder(tmp_path / "model").tokenizer
    text = "<Outline> 1 : 6 + 4 = 10 </Outline>"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.parametrize("boards", sorted(DISTRIBUTIONS))
def test_every_distribution_has_a_model_that_fits_ten_megabytes(tmp_path: Path, boards: str) -> None:
    train(plan(tmp_path, 0.0, boards))
    model = load_folder(tmp_path / "model")
    assert model.decoder.config == DISTRIBUTIONS[boards].shape
    assert sum(file.stat().st_size for file in (tmp_path / "model").iterdir()) <= 10 * 1024 * 1024


@pytest.mark.parametrize(
    ("used", "steps", "factor"),
    [(0.0, 0, 0.02), (0.0, 1000, 1.0), (0.2, 1000, 1.0), (0.6, 1000, 0.5), (1.0, 1000, 0.0)],
)
def test_learning_rate_warms_up_stays_and_decays_to_nothing(used: float, steps: int, factor: float) -> None:
    assert learning_rate_factor(used, steps) == pytest.approx(factor)


def test_near_numbers_start_with_like_embeddings() -> None:
    torch.manual_seed(0)
    decoder = Decoder(CONFIG)
    embed_values(decoder, seed=0)
    table = decoder.model.embed_tokens.weight
    similar = torch.nn.functional.cosine_similarity
    near = similar(table[TOKEN_ID["100"]], table[TOKEN_ID["120"]], dim=0)
    assert near > similar(table[TOKEN_ID["100"]], table[TOKEN_ID["7"]], dim=0)


def test_muon_updates_are_nearly_orthogonal() -> None:
    torch.manual_seed(0)
    for shape in ((3, 32, 16), (3, 16, 32)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(*shape)))
        assert values.min() > 0.5
        assert values.max() < 1.5


def test_one_step_lowers_the_loss_it_was_taken_on() -> None:
    torch.manual_seed(0)
    decoder = Decoder(CONFIG)
    optimizer = Optimizer(decoder)
    ids = torch.randint(0, len(TOKEN_ID), (2, 24))

    def loss() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(decoder(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())

    before = loss()
    for _ in range(3):
        torch.autograd.backward(loss())
        optimizer.step(torch.tensor(1.0))
    assert loss() < before
