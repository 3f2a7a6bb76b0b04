"""What is measured about an engine: decoding by batch, a fork with and without its shared prefix, admission.

Every figure is the best of some rounds, so that what else the machine does counts least. Prompts are ids by chance
and differ from round to round: nothing but what a case means to share is ever found in a cache.
"""

import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from asterism.workers.bench.shapes import CONTEXT_TOKENS, prompt
from asterism.workers.engine.computer import find_computer
from asterism.workers.engine.folder import ModelFolder
from asterism.workers.engine.seam import Engine, GenerationEnd, GenerationRequest
from asterism.workers.engine.torch_engine import TorchEngine


@dataclass(frozen=True, slots=True)
class Plan:
    """The sizes of the cases, in tokens and requests."""

    batches: Sequence[int] = (1, 8, 32)
    prompt_tokens: int = 32
    short_tokens: int = 16
    long_tokens: int = 80
    """A rate is what the longer answers have more over what they take longer: prompts and beginnings cancel out."""
    fork_prefix: int = 512
    fork_threads: int = 8
    fork_tokens: int = 64
    waiting: int = 64
    rounds: int = 3


@dataclass(slots=True)
class Figures:
    """What was found about one engine and one model. Times in seconds."""

    tokens_per_s: dict[int, float] = field(default_factory=dict)
    """By batch."""
    fork_shared_s: float | None = None
    """All threads of a fork that share their prefix, from the request to the last token."""
    fork_separate_s: float | None = None
    """As many requests of the same sizes that share nothing."""
    admission_s: float | None = None
    """From an idle engine and all `waiting` requests to the last one's first token."""
    admission_steps: float | None = None
    """The same in steps that decode one token for each of them."""
    logit_error: float | None = None
    """How far int8's logits are off those of float32, as a share of their root mean square."""
    q8_0_logit_error: float | None = None
    """The same of llama.cpp's Q8_0, emulated, on the same weights and prompts."""

    @property
    def fork_ratio(self) -> float | None:
        if self.fork_shared_s is None or not self.fork_separate_s:
            return None
        return self.fork_shared_s / self.fork_separate_s


SEED: Final = 1


class Prompts:
    """Token ids by chance, the same ones in every run."""

    def __init__(self, vocab_size: int) -> None:
        self._random = random.Random(SEED)
        self._vocab_size = vocab_size

    def next(self, tokens: int) -> list[int]:
        return [self._random.randrange(self._vocab_size) for _ in range(tokens)]


@asynccontextmanager
async def running(model: ModelFolder, *, max_sequences: int, dtype: str, os_threads: int) -> AsyncIterator[Engine]:
    engine = TorchEngine(
        model,
        max_sequences=max_sequences,
        context_tokens=CONTEXT_TOKENS,
        os_threads=os_threads,
        make_computer=find_computer(dtype),
    )
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


async def seconds(engine: Engine, prompts: Sequence[Sequence[int]], tokens: int) -> float:
    """From the call to the last end. Raises `RuntimeError` for an answer that is not of this length."""
    requests = [
        GenerationRequest(id=f"{number}", prompt=prompt(token_ids), max_tokens=tokens)
        for number, token_ids in enumerate(prompts)
    ]
    begun = time.perf_counter()
    async for event in engine.generate(requests):
        if isinstance(event, GenerationEnd) and (event.finish_reason, event.tokens) != ("length", tokens):
            raise RuntimeError(f"an answer ended otherwise: {event}")
    return time.perf_counter() - begun


async def step_seconds(engine: Engine, prompts: Prompts, batch: int, plan: Plan) -> float:
    """A step that decodes a token for each request of a batch, on average over an answer."""
    best = {tokens: float("inf") for tokens in (plan.short_tokens, plan.long_tokens)}
    for _ in range(plan.rounds):
        for tokens, least in best.items():
            asked = [prompts.next(plan.prompt_tokens) for _ in range(batch)]
            best[tokens] = min(least, await seconds(engine, asked, tokens))
    return (best[plan.long_tokens] - best[plan.short_tokens]) / (plan.long_tokens - plan.short_tokens)


async def measure_decode(engine: Engine, prompts: Prompts, plan: Plan, batch: int) -> float:
    """Tokens a second."""
    return batch / await step_seconds(engine, prompts, batch, plan)


async def measure_fork(engine: Engine, prompts: Prompts, plan: Plan) -> tuple[float, float]:
    """Seconds with a shared prefix, and without."""
    shared = separate = float("inf")
    for _ in range(plan.rounds):
        prefix = prompts.next(plan.fork_prefix)
        threads = [[*prefix, *prompts.next(1)] for _ in range(plan.fork_threads)]
        shared = min(shared, await seconds(engine, threads, plan.fork_tokens))
        others = [prompts.next(plan.fork_prefix + 1) for _ in range(plan.fork_threads)]
        separate = min(separate, await seconds(engine, others, plan.fork_tokens))
    return shared, separate


async def measure_admission(engine: Engine, prompts: Prompts, plan: Plan) -> tuple[float, float]:
    """Seconds from the requests, each of one token, to the first token of the last one; and how many steps that is."""
    step_s = await step_seconds(engine, prompts, plan.waiting, plan)
    waited = min([await seconds(engine, [prompts.next(1) for _ in range(plan.waiting)], 1) for _ in range(plan.rounds)])
    return waited, waited / step_s
