"""How steps are laid out: everything that a row may see is read for it exactly once, and shared blocks once for all."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from asterism.workers.engine.cuda.plan import (
    GRAPH_SIZES,
    MAX_OWN_PARTS,
    MAX_SHARED_PARTS,
    MIN_SHARED_TOKENS,
    Layout,
    Tile,
    Tiling,
    lay_out,
    padded_size,
    shared_runs,
    unrolled,
)
from asterism.workers.engine.step import BLOCK_TOKENS, Chunk, Step
from tests.engine.cuda.steps import blocks_of, rows_of, steps

TILING = Tiling(kv_heads=2, group=4, window=None, processors=8)


def tilings() -> st.SearchStrategy[Tiling]:
    return st.builds(
        Tiling,
        kv_heads=st.integers(1, 8),
        group=st.sampled_from([1, 4, 7, 64, 200]),
        window=st.none() | st.integers(1, 300),
        processors=st.sampled_from([1, 4, 132]),
    )


def reads(layout: Layout, tiles: list[Tile], window: int | None) -> dict[int, Counter[tuple[int, int]]]:
    """For each row, how often each (slot of the cache) is read for it, and by which part slot."""
    seen: dict[int, Counter[tuple[int, int]]] = {}
    positions = [row.position for row in rows_of(layout)]
    for tile in tiles:
        for row in range(tile.first_row, tile.first_row + tile.rows):
            at = positions[row]
            for position in range(tile.begin, tile.end):
                if position <= at and (window is None or position > at - window):
                    block = layout.tables[tile.table][position // BLOCK_TOKENS]
                    seen.setdefault(row, Counter())[position, block] += 1
    return seen


@given(steps(), tilings(), st.booleans())
def test_each_row_reads_what_it_may_see_once(step: Step, tiling: Tiling, shares: bool) -> None:
    layout = lay_out(step, tiling, scratch=blocks_of(step), reads_shared_once=shares)
    rows = rows_of(layout)
    seen = reads(layout, [*(row.tile for row in rows), *layout.large_tiles], tiling.window)
    row = 0
    for chunk in step.chunks:
        for offset, token_id in enumerate(chunk.token_ids):
            at = chunk.start + offset
            first = 0 if tiling.window is None else max(0, at + 1 - tiling.window)
            expected = {(position, chunk.blocks[position // BLOCK_TOKENS]): 1 for position in range(first, at + 1)}
            assert seen[row] == expected
            assert (rows[row].token_id, rows[row].position, rows[row].limit) == (token_id, at, at + 1)
            assert divmod(rows[row].slot, BLOCK_TOKENS) == (
                chunk.blocks[at // BLOCK_TOKENS],
                at % BLOCK_TOKENS,
            )
            row += 1
    assert row == len(rows)


@given(steps(), tilings())
def test_the_slots_of_a_row_are_those_that_its_tiles_fill(step: Step, tiling: Tiling) -> None:
    layout = lay_out(step, tiling, scratch=blocks_of(step))
    filled: dict[int, list[int]] = {row: [] for row in range(len(rows_of(layout)))}
    for tile in [*(row.tile for row in rows_of(layout)), *layout.large_tiles]:
        for mixed in range(tile.first_row, tile.first_row + tile.rows):
            filled[mixed].extend(range(tile.first_slot, tile.first_slot + tile.parts))
    for number, row in enumerate(rows_of(layout)):
        merged = [*range(row.own_parts), *range(layout.own_slots, layout.own_slots + row.shared_parts)]
        assert sorted(filled[number]) == merged
        assert all(slot < layout.slots for slot in merged)
    assert layout.small_parts >= max(row.tile.parts for row in rows_of(layout))
    assert layout.large_parts >= max((tile.parts for tile in layout.large_tiles), default=0)


@given(steps(), tilings())
def test_what_is_sampled_are_the_ends_of_chunks(step: Step, tiling: Tiling) -> None:
    layout = lay_out(step, tiling, scratch=blocks_of(step))
    wanted = [chunk for chunk in step.chunks if chunk.samples]
    assert len(layout.samples) == len(wanted)
    for row, chunk in zip(layout.samples, wanted, strict=True):
        assert rows_of(layout)[row].position == chunk.start + len(chunk.token_ids) - 1
        assert rows_of(layout)[row].token_id == chunk.token_ids[-1]


@given(steps(decodes_only=True), tilings())
def test_padding_sees_itself_alone_and_writes_to_the_scratch_block(step: Step, tiling: Tiling) -> None:
    scratch = blocks_of(step)
    size = padded_size(len(step.chunks))
    assert size is not None
    layout = lay_out(step, tiling, scratch=scratch, size=size)
    assert len(rows_of(layout)) == len(layout.tables) == size
    for row, table in zip(rows_of(layout)[len(step.chunks) :], layout.tables[len(step.chunks) :], strict=True):
        assert row.slot // BLOCK_TOKENS == scratch
        assert (row.position, row.tile.begin, row.tile.end, row.tile.rows) == (0, 0, 1, 1)
        assert list(table) == [scratch]
    for row in rows_of(layout)[: len(step.chunks)]:
        assert row.slot // BLOCK_TOKENS != scratch
    # What a graph has room for.
    assert layout.own_slots == tiling.own_parts(size) <= MAX_OWN_PARTS
    assert layout.slots <= layout.own_slots + MAX_SHARED_PARTS
    assert len(layout.large_tiles) <= tiling.tile_room(size)


def test_sizes_are_padded_to_the_next_recorded_one() -> None:
    assert [padded_size(rows) for rows in (1, 2, 3, 33, 256)] == [1, 2, 4, 48, 256]
    assert padded_size(GRAPH_SIZES[-1] + 1) is None


def decoding(*shared: int, blocks: int = 40) -> list[Chunk]:
    """A chunk for each number, which is how many blocks it shares with the one before."""
    return [Chunk([1], blocks * BLOCK_TOKENS - 1, range(blocks), True, count) for count in shared]


def test_a_fork_is_one_run() -> None:
    assert list(shared_runs(decoding(0, 32, 32, 32))) == [(0, 4, 32 * BLOCK_TOKENS)]


def test_a_run_shares_what_all_its_chunks_share() -> None:
    assert list(shared_runs(decoding(0, 32, 20, 32))) == [(0, 4, 20 * BLOCK_TOKENS)]


def test_a_chunk_that_shares_little_begins_another_run() -> None:
    assert list(shared_runs(decoding(0, 32, 10, 32))) == [(0, 2, 32 * BLOCK_TOKENS), (2, 2, 32 * BLOCK_TOKENS)]


def test_short_prefixes_and_prompts_are_no_runs() -> None:
    short = MIN_SHARED_TOKENS // BLOCK_TOKENS - 1
    assert list(shared_runs(decoding(0, short, short))) == []
    prompt = Chunk([1, 2], 0, range(40), False, 32)
    first, second = decoding(0, 32)
    assert list(shared_runs([first, prompt, second])) == []


def test_a_shared_prefix_is_read_by_one_tile_for_many_rows() -> None:
    layout = lay_out(Step((), tuple(decoding(*[0, *[32] * 31]))), TILING, scratch=40, size=32)
    assert [(tile.rows, tile.begin, tile.end) for tile in layout.large_tiles] == [(32, 0, 32 * BLOCK_TOKENS)]
    assert {row.tile.begin for row in rows_of(layout)} == {32 * BLOCK_TOKENS}


def test_a_lone_sequence_is_read_in_parts_and_a_full_batch_is_not() -> None:
    lone = lay_out(Step((), tuple(decoding(0))), TILING, scratch=40, size=1)
    assert rows_of(lone)[0].own_parts > 4
    full = lay_out(Step((), tuple(decoding(*[0] * 32))), TILING, scratch=40, size=32)
    assert {row.own_parts for row in rows_of(full)} == {1}


def test_where_tiles_have_no_room_the_runs_that_spare_least_are_read_by_each() -> None:
    long, short = decoding(0, 30, 30), decoding(0, 10, blocks=20)
    chunks = [*short, *long, *short, *short, *short, *decoding(0, 35)]
    layout = lay_out(Step((), tuple(chunks)), Tiling(8, 4, None, 132), scratch=40, size=16)
    assert Tiling(8, 4, None, 132).tile_room(16) == 4
    assert [(tile.first_row, tile.rows, tile.end // BLOCK_TOKENS) for tile in layout.large_tiles] == [
        (0, 2, 10),
        (2, 3, 30),
        (5, 2, 10),
        (11, 2, 35),
    ]
    assert [row.tile.begin // BLOCK_TOKENS for row in rows_of(layout)][5:11] == [10, 10, 0, 0, 0, 0]


@given(steps(), tilings())
def test_an_unrolled_step_reads_the_same_for_the_same_tokens(step: Step, tiling: Tiling) -> None:
    scratch = blocks_of(step)
    layouts = [
        lay_out(Step((), tuple(chunks)), tiling, scratch=scratch) for chunks in (step.chunks, unrolled(step.chunks))
    ]
    rows = [rows_of(layout) for layout in layouts]
    seen = [
        reads(layout, [*(row.tile for row in these), *layout.large_tiles], tiling.window)
        for layout, these in zip(layouts, rows, strict=True)
    ]
    assert seen[0] == seen[1]
    assert layouts[0].samples == layouts[1].samples
    kept = [[(row.token_id, row.position, row.slot) for row in these] for these in rows]
    assert kept[0] == kept[1]


def test_tokens_of_a_long_prompts_end_are_a_run_over_what_is_computed() -> None:
    chunk = Chunk([1, 2, 3], 20 * BLOCK_TOKENS, range(21), True)
    assert list(shared_runs(unrolled([chunk]))) == [(0, 3, 20 * BLOCK_TOKENS)]
