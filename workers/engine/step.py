"""What is computed at one time: chunks of sequences over blocks of the KV cache. Pure: no torch.

The scheduler writes steps, a `StepComputer` runs them. Neither knows how the other does it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

BLOCK_TOKENS: Final = 16
"""Positions of one KV block. 16 float32 are one vector register (AVX-512), so scores of a block are one register."""


@dataclass(frozen=True, slots=True)
class BlockCopy:
    """Copy keys and values of the first `tokens` positions (below BLOCK_TOKENS) of a block into another."""

    source: int
    target: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of one sequence: `token_ids[i]` is computed at position `start + i`.

    `blocks[j]` holds positions j * BLOCK_TOKENS and following; together they reach to the chunk's last position. Those
    before `start` are computed already, or by the step's copies. From step to step the same list may grow at its end
    and have its last block replaced; what differs elsewhere is a new list.
    """

    token_ids: Sequence[int]
    start: int
    blocks: Sequence[int]
    samples: bool
    """Whether the logits after the last token are wanted: not in the middle of a prompt."""
    shared_blocks: int = 0
    """Leading blocks that are the same as those of the chunk before this one in the step, all computed before the step:
    attention may read each of them once for every chunk of such a run."""


@dataclass(frozen=True, slots=True)
class Step:
    """First the copies, in order, then the chunks, which do not depend on each other."""

    copies: tuple[BlockCopy, ...]
    chunks: tuple[Chunk, ...]
