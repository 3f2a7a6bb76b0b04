"""How fast the torch engine decodes on this machine: `python -m tests.engine.bench_decode`.

Random weights of a given size, greedy, 64 prompt tokens of their own each, one OS thread; the best of three runs.
"""

import asyncio
import time

import torch

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.folder import ModelFolder
from asterism.workers.engine.seam import GenerationRequest
from asterism.workers.engine.torch_engine import TorchEngine
from tests.engine.conftest import CHARACTERS, character_tokenizer

ROWS = (1, 4, 16)
TOKENS = 128


def model(hidden_size: int, heads: int) -> ModelFolder:
    torch.manual_seed(0)
    config = DecoderConfig(
        vocab_size=1024,
        hidden_size=hidden_size,
        intermediate_size=8 * hidden_size // 3,
        num_hidden_layers=6,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=256,
    )
    return ModelFolder(f"d={hidden_size}", Decoder(config).eval(), character_tokenizer())


async def tokens_per_second(engine: TorchEngine, rows: int, run: int) -> float:
    letters = CHARACTERS[1:27]
    requests = [
        GenerationRequest(id=f"{row}", prompt=letters[(run * 16 + row) % 26] * 64, max_tokens=TOKENS)
        for row in range(rows)
    ]
    begun = time.perf_counter()
    async for _ in engine.generate(requests):
        pass
    return rows * TOKENS / (time.perf_counter() - begun)


async def main() -> None:
    for hidden_size, heads in ((128, 4), (192, 6)):
        engine = TorchEngine(model(hidden_size, heads))
        await engine.start()
        for rows in ROWS:
            best = max([await tokens_per_second(engine, rows, run) for run in range(3)])
            parameters = engine.profile.parameters / 1e6
            print(f"{engine.profile.model}, {parameters:.1f} M parameters, {rows:2} rows: {best:6.0f} tokens/s")
        await engine.close()


if __name__ == "__main__":
    asyncio.run(main())
