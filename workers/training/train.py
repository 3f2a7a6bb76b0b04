"""Trains the Countdown model on fresh boards: `python -m asterism.workers.training.train --minutes 60`.

Runs on one CPU core or one GPU, writes a checkpoint every two minutes, and goes on from it when started again. The
learning rate follows the share of the time that is used: warm-up, constant for a fifth, then linearly to zero, so that
stopping at the limit is always the end of a schedule.
"""

import argparse
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from asterism.agents.countdown import MAX_INTERMEDIATE
from asterism.workers.engine.decoder import Decoder
from asterism.workers.training.boards import excluded_boards
from asterism.workers.training.export import write_model
from asterism.workers.training.optimizer import Optimizer
from asterism.workers.training.packed import PackedBatch, pack, weighted_loss
from asterism.workers.training.shape import DISTRIBUTIONS
from asterism.workers.training.traces import TOKEN_ID, BoardMix

_CHECKPOINT_EVERY_S: Final = 120.0
_REPORT_EVERY: Final = 50
_WARM_UP_STEPS: Final = 50


@dataclass(frozen=True, slots=True)
class Plan:
    """On which boards and how long to train, in how large steps, from which seed, on what device, writing where.

    `scale` times 15 or 16 traces make an update. `bfloat16` computes the matrix products in that type; weights, softmax
    and the head stay in float32. `compiled` has torch compile the passes, which needs a C++ compiler.
    """

    boards: str
    minutes: float
    scale: int
    seed: int
    device: torch.device
    bfloat16: bool
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


def batches(mix: BoardMix, seed: str, scale: int) -> Iterator[tuple[PackedBatch, ...]]:
    """For ever what one update learns from: batches of traces of like length, so that little of them is padding."""
    rng = random.Random(seed)
    while True:
        yield tuple(pack(traces) for traces in mix.step(rng, scale))


def train(plan: Plan) -> Progress:
    """Trains until `plan.minutes` are spent, writes the model folder, and gives the counts."""
    torch.manual_seed(plan.seed)
    distribution = DISTRIBUTIONS[plan.boards]
    mix = BoardMix(excluded_boards(), distribution.largest, distribution.share_24)
    decoder = Decoder(distribution.shape)
    embed_values(decoder, plan.seed)
    decoder.to(plan.device)
    optimizer = Optimizer(decoder, torch.bfloat16 if plan.bfloat16 else torch.float32)
    progress = _resume(plan, decoder, optimizer)
    loss_of = torch.compile(weighted_loss, dynamic=True) if plan.compiled else weighted_loss
    limit_s = plan.minutes * 60
    saved_s = progress.spent_s
    average = 0.0
    started = time.monotonic() - progress.spent_s
    # A restart draws other boards than the run before it: the step is part of the seed.
    for update in batches(mix, f"{plan.seed} {progress.steps}", plan.scale):
        if progress.spent_s >= limit_s:
            break
        total = sum(float(batch.weights.sum()) for batch in update)
        loss = 0.0
        for batch in update:
            with torch.autocast(plan.device.type, torch.bfloat16, enabled=plan.bfloat16):
                part = loss_of(decoder, batch.to(plan.device)) / total
            torch.autograd.backward(part)
            loss += part.item()
            progress.tokens += int((batch.weights > 0).sum())
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step(learning_rate_factor(progress.spent_s / limit_s, progress.steps))
        progress.steps += 1
        average = loss if average == 0.0 else 0.98 * average + 0.02 * loss
        progress.spent_s = time.monotonic() - started
        if progress.steps % _REPORT_EVERY == 0:
            _report(progress, average)
        if progress.spent_s - saved_s > _CHECKPOINT_EVERY_S:
            saved_s = progress.spent_s
            _save(plan, decoder, optimizer, progress)
    _save(plan, decoder, optimizer, progress)
    write_model(decoder, plan.out)
    _report(progress, average)
    return progress


def _report(progress: Progress, loss: float) -> None:
    print(
        f"step {progress.steps} tokens {progress.tokens} spent {progress.spent_s:.0f} s loss {loss:.4f}",
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boards", choices=sorted(DISTRIBUTIONS), default="countdown")
    parser.add_argument("--minutes", type=float, default=60.0, help="training time, all runs of a checkpoint together")
    parser.add_argument("--scale", type=int, default=1, help="an update learns from 15 or 16 times so many traces")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--bfloat16", action="store_true", help="1.5 times as fast on a CPU that has AVX512-BF16")
    parser.add_argument("--compiled", action="store_true", help="1.6 times as fast on a CPU; takes a minute to start")
    parser.add_argument("--threads", type=int, default=1, help="OS threads of torch on a CPU")
    parser.add_argument("--checkpoint", type=Path, help="default: checkpoints/BOARDS.pt")
    parser.add_argument("--out", type=Path, help="default: checkpoints/BOARDS")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train(
        Plan(
            boards=options.boards,
            minutes=options.minutes,
            scale=options.scale,
            seed=options.seed,
            device=torch.device(options.device),
            bfloat16=options.bfloat16,
            compiled=options.compiled,
            checkpoint=options.checkpoint or Path(f"checkpoints/{options.boards}.pt"),
            out=options.out or Path(f"checkpoints/{options.boards}"),
        )
    )


if __name__ == "__main__":
    main()
