"""What a choice costs: microseconds a row of logits, by vocabulary and by what is asked for, on one OS thread.

`python -m tests.bench.sampling_rows`; the best of 15 rounds of 8 rows of normal logits (standard deviation 3).
"""

import time
from collections.abc import Mapping
from typing import Final

import torch

from asterism.workers.engine.sampler import Sampler
from asterism.workers.engine.sampling import choose_tokens

VOCABULARIES: Final = (231, 32_000, 150_000)
ROWS: Final = 8
PROMPT: Final = range(200)
ASKED: Final[Mapping[str, Mapping[str, object]]] = {
    "greedy": {},
    "greedy, penalties": {"repetition_penalty": 1.1, "presence_penalty": 0.5, "prompt_ids": PROMPT},
    "temperature": {"temperature": 1.0},
    "min_p 0.05": {"temperature": 1.0, "min_p": 0.05},
    "top_k 50": {"temperature": 1.0, "top_k": 50},
    "top_p 0.9": {"temperature": 1.0, "top_p": 0.9},
    "top_k 50, top_p 0.9": {"temperature": 1.0, "top_k": 50, "top_p": 0.9},
    "greedy, 5 logprobs": {"logprobs": 5},
}


def microseconds(logits: torch.Tensor, asked: Mapping[str, object]) -> float:
    """A row, the best of the rounds."""
    samplers = [Sampler(seed=row, **asked) for row in range(len(logits))]  # type: ignore[arg-type]  # by name, above
    best = float("inf")
    for _ in range(15):
        begun = time.perf_counter()
        choose_tokens(logits, samplers)
        best = min(best, time.perf_counter() - begun)
    return 1e6 * best / len(logits)


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'us a row':20}" + "".join(f"{vocabulary:>10,}" for vocabulary in VOCABULARIES))
    generator = torch.Generator().manual_seed(0)
    logits = [3 * torch.randn(ROWS, vocabulary, generator=generator) for vocabulary in VOCABULARIES]
    for name, asked in ASKED.items():
        print(f"{name:20}" + "".join(f"{microseconds(rows, asked):10.1f}" for rows in logits))


if __name__ == "__main__":
    main()
