"""Trains a model on fresh boards for a time, with checkpoints; `train.py` is its command.

The learning rate follows the share of the time that is used: warm-up, constant for a fifth, then linearly to zero, so
that stopping at the limit is always the end of a schedule, whatever the speed.
"""

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from asterism.agents.countdown import MAX_INTERMEDIATE
from asterism.workers.engine.decoder import Decoder
from asterism.workers.training.export import write_model
from asterism.workers.training.learner import Learner, Recorded
from asterism.workers.training.makers import Makers, Recipe, Update
from asterism.workers.training.optimizer import Optimizer
from asterism.workers.training.rows import FIELDS, ROW_TOKENS, learned_places
from asterism.workers.training.shape import DISTRIBUTIONS
from asterism.workers.training.traces import TOKEN_ID

_CHECKPOINT_EVERY_S: Final = 60.0
_REPORT_EVERY: Final = 50
_WARM_UP_STEPS: Final = 50


@dataclass(frozen=True, slots=True)
class Plan:
    """On which boards and how long to train, in how large steps, from which seed, on what device, writing where.

    `rows` and `scale`: see `Recipe`. `makers` processes make the data; 0: this one does. `bfloat16` computes the matrix
    products in that type; weights, softmax and the head stay in float32. `recorded` plays a CUDA graph, which needs
    `rows`. `compiled` has torch compile the passes, which needs a C++ compiler on a CPU and a minute.
    """

    boards: str
    minutes: float
    rows: int
    scale: int
    makers: int
    seed: int
    device: torch.device
    bfloat16: bool
    recorded: bool
    compiled: bool
    checkpoint: Path
    out: Path


@dataclass(slots=True)
class Progress:
    """Counts that a restart takes up again; `spent_s` is training time, all runs together."""

    steps: int = 0
    tokens: int = 0
    spent_s: float = 0.0


def learning_rate_factor(used: float, steps: int) -> float:
    """Between 0 and 1, for the share `used` of the time and the number of steps taken."""
    return min(1.0, (steps + 1) / _WARM_UP_STEPS) * min(1.0, max(0.0, 1.0 - used) / 0.8)


def embed_values(decoder: Decoder, seed: int) -> None:
    """Starts the embedding of each number from features of its value, so that near and related numbers are alike.

    Sines and cosines of many periods give magnitude and remainders; arithmetic on them is learned within minutes.
    """
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.arange(MAX_INTERMEDIATE + 1, dtype=torch.float32)
    periods = torch.tensor([2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 16, 20, 27, 40, 60, 100, 150, 250, 400, 800.0])
    angles = 2 * math.pi * numbers[:, None] / periods
    logs = (numbers + 1).log()[:, None] * torch.tensor([1.0, 2.0, 4.0, 8.0])
    features = torch.cat((angles.sin(), angles.cos(), logs.sin(), logs.cos()), dim=1)
    size = decoder.config.hidden_size
    mixed = features @ torch.randn(features.shape[1], size, generator=generator)
    mixed = mixed / mixed.std() + 0.5 * torch.randn(mixed.shape, generator=generator)
    first = TOKEN_ID["0"]
    with torch.no_grad():
        decoder.model.embed_tokens.weight[first : first + len(numbers)] = 0.03 * mixed


def train(plan: Plan) -> Progress:
    """Trains until `plan.minutes` are spent, writes the model folder, and gives the counts."""
    torch.manual_seed(plan.seed)
    distribution = DISTRIBUTIONS[plan.boards]
    decoder = Decoder(distribution.shape)
    embed_values(decoder, plan.seed)
    decoder.to(plan.device)
    optimizer = Optimizer(decoder, torch.bfloat16 if plan.bfloat16 else torch.float32)
    progress = _resume(plan, decoder, optimizer)
    learner = Learner(decoder, optimizer, bfloat16=plan.bfloat16, compiled=plan.compiled)
    update = learner.update
    if plan.recorded:
        update = Recorded(learner, (len(FIELDS), plan.rows, ROW_TOKENS), plan.device).update
    limit_s = plan.minutes * 60
    saved_s, waited_s = progress.spent_s, 0.0
    started = time.monotonic() - progress.spent_s
    with ExitStack() as stack:
        # A restart draws other boards than the run before it: the step is part of the seed.
        recipe = Recipe(distribution.largest, distribution.share_24, plan.rows, plan.scale)
        updates = _updates(plan, recipe, f"{plan.seed} {progress.steps}", stack)
        while progress.spent_s < limit_s:
            asked = time.monotonic()
            batches = next(updates)
            waited_s += time.monotonic() - asked
            update(batches, learning_rate_factor(progress.spent_s / limit_s, progress.steps))
            progress.steps += 1
            progress.tokens += sum(map(learned_places, batches))
            if progress.steps % _REPORT_EVERY == 0:
                _report(progress, learner.loss.item() / _REPORT_EVERY, waited_s)
                learner.loss.zero_()
            progress.spent_s = time.monotonic() - started
            if progress.spent_s - saved_s > _CHECKPOINT_EVERY_S:
                saved_s = progress.spent_s
                _save(plan, decoder, optimizer, progress)
    _save(plan, decoder, optimizer, progress)
    write_model(decoder, plan.out)
    _report(progress, learner.loss.item() / max(1, progress.steps % _REPORT_EVERY), waited_s)
    return progress


def _updates(plan: Plan, recipe: Recipe, seed: str, stack: ExitStack) -> Iterator[Update]:
    if plan.makers == 0:
        return recipe.updates(seed)
    return stack.enter_context(Makers(recipe, seed, plan.makers)).updates()


def _report(progress: Progress, loss: float, waited_s: float) -> None:
    print(
        f"step {progress.steps} tokens {progress.tokens} spent {progress.spent_s:.0f} s"
        f" waited for data {waited_s:.0f} s loss {loss:.4f}",
        flush=True,
    )


def _save(plan: Plan, decoder: Decoder, optimizer: Optimizer, progress: Progress) -> None:
    plan.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    partial = plan.checkpoint.with_suffix(".partial")
    counts = {"steps": progress.steps, "tokens": progress.tokens, "spent_s": progress.spent_s}
    torch.save({"decoder": decoder.state_dict(), "optimizer": optimizer.state(), "progress": counts}, partial)
    partial.replace(plan.checkpoint)


def _resume(plan: Plan, decoder: Decoder, optimizer: Optimizer) -> Progress:
    if not plan.checkpoint.exists():
        return Progress()
    saved = torch.load(plan.checkpoint, map_location=plan.device, weights_only=True)
    decoder.load_state_dict(saved["decoder"])
    optimizer.load(**saved["optimizer"])
    return Progress(**saved["progress"])
