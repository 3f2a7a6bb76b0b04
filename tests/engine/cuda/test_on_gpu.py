"""On a GPU alone: recorded graphs and compiled kernels in bfloat16 at real widths, and the engine over them."""

import random
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.cuda.cuda_step import CudaComputer
from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.folder import ModelFolder
from asterism.workers.engine.seam import GenerationRequest
from asterism.workers.engine.step import BLOCK_TOKENS, BlockCopy, Chunk, Step
from asterism.workers.engine.torch_engine import TorchEngine
from tests.engine.conftest import CHARACTERS, Collect
from tests.engine.cuda.conftest import DEVICE

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(240)]

WIDE = DecoderConfig(
    vocab_size=1000,
    hidden_size=512,
    intermediate_size=4096,
    num_hidden_layers=2,
    num_attention_heads=8,
    num_key_value_heads=2,
    head_dim=128,
    qk_norm=True,
    max_position_embeddings=8192,
    tie_word_embeddings=False,
)


@pytest.fixture(scope="module")
def computers() -> tuple[CudaComputer, CudaComputer]:
    """In bfloat16 on the GPU, and in float32 in plain torch on the CPU, of the same weights."""
    torch.manual_seed(1)
    decoder = Decoder(WIDE).eval()
    make = partial(CudaComputer, decoder, blocks=700, context_tokens=4096, max_sequences=40)
    return make(device=DEVICE), make(device=torch.device("cpu"), dtype=torch.float32)


def both(computers: tuple[CudaComputer, CudaComputer], step: Step) -> Tensor:
    """The logits of the GPU, which are those of the CPU but for bfloat16's 8 bits."""
    ours, plain = (computer.compute(step).cpu().clone() for computer in computers)
    assert ours.isfinite().all()
    for mine, exact in zip(ours, plain, strict=True):
        assert float((mine - exact).norm() / exact.norm()) < 0.03
    return ours


def drawn(seed: int, count: int) -> list[int]:
    return random.Random(seed).choices(range(WIDE.vocab_size), k=count)


def prompt(computers: tuple[CudaComputer, CudaComputer], token_ids: list[int], blocks: list[int], piece: int) -> None:
    for start in range(0, len(token_ids), piece):
        end = min(len(token_ids), start + piece)
        used = blocks[: -(-end // BLOCK_TOKENS)]
        both(computers, Step((), (Chunk(token_ids[start:end], start, used, end == len(token_ids)),)))


@pytest.mark.parametrize(("tokens", "piece"), [(30, 30), (700, 100), (700, 700), (2100, 600)])
def test_prompts_in_pieces_then_a_lone_answer(
    computers: tuple[CudaComputer, CudaComputer], tokens: int, piece: int
) -> None:
    blocks = list(range(-(-(tokens + 8) // BLOCK_TOKENS)))
    prompt(computers, drawn(tokens, tokens), blocks, piece)
    for at in range(tokens, tokens + 8):
        both(computers, Step((), (Chunk(drawn(at, 1), at, blocks[: at // BLOCK_TOKENS + 1], True),)))


@pytest.mark.parametrize("threads", [2, 5, 33])
def test_a_fork_over_a_long_prefix_and_neighbours(computers: tuple[CudaComputer, CudaComputer], threads: int) -> None:
    prefix = 1030
    shared = list(range(-(-prefix // BLOCK_TOKENS)))
    prompt(computers, drawn(7, prefix), shared, 515)
    full, rest = divmod(prefix, BLOCK_TOKENS)
    own = [100 + 3 * thread for thread in range(threads)]
    copies = tuple(BlockCopy(shared[full], block, rest) for block in own)
    tables = [[*shared[:full], block, block + 1] for block in own]
    for at in range(prefix, prefix + 14):
        blocks = at // BLOCK_TOKENS + 1
        chunks = tuple(
            Chunk(drawn(31 * at + row, 1), at, table[:blocks], True, full if row else 0)
            for row, table in enumerate(tables)
        )
        both(computers, Step(copies if at == prefix else (), (*chunks, Chunk(drawn(at, 20), 0, [300, 301], True))))
        both(computers, Step((), chunks))


def test_a_replay_does_not_remember_the_one_before(computers: tuple[CudaComputer, CudaComputer]) -> None:
    chunks = [Chunk(drawn(row, 1), 0, [400 + row], True) for row in range(20)]
    alone = [both(computers, Step((), (chunk,)))[0] for chunk in chunks]
    together = both(computers, Step((), tuple(chunks)))
    again = both(computers, Step((), tuple(reversed(chunks))))
    for first, second, third in zip(alone, together, again.flip(0), strict=True):
        for other in (second, third):
            assert float((first - other).norm() / first.norm()) < 0.03


async def test_the_engine_on_a_gpu_says_what_the_one_on_the_cpu_says(tiny_model: ModelFolder, collect: Collect) -> None:
    greedy = GenerationRequest(id="greedy", prompt="the 7 sea", max_tokens=60)
    long = replace(greedy, id="long", prompt="".join(random.Random(1).choices(CHARACTERS[1:27], k=600)))
    sampled = replace(greedy, id="sampled", temperature=1.3, seed=3)
    banned = replace(greedy, id="banned", banned=("e", "f"), presence_penalty=0.3)
    requests = [greedy, long, sampled, banned, *(replace(sampled, id=f"{seed}", seed=seed) for seed in range(9))]
    said = []
    for device in ("cpu", "cuda"):
        engine = TorchEngine(tiny_model, max_sequences=8, device=device)
        await engine.start()
        try:
            said.append(await collect(engine, requests))
            assert engine.stats().kv_cache_usage == 0
        finally:
            await engine.close()
    # Weights are in float32 on both: texts part only where two tokens are as likely as each other, to the last bits.
    same = [said[0][request.id][0] == said[1][request.id][0] for request in requests]
    assert sum(same) >= len(requests) - 1
