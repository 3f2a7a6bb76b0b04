"""The native computer for tests: built into the checkout's `build/`, and sequences that write its steps."""

import copy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from torch import Tensor

from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.errors import NativeUnavailable
from asterism.workers.engine.native.build import FLAGS, build
from asterism.workers.engine.native.computer import NativeComputer
from asterism.workers.engine.native.library import Library
from asterism.workers.engine.step import BLOCK_TOKENS, BlockCopy, Chunk, Step

FOLDER = Path(__file__).parents[2] / "build" / "native"

Weights = Literal["float32", "bfloat16", "int8"]
"""bfloat16: float32 of weights that bfloat16 has, and that are held in it therefore."""

WEIGHTS: Final[tuple[Weights, ...]] = ("float32", "bfloat16", "int8")


@cache
def built(*more_flags: str) -> Library:
    """The library with some more flags; skips the test where there is no compiler."""
    try:
        return Library(build((*FLAGS, *more_flags), folder=FOLDER))
    except NativeUnavailable as error:
        pytest.skip(error.message)


def computer(decoder: Decoder, weights: Weights = "float32", **changes: Any) -> NativeComputer:
    wanted: dict[str, Any] = {"blocks": 64, "context_tokens": 512, "os_threads": 1, "built": built(), **changes}
    if weights == "bfloat16":
        decoder = rounded(decoder)
    return NativeComputer(decoder, weights="int8" if weights == "int8" else "float32", **wanted)


def rounded(decoder: Decoder) -> Decoder:
    """A float32 decoder whose numbers bfloat16 has."""
    return copy.deepcopy(decoder).bfloat16().float()


@dataclass(slots=True)
class Memory:
    """Blocks by number, counted by who holds them; those that come free are given out again first."""

    blocks: int
    holders: dict[int, int] = field(default_factory=dict)

    def take(self) -> int:
        block = next(block for block in range(self.blocks) if not self.holders.get(block))
        self.holders[block] = 1
        return block


@dataclass(slots=True)
class Sequence:
    """Tokens that are computed, in blocks that may be shared with others while they are full."""

    memory: Memory
    token_ids: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)

    def chunk(self, token_ids: list[int], *, samples: bool = True, shared_blocks: int = 0) -> Chunk:
        """The next chunk; from now on its tokens count as computed."""
        start = len(self.token_ids)
        self.token_ids += token_ids
        while len(self.blocks) * BLOCK_TOKENS < len(self.token_ids):
            self.blocks.append(self.memory.take())
        return Chunk(token_ids, start, tuple(self.blocks), samples, shared_blocks)

    def fork(self) -> "tuple[Sequence, tuple[BlockCopy, ...]]":
        """One with the same tokens, which shares the full blocks and needs a copy of the last if it is not full."""
        full, rest = divmod(len(self.token_ids), BLOCK_TOKENS)
        for block in self.blocks[:full]:
            self.memory.holders[block] += 1
        child = Sequence(self.memory, list(self.token_ids), self.blocks[:full])
        if not rest:
            return child, ()
        child.blocks.append(self.memory.take())
        return child, (BlockCopy(self.blocks[full], child.blocks[full], rest),)

    def end(self) -> None:
        for block in self.blocks:
            self.memory.holders[block] -= 1


def one_by_one(computer: NativeComputer, token_ids: list[int], known: dict[tuple[int, ...], Tensor]) -> Tensor:
    """Logits after the last token, of a sequence that is computed alone, a token at a time. `known` is a memory."""
    if (seen := known.get(tuple(token_ids))) is not None:
        return seen
    sequence = Sequence(Memory(computer.blocks))
    for token_id in token_ids:
        (logits,) = computer.compute(Step((), (sequence.chunk([token_id]),)))
        known[tuple(sequence.token_ids)] = logits
    return known[tuple(token_ids)]
