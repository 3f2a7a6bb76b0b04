"""Steps as flat arrays of int32, each number checked: the compiled code trusts what it gets. Pure: no torch."""

from array import array
from dataclasses import dataclass
from typing import Final

import numpy as np

from asterism.workers.engine.errors import InvalidStep
from asterism.workers.engine.step import BLOCK_TOKENS, Step

MAX_ROWS: Final = 1 << 13
"""Tokens of one step. The pool counts items in 20 bits, and attention may have one for each row and KV head: that is
enough for 127 heads."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What there is: numbers run from 0 to one below these."""

    vocab: int
    context_tokens: int
    blocks: int


@dataclass(frozen=True, slots=True)
class StepArrays:
    """A row is a token. All arrays hold int32 ("i")."""

    token_ids: "array[int]"
    positions: "array[int]"
    row_tables: "array[int]"
    """Of each row, where the table of its chunk begins in `blocks`."""
    blocks: "array[int]"
    sample_rows: "array[int]"
    copied: "array[int]"
    """Source, target and tokens of each copy."""


def step_arrays(step: Step, limits: Limits) -> StepArrays:
    """Raises `InvalidStep` for numbers outside the limits, chunks without tokens, and too few blocks."""
    token_ids, positions, row_tables, blocks = array("i"), array("i"), array("i"), array("i")
    sample_rows, copied = array("i"), array("i")
    try:
        for number, chunk in enumerate(step.chunks):
            rows, start = len(chunk.token_ids), chunk.start
            if not rows:
                raise InvalidStep(f"chunks[{number}].token_ids", "is empty")
            if start < 0 or start + rows > limits.context_tokens:
                raise InvalidStep(f"chunks[{number}].start", f"ends outside the context of {limits.context_tokens}")
            if start + rows > len(chunk.blocks) * BLOCK_TOKENS:
                raise InvalidStep(f"chunks[{number}].blocks", "do not reach to the chunk's last position")
            row_tables.extend([len(blocks)] * rows)
            token_ids.extend(chunk.token_ids)
            positions.extend(range(start, start + rows))
            blocks.extend(chunk.blocks)
            if chunk.samples:
                sample_rows.append(len(token_ids) - 1)
        for copy in step.copies:
            copied.extend((copy.source, copy.target, copy.tokens))
    except (OverflowError, TypeError) as error:
        raise InvalidStep("step", f"holds a number that is no int32: {error}") from error
    if len(token_ids) > MAX_ROWS:
        raise InvalidStep("chunks", f"have {len(token_ids)} tokens; a step has at most {MAX_ROWS}")
    _check_range("chunks.token_ids", np.frombuffer(token_ids, np.int32), limits.vocab)
    _check_range("chunks.blocks", np.frombuffer(blocks, np.int32), limits.blocks)
    if copied:
        table = np.frombuffer(copied, np.int32).reshape(-1, 3)
        _check_range("copies", table[:, :2], limits.blocks)
        _check_range("copies.tokens", table[:, 2], BLOCK_TOKENS)
        if bool((table[:, 0] == table[:, 1]).any()):
            raise InvalidStep("copies", "copy a block onto itself")
    return StepArrays(token_ids, positions, row_tables, blocks, sample_rows, copied)


def _check_range(field: str, numbers: "np.ndarray[tuple[int, ...], np.dtype[np.int32]]", end: int) -> None:
    # As unsigned, numbers below 0 are above all others: one comparison instead of two.
    if len(numbers) and int(numbers.view(np.uint32).max()) >= end:
        wrong = next(int(number) for number in numbers.flat if not 0 <= number < end)
        raise InvalidStep(field, f"has {wrong}, which is not in 0 .. {end - 1}")
