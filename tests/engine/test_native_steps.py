"""A malformed step is refused before the compiled code sees it, and the computer goes on."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asterism.workers.engine.errors import InvalidStep
from asterism.workers.engine.native.arrays import Limits, step_arrays
from asterism.workers.engine.native.computer import NativeComputer
from asterism.workers.engine.step import BlockCopy, Chunk, Step
from tests.engine.conftest import random_decoder
from tests.engine.natively import computer

GOOD = Chunk([1, 2, 3], 15, (4, 5), True)
LIMITS = Limits(vocab=38, context_tokens=100, blocks=8)


@pytest.fixture(scope="module")
def native() -> NativeComputer:
    return computer(random_decoder(31), blocks=LIMITS.blocks, context_tokens=LIMITS.context_tokens)


@pytest.mark.parametrize(
    ("step", "field"),
    [
        (Step((), (replace(GOOD, token_ids=[]),)), r"chunks\[0\].token_ids"),
        (Step((), (GOOD, replace(GOOD, start=-1))), r"chunks\[1\].start"),
        (Step((), (replace(GOOD, start=98, blocks=tuple(range(7))),)), r"chunks\[0\].start"),
        (Step((), (replace(GOOD, blocks=(4,)),)), r"chunks\[0\].blocks"),
        (Step((), (replace(GOOD, blocks=()),)), r"chunks\[0\].blocks"),
        (Step((), (replace(GOOD, blocks=(4, 8)),)), r"chunks.blocks: has 8,"),
        (Step((), (replace(GOOD, blocks=(-1, 5)),)), r"chunks.blocks: has -1,"),
        (Step((), (GOOD, replace(GOOD, token_ids=[1, 38]))), r"chunks.token_ids: has 38,"),
        (Step((), (replace(GOOD, token_ids=[-5]),)), r"chunks.token_ids: has -5,"),
        (Step((), (replace(GOOD, token_ids=[1 << 40]),)), "no int32"),
        (Step((), (replace(GOOD, start=1 << 70),)), r"chunks\[0\].start"),
        (Step((), (replace(GOOD, token_ids=[0] * (1 << 17)),)), r"chunks\[0\].start"),
        (Step((BlockCopy(8, 1, 3),), ()), "copies: has 8,"),
        (Step((BlockCopy(1, -2, 3),), ()), "copies: has -2,"),
        (Step((BlockCopy(1, 2, 16),), ()), r"copies.tokens: has 16,"),
        (Step((BlockCopy(1, 2, -1),), ()), r"copies.tokens: has -1,"),
        (Step((BlockCopy(3, 3, 1),), ()), "copies: copy a block onto itself"),
    ],
)
def test_a_malformed_step_is_refused(native: NativeComputer, step: Step, field: str) -> None:
    before = native.compute(Step((), (GOOD,)))
    with pytest.raises(InvalidStep, match=field):
        native.compute(step)
    assert torch.equal(native.compute(Step((), (GOOD,))), before)


def test_a_step_of_too_many_tokens_is_refused() -> None:
    chunks = (Chunk([1] * 100, 0, tuple(range(7)), True),) * 656
    with pytest.raises(InvalidStep, match="65600 tokens"):
        step_arrays(Step((), chunks), LIMITS)


numbers = st.integers(-2, 10)
chunks = st.builds(
    Chunk,
    token_ids=st.lists(st.integers(-1, 39), max_size=20),
    start=st.integers(-1, 101),
    blocks=st.lists(numbers, max_size=8),
    samples=st.booleans(),
)
copies = st.builds(BlockCopy, source=numbers, target=numbers, tokens=st.integers(-1, 17))


@given(step=st.builds(Step, st.lists(copies, max_size=3).map(tuple), st.lists(chunks, max_size=4).map(tuple)))
def test_what_passes_the_check_is_within_the_limits(step: Step) -> None:
    try:
        arrays = step_arrays(step, LIMITS)
    except InvalidStep:
        return
    rows = [(chunk, at) for chunk in step.chunks for at in range(len(chunk.token_ids))]
    assert list(arrays.token_ids) == [chunk.token_ids[at] for chunk, at in rows]
    assert all(0 <= token_id < LIMITS.vocab for token_id in arrays.token_ids)
    assert list(arrays.positions) == [chunk.start + at for chunk, at in rows]
    assert all(0 <= position < LIMITS.context_tokens for position in arrays.positions)
    for position, table, (chunk, _) in zip(arrays.positions, arrays.row_tables, rows, strict=True):
        assert arrays.blocks[table + position // 16] == chunk.blocks[position // 16]
    assert all(0 <= block < LIMITS.blocks for block in arrays.blocks)
    assert len(arrays.sample_rows) == sum(chunk.samples for chunk in step.chunks)
    for copy in step.copies:
        assert 0 <= copy.source < LIMITS.blocks
        assert 0 <= copy.target < LIMITS.blocks
        assert 0 <= copy.tokens < 16


@pytest.mark.parametrize("name", ["blocks", "context_tokens", "os_threads"])
def test_sizes_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        computer(random_decoder(31), "int8", **{name: 0})


def test_memory_that_there_is_not_is_refused() -> None:
    with pytest.raises(MemoryError, match="KV blocks"):
        computer(random_decoder(31), blocks=1 << 30)
