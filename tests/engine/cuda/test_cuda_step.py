"""The computer for GPUs, here on the CPU: everything but the recording of graphs runs, and equals the plain decoder."""

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from asterism.workers.engine.computer import StepComputer
from asterism.workers.engine.cuda.cuda_step import CudaComputer, block_bytes
from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.rope import Llama3Scaling
from asterism.workers.engine.step import BLOCK_TOKENS, BlockCopy, Chunk, Step
from tests.engine.conftest import CHARACTERS, random_decoder
from tests.engine.cuda.conftest import DEVICE

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"rope_scaling": Llama3Scaling(8.0, 1.0, 4.0, 40), "rope_theta": 500.0},
    "llama with biases": {"qkv_bias": True, "output_bias": True, "mlp_bias": True, "tie_word_embeddings": False},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": True, "head_dim": 12},
    "mistral": {"sliding_window": 21},
}


def make_computer(decoder: Decoder, **changes: Any) -> CudaComputer:
    options = {"blocks": 64, "context_tokens": 400, "max_sequences": 6, "device": DEVICE, "dtype": torch.float32}
    return CudaComputer(decoder, **{**options, **changes})


class Sequences:
    """Sequences over blocks, and what their logits must be: the whole text through the decoder, with no cache."""

    def __init__(self, decoder: Decoder, computer: StepComputer) -> None:
        self._decoder = decoder
        self._computer = computer
        self._free = list(range(computer.blocks))
        random.Random(1).shuffle(self._free)
        self.texts: dict[str, list[int]] = {}
        self._computed: dict[str, int] = {}
        self._blocks: dict[str, list[int]] = {}
        self._copies: list[BlockCopy] = []

    def add(self, name: str, token_ids: Sequence[int]) -> None:
        self.texts[name], self._computed[name], self._blocks[name] = list(token_ids), 0, []

    def fork(self, name: str, child: str, token_ids: Sequence[int]) -> None:
        """Full blocks are shared, what is in the last one is copied."""
        computed = self._computed[name]
        shared, rest = divmod(computed, BLOCK_TOKENS)
        self.texts[child] = [*self.texts[name][:computed], *token_ids]
        self._computed[child] = computed
        self._blocks[child] = self._blocks[name][:shared]
        if rest:
            self._blocks[child].append(self._free.pop())
            self._copies.append(BlockCopy(self._blocks[name][shared], self._blocks[child][shared], rest))

    @torch.inference_mode()
    def step(self, lengths: dict[str, int]) -> None:
        """Computes so many of each one's tokens, checks all logits, and appends the likeliest token to each."""
        chunks: list[Chunk] = []
        for name, length in lengths.items():
            start = self._computed[name]
            end = start + length
            while len(self._blocks[name]) * BLOCK_TOKENS < end:
                self._blocks[name].append(self._free.pop())
            shared = 0
            if chunks:
                pairs = zip(self._blocks[name], chunks[-1].blocks, strict=False)
                same = [mine == theirs for mine, theirs in pairs]
                shared = min(same.index(False) if False in same else len(same), start // BLOCK_TOKENS)
            tokens = self.texts[name][start:end]
            chunks.append(Chunk(tokens, start, list(self._blocks[name]), end == len(self.texts[name]), shared))
            self._computed[name] = end
        logits = self._computer.compute(Step(tuple(self._copies), tuple(chunks))).cpu()
        self._copies.clear()
        sampled = [name for name, chunk in zip(lengths, chunks, strict=True) if chunk.samples]
        assert logits.shape == (len(sampled), len(CHARACTERS))
        for name, row in zip(sampled, logits, strict=True):
            torch.testing.assert_close(row, self._expected(name), rtol=1e-3, atol=1e-3)
            self.texts[name].append(int(row.argmax()))

    def _expected(self, name: str) -> Tensor:
        logits: Tensor = self._decoder(torch.tensor([self.texts[name]]))
        return logits[0, -1]


def letters(seed: int, count: int) -> list[int]:
    return random.Random(seed).choices(range(len(CHARACTERS)), k=count)


def tell_a_story(sequences: Sequences, *, decodes: int) -> None:
    """Prompts in chunks beside decoding ones, then a fork whose threads share a long prefix, then padding."""
    sequences.add("a", letters(1, 5))
    sequences.step({"a": 5})
    sequences.add("b", letters(2, 150))
    sequences.step({"a": 1, "b": 70})
    sequences.step({"b": 3})
    sequences.step({"b": 60, "a": 1})
    sequences.step({"b": 17, "a": 1})
    for child in ("c", "d", "e"):
        sequences.fork("b", child, letters(ord(child), 3))
    sequences.step({"c": 3, "d": 3, "a": 1, "e": 3, "b": 1})
    for _ in range(decodes):
        sequences.step({"a": 1, "b": 1, "c": 1, "d": 1, "e": 1})
    sequences.step({"d": 1})
    sequences.step({"d": 1, "b": 1, "c": 1})


@pytest.mark.parametrize("traits", FAMILIES.values(), ids=FAMILIES.keys())
def test_a_story_of_each_family(traits: dict[str, Any]) -> None:
    decoder = random_decoder(5, **traits)
    tell_a_story(Sequences(decoder, make_computer(decoder)), decodes=20)


@pytest.mark.parametrize(
    "options",
    [{"reads_shared_once": False}, {"max_sequences": 2}, {"graph_sizes": (3, 5)}, {"graph_sizes": (1,)}],
    ids=["each reads for itself", "more than the largest graph", "odd sizes", "no graph"],
)
def test_a_story_with_other_options(options: dict[str, Any]) -> None:
    decoder = random_decoder(5)
    tell_a_story(Sequences(decoder, make_computer(decoder, **options)), decodes=4)


def test_a_story_through_the_kernels(triton_operations: Any) -> None:
    small = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    decoder = random_decoder(5, **small, **FAMILIES["qwen3"])
    computer = make_computer(decoder, operations=partial(triton_operations.TritonOperations, product_parts=2))
    tell_a_story(Sequences(decoder, computer), decodes=1)


def test_200_greedy_tokens_from_half_precision_weights_stay_close() -> None:
    decoder = random_decoder(5, qk_norm=True)
    computer = make_computer(decoder, dtype=torch.bfloat16)
    text = letters(3, 4)
    blocks = list(range(20))
    with torch.inference_mode():
        logits = computer.compute(Step((), (Chunk(text[:-1], 0, blocks[:1], True),)))
        for at in range(len(text) - 1, 200):
            chunk = Chunk(text[at:], at, blocks[: at // BLOCK_TOKENS + 1], True)
            logits = computer.compute(Step((), (chunk,)))
            text.append(int(logits.argmax()))
        assert logits.dtype == torch.float32
        expected = decoder(torch.tensor([text[:-1]]))[0, -1]
    # bfloat16 has 8 bits: about 1 % an operation.
    error = (logits[0].cpu() - expected).norm() / expected.norm()
    assert float(error) < 0.1


def test_a_block_of_one_sequence_is_not_touched_by_the_padding_of_another() -> None:
    decoder = random_decoder(5)
    sequences = Sequences(decoder, make_computer(decoder, blocks=4, graph_sizes=(4,)))
    for name in ("a", "b", "c"):
        sequences.add(name, letters(ord(name), 3))
        sequences.step({name: 3})
    for _ in range(4):
        sequences.step({"a": 1, "b": 1, "c": 1})


def test_the_bytes_of_a_block() -> None:
    decoder = random_decoder(5)
    kv = torch.zeros(2, 2, 2, BLOCK_TOKENS, 8, dtype=torch.bfloat16)
    assert block_bytes(decoder.config, torch.bfloat16) == kv.numel() * 2


def test_a_device_that_does_not_say_what_is_free_needs_a_number_of_blocks() -> None:
    if DEVICE.type == "cpu":
        with pytest.raises(ValueError, match="blocks"):
            make_computer(random_decoder(5), blocks=None)


@pytest.mark.gpu
def test_a_recorded_step_equals_one_that_is_not() -> None:
    decoder = random_decoder(5, qk_norm=True)
    tell_a_story(Sequences(decoder, make_computer(decoder)), decodes=20)
