"""How near decoding on a GPU is to what its memory allows: `python -m tests.bench.gpu_table` (or `make bench-gpu`).

Random weights in the shape of Qwen3-8B, bfloat16. The floor of a step is the time to read every weight and every key
and value that it needs once, at the bandwidth that a large copy reaches in the same run. Beside it transformers' own
continuous batching, and a fork: threads behind one prefix, which is read once for all of them or by each.
"""

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.cuda.cuda_step import CudaComputer, block_bytes
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
    has_transformers: bool = True


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


def random_model(plan: Plan) -> Decoder:
    """Made where it is measured: on the CPU the shape of Qwen3-8B takes 32 GB and minutes."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(plan.dtype)
    try:
        with plan.device:
            return Decoder(plan.config).eval()
    finally:
        torch.set_default_dtype(before)


class Engine:
    """A computer, and block tables that a scheduler would keep."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        longest = plan.context + plan.steps
        blocks = max(max(plan.batches) * blocks_for(longest), blocks_for(plan.prefix) + self._fork_blocks())
        rows = max(*plan.batches, plan.threads)
        self._computer = CudaComputer(
            random_model(plan),
            blocks=blocks,
            context_tokens=max(longest, plan.prefix + plan.thread_tokens) + BLOCK_TOKENS,
            max_sequences=rows,
            device=plan.device,
            dtype=plan.dtype,
        )

    def decode_ms(self, batch: int) -> float:
        """Median wall milliseconds a step, its Python and the choice of the next tokens included."""
        plan = self._plan
        start = plan.context - plan.steps // 2
        width = blocks_for(plan.context + plan.steps)
        tables = [range(row * width, (row + 1) * width) for row in range(batch)]
        return 1e3 * statistics.median(self._decode(start, plan.steps, tables, 0))

    def fork_s(self, *, shared: bool) -> float:
        """Wall seconds for all tokens of all threads, after the prefix, which is computed but not counted."""
        plan = self._plan
        prefix = plan.prefix // BLOCK_TOKENS
        each = blocks_for(plan.thread_tokens)
        for start in range(0, plan.prefix, plan.prompt_chunk):
            end = min(plan.prefix, start + plan.prompt_chunk)
            self._computer.compute(Step((), (Chunk([1] * (end - start), start, range(blocks_for(end)), False),)))
        tables = [
            [*range(prefix), *range(prefix + thread * each, prefix + (thread + 1) * each)]
            for thread in range(plan.threads)
        ]
        return sum(self._decode(prefix * BLOCK_TOKENS, plan.thread_tokens, tables, prefix if shared else 0))

    def _fork_blocks(self) -> int:
        return self._plan.threads * blocks_for(self._plan.thread_tokens)

    def _decode(self, start: int, steps: int, tables: Sequence[Sequence[int]], shared_blocks: int) -> list[float]:
        """Greedy steps of all tables from `start`; gives the seconds of each."""
        tokens = [1] * len(tables)
        seconds = []
        for position in range(start, start + steps):
            began = time.perf_counter()
            blocks = position // BLOCK_TOKENS + 1
            chunks = tuple(
                Chunk([token], position, table[:blocks], True, shared_blocks if row else 0)
                for row, (token, table) in enumerate(zip(tokens, tables, strict=True))
            )
            tokens = self._computer.compute(Step((), chunks)).argmax(dim=-1).tolist()
            seconds.append(time.perf_counter() - began)
        return seconds


def blocks_for(tokens: int) -> int:
    return -(-tokens // BLOCK_TOKENS)


class Transformers:
    """transformers' continuous batching, with what it chooses for the device by itself."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._library = importlib.import_module("transformers")
        values = {name: value for name, value in plan.config.to_json().items() if name != "architectures"}
        config = self._library.Qwen3Config(**values)
        self._model: Any = self._library.AutoModelForCausalLM.from_config(config, dtype=plan.dtype)
        self._model = self._model.to(plan.device).eval()

    def decode_ms(self, batch: int) -> float:
        """Mean milliseconds between the first and the last token that all requests were decoding beside each other."""
        plan = self._plan
        generator = torch.Generator().manual_seed(0)
        shape = (batch, plan.context - plan.steps // 2)
        prompts = torch.randint(plan.config.vocab_size, shape, generator=generator).tolist()
        options = self._library.GenerationConfig(
            max_new_tokens=plan.steps, do_sample=False, eos_token_id=-1, pad_token_id=0, use_cache=True
        )
        outputs = self._model.generate_batch(prompts, generation_config=options, record_timestamps=True)
        times = [output.timestamps for output in outputs.values()]
        begin, end = max(stamps[0] for stamps in times), min(stamps[-1] for stamps in times)
        steps = sum(begin < stamp <= end for stamp in times[0])
        return float(1e3 * (end - begin) / max(1, steps))


@torch.inference_mode()
def table(plan: Plan) -> list[str]:
    """The lines of the table."""
    speed = plan.bandwidth or bandwidth(plan)
    lines = [f"bandwidth {speed / 1e12:.2f} TB/s, {plan.config.num_hidden_layers} layers, {plan.dtype}"]
    engine = Engine(plan)
    ours = {batch: engine.decode_ms(batch) for batch in plan.batches}
    engine.fork_s(shared=True)
    alone, shared = engine.fork_s(shared=False), engine.fork_s(shared=True)
    del engine
    if plan.device.type == "cuda":
        torch.cuda.empty_cache()
    theirs: dict[int, float] = {}
    if plan.has_transformers:
        reference = Transformers(plan)
        for batch in plan.batches:
            reference.decode_ms(batch)
            theirs[batch] = reference.decode_ms(batch)
    lines.append(f"decode at context {plan.context}: ms a step | floor | share of the floor | transformers")
    for batch, ms in ours.items():
        floor = 1e3 * floor_bytes(plan.config, plan.dtype, [plan.context] * batch) / speed
        other = f"{theirs[batch]:.2f} ms, {floor / theirs[batch]:.0%}" if batch in theirs else "not run"
        lines.append(f"  batch {batch:3}: {ms:.2f} | {floor:.2f} | {floor / ms:.0%} | {other}")
    lines.append(
        f"fork, prefix {plan.prefix}, {plan.threads} threads of {plan.thread_tokens}: {alone:.2f} s with each thread "
        f"reading the prefix, {shared:.2f} s with one read for all: {alone / shared:.2f} times as fast"
    )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tb-per-s", type=float, help="the memory's bandwidth; measured by a copy without it")
    parser.add_argument("--without-transformers", action="store_true")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU here: this table needs one, and nothing was measured", file=sys.stderr)
        sys.exit(2)
    plan = Plan(
        device=torch.device("cuda"),
        bandwidth=None if options.tb_per_s is None else 1e12 * options.tb_per_s,
        has_transformers=not options.without_transformers,
    )
    print(f"{time.strftime('%Y-%m-%d')}, {torch.cuda.get_device_name()}, torch {torch.__version__}")
    print("\n".join(table(plan)))


if __name__ == "__main__":
    main()
