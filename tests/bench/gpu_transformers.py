"""transformers' own continuous batching on a GPU, for the table of `gpu_table.py`, which runs this page as a process.

Reads the shape and the sizes as JSON from its standard input and prints a line of JSON for each batch as it comes.
"""

import json
import statistics
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import torch

from asterism.workers.engine.config import DecoderConfig


@dataclass(frozen=True, slots=True)
class Ask:
    """What is measured."""

    config: dict[str, Any]
    dtype: str
    device: str
    batches: tuple[int, ...]
    context: int
    """Tokens before the middle of the steps that are timed."""
    steps: int

    @staticmethod
    def of(config: DecoderConfig, **sizes: Any) -> "Ask":
        """`sizes` are the other fields."""
        return Ask(dict(config.to_json()), **sizes)

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def measure(ask: Ask) -> Iterator[tuple[int, float]]:
    """For each batch the median milliseconds of the steps in which all requests decode."""
    import transformers

    values = {name: value for name, value in ask.config.items() if name not in ("architectures", "model_type")}
    # On the device from the start: on a CPU 8 billion random weights take minutes.
    with torch.device(ask.device):
        config = transformers.Qwen3Config(**values)
        make: Any = transformers.AutoModelForCausalLM
        model = make.from_config(config, dtype=getattr(torch, ask.dtype))
    model = model.to(ask.device).eval()
    for batch in ask.batches:
        yield batch, 1e3 * statistics.median(_decode(transformers, model, replace(ask, batches=(batch,))))


def _decode(transformers: Any, model: Any, ask: Ask) -> list[float]:
    """Seconds of the steps between the first and the last token that all requests decoded beside each other."""
    generator = torch.Generator().manual_seed(0)
    shape = (ask.batches[0], ask.context - ask.steps // 2)
    prompts = torch.randint(int(ask.config["vocab_size"]), shape, generator=generator).tolist()
    options = transformers.GenerationConfig(max_new_tokens=ask.steps, do_sample=False, eos_token_id=-1, pad_token_id=0)
    outputs = model.generate_batch(prompts, generation_config=options, record_timestamps=True)
    times = [output.timestamps for output in outputs.values()]
    begin, end = max(stamps[0] for stamps in times), min(stamps[-1] for stamps in times)
    together = [stamp for stamp in times[0] if begin <= stamp <= end]
    return [after - before for before, after in pairwise(together)]


def main() -> None:
    asked = json.load(sys.stdin)
    for batch, ms in measure(Ask(**{**asked, "batches": tuple(asked["batches"])})):
        print(json.dumps({"batch": batch, "ms": ms}), flush=True)


if __name__ == "__main__":
    main()
