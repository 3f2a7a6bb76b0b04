"""A row's logits are bitwise the same alone and in company: the property that all others of the engine rest on.

Random stories of sequences that are begun, continued in chunks, forked and ended, several in a step, are compared with
each sequence computed alone, one token at a time, by one OS thread.
"""

import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asterism.workers.engine.native.computer import NativeComputer
from asterism.workers.engine.step import BLOCK_TOKENS, BlockCopy, Chunk, Step
from tests.engine.conftest import random_decoder
from tests.engine.natively import WEIGHTS, Memory, Sequence, Weights, computer, one_by_one

MODELS: dict[str, dict[str, Any]] = {
    "grouped": {"hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2, "num_hidden_layers": 3},
    "mistral": {"sliding_window": 37},
    "qwen3": {"qk_norm": True, "head_dim": 24, "num_key_value_heads": 1},
    "odd": {"hidden_size": 76, "intermediate_size": 83, "head_dim": 18, "qkv_bias": True},
}
VOCAB = 38
CASES = [(name, weights) for name in MODELS for weights in WEIGHTS]


class Story:
    """Random steps on one computer, each row held against the same sequence computed alone."""

    def __init__(self, native: NativeComputer, alone: NativeComputer, draws: random.Random) -> None:
        self.native, self.alone, self.draws = native, alone, draws
        self.memory = Memory(native.blocks)
        self.sequences: list[Sequence] = []
        self.known: dict[tuple[int, ...], Tensor] = {}

    def run(self, steps: int) -> None:
        for _ in range(steps):
            if len(self.sequences) > 12:
                self.sequences.pop(self.draws.randrange(len(self.sequences))).end()
            if not self.sequences or self.draws.random() < 0.3:
                self.sequences.append(Sequence(self.memory))
            copies: list[BlockCopy] = []
            if self.draws.random() < 0.4:
                copies = self.fork(self.draws.choice(self.sequences))
            self.compute(tuple(copies))
        for sequence in self.sequences:
            sequence.end()
        assert not any(self.memory.holders.values())

    def fork(self, parent: Sequence) -> list[BlockCopy]:
        copies: list[BlockCopy] = []
        for _ in range(self.draws.randrange(1, 5)):
            child, needed = parent.fork()
            self.sequences.insert(self.draws.randrange(len(self.sequences) + 1), child)
            copies += needed
        return copies

    def compute(self, copies: tuple[BlockCopy, ...]) -> None:
        if self.draws.random() < 0.5:
            self.sequences.sort(key=lambda sequence: sequence.blocks)
        chosen = [sequence for sequence in self.sequences if self.draws.random() < 0.7 and len(sequence.blocks) < 20]
        chunks: list[Chunk] = []
        for sequence in chosen:
            before = chunks[-1].blocks if chunks else ()
            shared = 0
            for mine, other in zip(sequence.blocks[: len(sequence.token_ids) // BLOCK_TOKENS], before, strict=False):
                if mine != other:
                    break
                shared += 1
            length = self.draws.choice((1, 1, 1, 2, 7, 16, 60))
            chunks.append(
                sequence.chunk(
                    self.draws.choices(range(VOCAB), k=length), samples=self.draws.random() < 0.8, shared_blocks=shared
                )
            )
        logits = self.native.compute(Step(copies, tuple(chunks)))
        rows = [sequence for sequence, chunk in zip(chosen, chunks, strict=True) if chunk.samples]
        for sequence, row in zip(rows, logits, strict=True):
            assert torch.equal(row, one_by_one(self.alone, sequence.token_ids, self.known))


@pytest.mark.parametrize(("model", "weights"), CASES, ids=[f"{model}, {weights}" for model, weights in CASES])
@settings(max_examples=6)
@given(seed=st.integers(0, 2**32), os_threads=st.sampled_from((1, 2, 3)))
def test_stories_give_what_each_sequence_gives_alone(model: str, weights: Weights, seed: int, os_threads: int) -> None:
    decoder = random_decoder(21, **MODELS[model])
    native = computer(decoder, weights, blocks=400, os_threads=os_threads)
    alone = computer(decoder, weights, blocks=40)

    Story(native, alone, random.Random(seed)).run(12)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("rows", [2, 3, 5, 7, 8, 9, 13, 17, 33])
def test_a_row_in_a_batch_of_any_size(weights: Weights, rows: int) -> None:
    decoder = random_decoder(22, hidden_size=160, intermediate_size=200, vocab_size=300)
    native, alone = computer(decoder, weights, blocks=100, os_threads=2), computer(decoder, weights)
    memory, draws, known = Memory(100), random.Random(rows), dict[tuple[int, ...], Tensor]()
    sequences = [Sequence(memory) for _ in range(rows)]
    native.compute(
        Step((), tuple(each.chunk(draws.choices(range(300), k=n % 5 + 1)) for n, each in enumerate(sequences)))
    )
    logits = native.compute(Step((), tuple(each.chunk([draws.randrange(300)]) for each in sequences)))
    for sequence, row in zip(sequences, logits, strict=True):
        assert torch.equal(row, one_by_one(alone, sequence.token_ids, known))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_threads_that_share_a_long_prefix(weights: Weights) -> None:
    decoder = random_decoder(23)
    native, alone = computer(decoder, weights, blocks=300, os_threads=2), computer(decoder, weights)
    draws, known = random.Random(1), dict[tuple[int, ...], Tensor]()
    parent = Sequence(Memory(300))
    prefix = draws.choices(range(VOCAB), k=200)
    native.compute(Step((), (parent.chunk(prefix),)))
    forks = [parent.fork() for _ in range(9)]
    children = [child for child, _ in forks]
    copies = tuple(copy for _, needed in forks for copy in needed)
    for step in range(3):
        chunks = tuple(
            child.chunk([draws.randrange(VOCAB)], shared_blocks=12 * (n > 0)) for n, child in enumerate(children)
        )
        logits = native.compute(Step(copies if step == 0 else (), chunks))
        for child, row in zip(children, logits, strict=True):
            assert torch.equal(row, one_by_one(alone, child.token_ids, known))


@pytest.mark.parametrize("model", MODELS)
def test_what_lay_in_a_block_before_does_not_matter(model: str) -> None:
    decoder = random_decoder(24, **MODELS[model])
    fresh, used = computer(decoder), computer(decoder)
    huge = Sequence(Memory(64))
    draws = random.Random(2)
    used.compute(Step((), (huge.chunk(draws.choices(range(VOCAB), k=500)),)))
    for length in (1, 15, 16, 17, 65):
        chunk = Sequence(Memory(64)).chunk(draws.choices(range(VOCAB), k=length))
        assert torch.equal(fresh.compute(Step((), (chunk,))), used.compute(Step((), (chunk,))))
