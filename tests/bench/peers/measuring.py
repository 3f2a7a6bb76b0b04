"""What the programs that measure other engines share: the sizes, the clock, and the same cases as `workers/bench`.

They run in an environment of their own, so nothing of the product is imported here.
"""

import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Answer = Callable[[Sequence[Sequence[int]], int], None]
"""Decodes so many tokens for each of these prompts, greedily, and returns when all are there."""


@dataclass(frozen=True)
class Task:
    """What `asterism bench engine` asks for."""

    folder: Path
    os_threads: int
    plan: dict[str, Any]
    seed: int

    @staticmethod
    def read() -> "Task":
        asked = json.loads(Path(sys.argv[-1]).read_text(encoding="utf-8"))
        return Task(Path(asked["folder"]), asked["os_threads"], asked["plan"], asked["seed"])

    @property
    def max_batch(self) -> int:
        return max(*self.plan["batches"], self.plan["fork_threads"])


Fork = Callable[[Sequence[int], Sequence[Sequence[int]], int], None]
"""Decodes so many tokens for a prefix with each of these continuations, the prefix computed once."""


def measure(engine: str, task: Task, vocab_size: int, answer: Answer, fork: Fork) -> None:
    """Runs the cases and prints the figures."""
    plan, chance = task.plan, random.Random(task.seed)

    def prompts(count: int, tokens: int) -> list[list[int]]:
        return [[chance.randrange(vocab_size) for _ in range(tokens)] for _ in range(count)]

    def seconds(asked: Sequence[Sequence[int]], tokens: int) -> float:
        begun = time.perf_counter()
        answer(asked, tokens)
        return time.perf_counter() - begun

    figures: dict[str, Any] = {"engine": engine, "tokens_per_s": {}}
    short, long = plan["short_tokens"], plan["long_tokens"]
    for batch in plan["batches"]:
        best = {short: float("inf"), long: float("inf")}
        for _ in range(plan["rounds"]):
            for tokens in best:
                best[tokens] = min(best[tokens], seconds(prompts(batch, plan["prompt_tokens"]), tokens))
        figures["tokens_per_s"][batch] = batch * (long - short) / (best[long] - best[short])
        print(f"{engine}: batch {batch}: {figures['tokens_per_s'][batch]:.0f} tokens/s", file=sys.stderr, flush=True)
    shared = separate = float("inf")
    threads, tokens = plan["fork_threads"], plan["fork_tokens"]
    for _ in range(plan["rounds"]):
        (prefix,) = prompts(1, plan["fork_prefix"])
        begun = time.perf_counter()
        fork(prefix, prompts(threads, 1), tokens)
        shared = min(shared, time.perf_counter() - begun)
        separate = min(separate, seconds(prompts(threads, plan["fork_prefix"] + 1), tokens))
    figures |= {"fork_shared_s": shared, "fork_separate_s": separate}
    print(json.dumps(figures), flush=True)
