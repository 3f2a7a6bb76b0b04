"""An engine of the shape of Qwen3-8B with random weights on a GPU, and steps for it, for who measures it."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.cuda.cuda_step import CudaComputer
from asterism.workers.engine.cuda.operations import MakeOperations
from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.step import BLOCK_TOKENS, Chunk, Step

QWEN3_8B: Final = DecoderConfig(
    vocab_size=151_936,
    hidden_size=4096,
    intermediate_size=12_288,
    num_hidden_layers=36,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
    qk_norm=True,
    max_position_embeddings=40_960,
    rope_theta=1e6,
    tie_word_embeddings=False,
)

WARM_STEPS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured."""

    config: DecoderConfig = QWEN3_8B
    device: torch.device
    dtype: torch.dtype = torch.bfloat16
    batches: tuple[int, ...] = (1, 32, 256)
    context: int = 640
    """Tokens before the middle step of a measurement."""
    steps: int = 64
    prefix: int = 8192
    threads: int = 32
    thread_tokens: int = 512
    prompt_chunk: int = 2048
    bandwidth: float | None = None
    """Bytes a second; None measures it."""
    transformers_s: float = 75.0
    """For transformers' import, its weights and its steps together; 0 leaves it out."""


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


def random_model(config: DecoderConfig, dtype: torch.dtype, device: torch.device) -> Decoder:
    """Made where it is measured: on the CPU the shape of Qwen3-8B takes 32 GB and minutes."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            return Decoder(config).eval()
    finally:
        torch.set_default_dtype(before)


class Engine:
    """A computer, and block tables that a scheduler would keep."""

    def __init__(
        self,
        plan: Plan,
        *,
        batches: Sequence[int],
        has_fork: bool = True,
        operations: MakeOperations | None = None,
    ) -> None:
        self.plan = plan
        longest = plan.context + plan.steps
        fork_blocks = blocks_for(plan.prefix) + plan.threads * blocks_for(plan.thread_tokens) if has_fork else 0
        sizes = sorted({*batches, plan.threads} if has_fork else set(batches))
        self.computer = CudaComputer(
            random_model(plan.config, plan.dtype, plan.device),
            blocks=max(max(batches) * blocks_for(longest), fork_blocks),
            context_tokens=max(longest, plan.prefix + plan.thread_tokens if has_fork else 0) + BLOCK_TOKENS,
            max_sequences=sizes[-1],
            device=plan.device,
            dtype=plan.dtype,
            graph_sizes=sizes,
            operations=operations,
        )

    def tables(self, batch: int) -> list[list[int]]:
        """Blocks of so many sequences that share nothing."""
        width = blocks_for(self.plan.context + self.plan.steps)
        return [list(range(row * width, (row + 1) * width)) for row in range(batch)]

    def decode_ms(self, batch: int) -> float:
        """Median wall milliseconds a step, its Python and the choice of the next tokens included."""
        plan = self.plan
        start = plan.context - plan.steps // 2
        self.decode(start, WARM_STEPS, self.tables(batch), 0)
        return 1e3 * statistics.median(self.decode(start, plan.steps, self.tables(batch), 0))

    def fork_s(self, *, shared: bool) -> float:
        """Wall seconds for all tokens of all threads, after the prefix, which is computed but not counted."""
        plan = self.plan
        prefix = plan.prefix // BLOCK_TOKENS
        each = blocks_for(plan.thread_tokens)
        for start in range(0, plan.prefix, plan.prompt_chunk):
            end = min(plan.prefix, start + plan.prompt_chunk)
            self.computer.compute(Step((), (Chunk([1] * (end - start), start, range(blocks_for(end)), False),)))
        tables = [
            [*range(prefix), *range(prefix + thread * each, prefix + (thread + 1) * each)]
            for thread in range(plan.threads)
        ]
        shared_blocks = prefix if shared else 0
        self.decode(prefix * BLOCK_TOKENS, min(WARM_STEPS, plan.thread_tokens), tables, shared_blocks)
        return sum(self.decode(prefix * BLOCK_TOKENS, plan.thread_tokens, tables, shared_blocks))

    def decode(self, start: int, steps: int, tables: Sequence[Sequence[int]], shared_blocks: int) -> list[float]:
        """Greedy steps of all tables from `start`; gives the seconds of each."""
        tokens = [1] * len(tables)
        held = held_until(start, tables)
        seconds = []
        for position in range(start, start + steps):
            began = time.perf_counter()
            give_blocks(held, tables, position)
            tokens = self.computer.compute(step_at(position, tokens, held, shared_blocks)).argmax(dim=-1).tolist()
            seconds.append(time.perf_counter() - began)
        return seconds


def held_until(position: int, tables: Sequence[Sequence[int]]) -> list[list[int]]:
    """Blocks of the positions before, in lists that `give_blocks` lets grow, as those of a scheduler do."""
    return [list(table[: blocks_for(position)]) for table in tables]


def give_blocks(held: Sequence[list[int]], tables: Sequence[Sequence[int]], position: int) -> None:
    """To each the block of this position, when those before it are full."""
    if position % BLOCK_TOKENS == 0:
        for blocks, table in zip(held, tables, strict=True):
            blocks.append(table[position // BLOCK_TOKENS])


def step_at(position: int, tokens: Sequence[int], tables: Sequence[Sequence[int]], shared_blocks: int = 0) -> Step:
    """One token of each table at the same position."""
    blocks = position // BLOCK_TOKENS + 1
    return Step(
        (),
        tuple(
            Chunk(
                [token],
                position,
                table if len(table) == blocks else table[:blocks],
                True,
                shared_blocks if row else 0,
            )
            for row, (token, table) in enumerate(zip(tokens, tables, strict=True))
        ),
    )


def blocks_for(tokens: int) -> int:
    return -(-tokens // BLOCK_TOKENS)
