"""How near decoding on a GPU is to what its memory allows: `python -m tests.bench.gpu_table` (or `make bench-gpu`).

Random weights in the shape of Qwen3-8B, bfloat16. The floor of a step is the time to read every weight and every key
and value that it needs once, at the bandwidth that a large copy reaches in the same run. Beside it a fork: threads
behind one prefix, which is read once for all of them or by each; and transformers' own continuous batching, in a
process of its own that is ended when its time is up. Lines are printed as they come. With `--profile` also where the
time of a step goes, and what other divisions of the kernels would take.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.cuda.cuda_step import CudaComputer, block_bytes
from asterism.workers.engine.cuda.operations import MakeOperations
from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.step import BLOCK_TOKENS, Chunk, Step
from tests.bench.gpu_transformers import Ask

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

ROOT: Final = Path(__file__).parents[2]
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


def bandwidth(plan: Plan) -> float:
    """Bytes that are read or written a second: the best of several copies of 2 GiB, or a little on a CPU."""
    size = (1 << 31) if plan.device.type == "cuda" else (1 << 24)
    source = torch.ones(size, dtype=torch.uint8, device=plan.device)
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(10):
        synchronize(plan.device)
        began = time.perf_counter()
        target.copy_(source)
        synchronize(plan.device)
        best = max(best, 2 * size / (time.perf_counter() - began))
    return best


def floor_bytes(config: DecoderConfig, dtype: torch.dtype, contexts: Sequence[int], shared: int = 0) -> int:
    """What a step must read at least: each weight once (of the embedding nearly nothing), and each key and value.

    The first `shared` positions are those of all `contexts`.
    """
    with torch.device("meta"):
        decoder = Decoder(config)
    parameters = sum(parameter.numel() for parameter in decoder.parameters())
    embedding = 0 if config.tie_word_embeddings else decoder.model.embed_tokens.weight.numel()
    positions = shared + sum(context - shared for context in contexts)
    return (parameters - embedding) * dtype.itemsize + positions * block_bytes(config, dtype) // BLOCK_TOKENS


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
        seconds = []
        for position in range(start, start + steps):
            began = time.perf_counter()
            tokens = self.computer.compute(step_at(position, tokens, tables, shared_blocks)).argmax(dim=-1).tolist()
            seconds.append(time.perf_counter() - began)
        return seconds


def step_at(position: int, tokens: Sequence[int], tables: Sequence[Sequence[int]], shared_blocks: int = 0) -> Step:
    """One token of each table at the same position."""
    blocks = position // BLOCK_TOKENS + 1
    return Step(
        (),
        tuple(
            Chunk([token], position, table[:blocks], True, shared_blocks if row else 0)
            for row, (token, table) in enumerate(zip(tokens, tables, strict=True))
        ),
    )


def blocks_for(tokens: int) -> int:
    return -(-tokens // BLOCK_TOKENS)


@torch.inference_mode()
def table(plan: Plan, *, profile: bool = False) -> Iterator[str]:
    """The lines of the table, each as soon as it is known."""
    began = time.perf_counter()
    speed = plan.bandwidth or bandwidth(plan)
    release(plan.device)
    yield f"bandwidth {speed / 1e12:.2f} TB/s, {plan.config.num_hidden_layers} layers, {plan.dtype}"
    engine = Engine(plan, batches=plan.batches)
    yield f"ready after {time.perf_counter() - began:.1f} s; context {plan.context}: ms a step | floor | share of it"
    for batch in plan.batches:
        yield _line(plan, speed, batch, engine.decode_ms(batch))
    alone, shared = engine.fork_s(shared=False), engine.fork_s(shared=True)
    yield (
        f"fork, prefix {plan.prefix}, {plan.threads} threads of {plan.thread_tokens}: {alone:.2f} s with each thread "
        f"reading the prefix, {shared:.2f} s with one read for all: {alone / shared:.2f} times as fast"
    )
    if profile:
        from tests.bench.gpu_profile import where_time_goes

        yield from where_time_goes(engine)
    del engine
    release(plan.device)
    if plan.transformers_s:
        yield f"transformers' continuous batching (at most {plan.transformers_s:g} s)"
        yield from _transformers(plan, speed)
    yield f"all of it took {time.perf_counter() - began:.0f} s"


def _line(plan: Plan, speed: float, batch: int, ms: float) -> str:
    floor = 1e3 * floor_bytes(plan.config, plan.dtype, [plan.context] * batch) / speed
    return f"  batch {batch:3}: {ms:.2f} | {floor:.2f} | {floor / ms:.0%}"


def _transformers(plan: Plan, speed: float) -> Iterator[str]:
    """A line for each batch that came in time, and one that says why the others did not."""
    dtype = str(plan.dtype).removeprefix("torch.")
    sizes: dict[str, Any] = {"batches": plan.batches, "context": plan.context, "steps": plan.steps}
    ask = Ask.of(plan.config, dtype=dtype, device=plan.device.type, **sizes)
    command = [sys.executable, "-m", "tests.bench.gpu_transformers"]
    reason = ""
    try:
        ran = subprocess.run(
            command,
            input=ask.to_json(),
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            timeout=plan.transformers_s,
        )
        printed = ran.stdout
        if ran.returncode:
            reason = " / ".join(ran.stderr.strip().splitlines()[-3:])
    except subprocess.TimeoutExpired as late:
        printed = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
        reason = f"its {plan.transformers_s:g} s were up"
    found: list[Mapping[str, float]] = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    for each in found:
        yield _line(plan, speed, int(each["batch"]), each["ms"])
    missing = [batch for batch in plan.batches if batch not in {each["batch"] for each in found}]
    if missing:
        yield f"  batch {', '.join(map(str, missing))}: not measured: {reason or 'it ended without a figure'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tb-per-s", type=float, help="the memory's bandwidth; measured by a copy without it")
    parser.add_argument(
        "--transformers-s", type=float, default=75.0, help="seconds that transformers gets; 0: left out"
    )
    parser.add_argument("--profile", action="store_true", help="also where the time of a step goes")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU here: this table needs one, and nothing was measured", file=sys.stderr)
        sys.exit(2)
    plan = Plan(
        device=torch.device("cuda"),
        bandwidth=None if options.tb_per_s is None else 1e12 * options.tb_per_s,
        transformers_s=options.transformers_s,
    )
    print(f"{time.strftime('%Y-%m-%d')}, {torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    for line in table(plan, profile=options.profile):
        print(line, flush=True)


if __name__ == "__main__":
    main()
