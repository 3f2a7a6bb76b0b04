"""The computer in torch: near the model as it is written down, and bitwise the same in any company."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.step import BLOCK_TOKENS, BlockCopy, Chunk, Step
from asterism.workers.engine.torch_step import TorchStepComputer
from tests.engine.conftest import random_decoder

CONTEXT, BLOCKS = 512, 2000

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "every head its own": {"num_key_value_heads": 4},
    "one for all, odd sizes": {"num_key_value_heads": 1, "intermediate_size": 51, "hidden_size": 28, "head_dim": 6},
    "groups of three": {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": True, "head_dim": 20, "num_key_value_heads": 2},
    "mistral": {"sliding_window": 37},
    "all biases": {"qkv_bias": True, "output_bias": True, "mlp_bias": True, "head_dim": 2},
    "wide": {"hidden_size": 320, "intermediate_size": 860, "num_attention_heads": 5, "num_key_value_heads": 5},
}


@pytest.fixture(params=SHAPES)
def decoder(request: pytest.FixtureRequest) -> Decoder:
    return random_decoder(7, **SHAPES[request.param])


def make(decoder: Decoder) -> TorchStepComputer:
    return TorchStepComputer(decoder, blocks=BLOCKS, context_tokens=CONTEXT, device=torch.device("cpu"))


class Text:
    """A sequence that writes its own chunks, in blocks that nobody else has."""

    def __init__(self, token_ids: Sequence[int], free: list[int]) -> None:
        self.token_ids = list(token_ids)
        self.blocks: list[int] = []
        self.computed = 0
        self._free = free

    def chunk(self, size: int) -> Chunk:
        """The next `size` tokens, or what is left of them; samples at the end."""
        start = self.computed
        self.computed = min(start + size, len(self.token_ids))
        while len(self.blocks) * BLOCK_TOKENS < self.computed:
            self.blocks.append(self._free.pop())
        return Chunk(
            self.token_ids[start : self.computed], start, list(self.blocks), self.computed == len(self.token_ids)
        )


def tokens(seed: int, count: int) -> list[int]:
    return random.Random(seed).choices(range(38), k=count)


def alone(decoder: Decoder, token_ids: Sequence[int]) -> Tensor:
    """Logits after the last token, computed one token at a time."""
    computer, text = make(decoder), Text(token_ids, list(range(BLOCKS)))
    rows = [computer.compute(Step((), (text.chunk(1),))) for _ in token_ids]
    return rows[-1][0]


@torch.inference_mode()
def test_logits_are_those_of_the_decoder(decoder: Decoder) -> None:
    computer, free = make(decoder), list(range(BLOCKS))
    texts = [Text(tokens(seed, count), free) for seed, count in ((1, 1), (2, 17), (3, 130), (4, 300))]
    logits = computer.compute(Step((), tuple(text.chunk(300) for text in texts)))
    for text, row in zip(texts, logits, strict=True):
        torch.testing.assert_close(row, decoder(torch.tensor([text.token_ids]))[0, -1], rtol=1e-4, atol=1e-4)


def test_a_row_is_the_same_however_it_is_cut_and_whoever_is_beside_it(decoder: Decoder) -> None:
    check_random_company(decoder)


def test_two_os_threads_change_nothing() -> None:
    torch.set_num_threads(2)
    try:
        check_random_company(random_decoder(7))
    finally:
        torch.set_num_threads(1)


def check_random_company(decoder: Decoder) -> None:
    token_ids = tokens(5, 90)
    expected = alone(decoder, token_ids)
    for seed in range(3):
        rng, computer, free = random.Random(seed), make(decoder), list(range(BLOCKS))
        text = Text(token_ids, free)
        while text.computed < len(token_ids):
            chunks = [text.chunk(rng.choice((1, 2, 5, 16, 33, 90)))]
            others = [
                Text(tokens(other, rng.choice((1, 3, 20, 70))), free) for other in range(rng.choice((0, 1, 3, 7)))
            ]
            chunks += [other.chunk(rng.choice((1, 9, 70))) for other in others]
            place = rng.randrange(len(chunks))
            chunks[0], chunks[place] = chunks[place], chunks[0]
            logits = computer.compute(Step((), tuple(chunks)))
            if chunks[place].samples:
                assert torch.equal(logits[sum(chunk.samples for chunk in chunks[:place])], expected)


def test_a_row_is_the_same_behind_shared_and_copied_blocks(decoder: Decoder) -> None:
    computer, free = make(decoder), list(range(BLOCKS))
    parent = Text(tokens(6, 70), free)
    computer.compute(Step((), (parent.chunk(70),)))
    children, copies = [], []
    for number in range(4):
        child = Text([*parent.token_ids, *tokens(100 + number, 1 + 3 * number)], free)
        child.blocks = [*parent.blocks[:4], free.pop()]
        child.computed = 70
        copies.append(BlockCopy(parent.blocks[4], child.blocks[4], 6))
        children.append(child)
    logits = computer.compute(Step(tuple(copies), tuple(child.chunk(100) for child in children)))
    for child, row in zip(children, logits, strict=True):
        assert torch.equal(row, alone(decoder, child.token_ids))


@pytest.mark.parametrize("length", [230, 400])
def test_a_long_context_is_cut_alike(length: int) -> None:
    decoder = random_decoder(8)
    token_ids = tokens(9, length)
    expected = alone(decoder, token_ids)
    for size in (16, 64, 257, 400):
        computer, text = make(decoder), Text(token_ids, list(range(BLOCKS)))
        rows = [computer.compute(Step((), (text.chunk(size),))) for _ in range(0, length, size)]
        assert torch.equal(rows[-1][0], expected)


@given(
    hidden=st.integers(1, 80),
    inner=st.integers(1, 150),
    heads=st.sampled_from([(1, 1), (2, 1), (3, 3), (4, 2), (6, 2), (8, 1)]),
    head_dim=st.integers(1, 20).map(lambda half: 2 * half),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_rows_agree_in_models_of_any_shape(
    hidden: int, inner: int, heads: tuple[int, int], head_dim: int, seed: int
) -> None:
    decoder = random_decoder(
        seed,
        hidden_size=hidden,
        intermediate_size=inner,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        head_dim=head_dim,
    )
    computer, free, rng = make(decoder), list(range(BLOCKS)), random.Random(seed)
    texts = [Text(tokens(seed + number, rng.randrange(1, 40)), free) for number in range(rng.randrange(1, 9))]
    logits = computer.compute(Step((), tuple(text.chunk(60) for text in texts)))
    for text, row in zip(texts[:2], logits, strict=False):
        assert torch.equal(row, alone(decoder, text.token_ids))


def test_a_step_that_samples_nothing_gives_no_rows() -> None:
    computer = make(random_decoder(7))
    logits = computer.compute(Step((), (Chunk([1, 2, 3], 0, [5], False),)))
    assert logits.shape == (0, 38)
