"""What the rule for threads that leave the device weighs: `python -m tests.bench.trip`.

Prints the tokens/s of one text when 1, 2, 4, 8 and 16 decode at once on the shipped model, and of a prefill, on one OS
thread of this machine. The hop is `hop_ms_p50` of `make bench`.
"""

import asyncio
import json
import statistics
import time
from pathlib import Path
from typing import Final

from asterism.workers.engine.folder import load_folder
from asterism.workers.engine.seam import GenerationEnd, GenerationRequest
from asterism.workers.engine.torch_engine import TorchEngine

BATCHES: Final = (1, 2, 4, 8, 16)
TOKENS: Final = 200
ROUNDS: Final = 5
MODEL: Final = Path(__file__).parents[2] / "workers" / "models" / "countdown"


async def seconds(engine: TorchEngine, requests: list[GenerationRequest]) -> tuple[float, int]:
    """Until the last one has ended, and the tokens that all decoded."""
    began = time.perf_counter()
    tokens = 0
    async for event in engine.generate(requests):
        if isinstance(event, GenerationEnd):
            tokens += event.tokens
    return time.perf_counter() - began, tokens


def decoding(batch: int, round_number: int) -> list[GenerationRequest]:
    """Texts that go on to their bound: sampled hot, so that hardly one ends by itself."""
    return [
        GenerationRequest(
            id=f"{round_number}.{number}",
            prompt=f"<Board> {3 + number} 4 6 8 -> 24 <Search>",
            max_tokens=TOKENS,
            temperature=1.5,
            seed=100 * round_number + number,
        )
        for number in range(batch)
    ]


async def measure() -> dict[str, float]:
    engine = TorchEngine(load_folder(MODEL), os_threads=1)
    await engine.start()
    figures: dict[str, float] = {}
    try:
        for batch in BATCHES:
            rates: list[float] = []
            for number in range(ROUNDS + 1):
                took, tokens = await seconds(engine, decoding(batch, number))
                if number:
                    rates.append(tokens / batch / took)
            figures[f"tokens_per_s_of_one_of_{batch}"] = round(statistics.median(rates), 1)
        prefills: list[float] = []
        for number in range(ROUNDS + 1):
            prompt = " ".join(str((7 * number + place * place) % 100) for place in range(300))
            took, _ = await seconds(engine, [GenerationRequest(id=f"p{number}", prompt=prompt, max_tokens=1)])
            if number:
                prefills.append(300 / took)
        figures["prefill_tokens_per_s"] = round(statistics.median(prefills), 1)
    finally:
        await engine.close()
    return figures


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure())))
