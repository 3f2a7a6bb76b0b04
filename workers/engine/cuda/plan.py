"""How a step is laid out for a GPU: rows, tiles of attention, and which blocks are read once for many rows. Pure.

A row is one token to compute. A tile is what one group of programs of the attention kernel works on: consecutive rows
that look at the same stretch of the same blocks. A decoding row has a tile of its own; rows of one prompt form tiles;
and rows that share leading blocks form tiles over those blocks, while their own tiles begin behind them (cascade
attention, as in Hydragen, Juravsky et al. 2024, and FlashInfer, Ye et al. 2025). Where few tiles would leave the
device idle, a stretch is split, and the parts are merged by their logarithmic sums (Flash-Decoding, Dao et al. 2023).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from asterism.workers.engine.step import BLOCK_TOKENS, Chunk, Step

Ints = NDArray[np.int32]

RECORD: Final = 13
"""Numbers of a row: token, position, the slot in the cache that its keys and values go to, how many positions it may
see (itself among them), its own parts, its shared parts, and the seven of its own tile."""

TILE_TOKENS: Final = 64
"""Positions that a program reads at a time; a split begins at a multiple of it behind the tile's begin."""

LARGE_QUERIES: Final = 128
"""Queries of a tile of many rows: a row has one for each head of a group that shares a KV head."""

MAX_OWN_PARTS: Final = 32
MAX_SHARED_PARTS: Final = 11
"""On an H200 attention of the table's fork takes 32.4, 30.6, 30.8, 31.4, 33.4 and 34.8 us a layer with 8, 10, 11, 12,
13 and 16."""

MIN_SHARED_TOKENS: Final = 128
"""Shorter prefixes are read by each row for itself. A guess: a tile more costs a row a part more to merge."""

UNROLLED_SIZES: Final = (32, 64, 128, 256)
"""Graph sizes that there are however few may decode: a step of up to so many tokens is computed as if all of them were
decoding. Launching its kernels one by one takes longer than reading the same keys for each token of a short prompt; a
guess, not measured."""

GRAPH_SIZES: Final = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Rows for which decoding is recorded; what is between is padded. Doubling below, and by halves where rows are many."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """What the layout depends on, of a model and its device."""

    kv_heads: int
    group: int
    """Query heads for each KV head."""
    window: int | None
    processors: int
    """Streaming multiprocessors; two programs on each keep a device busy."""

    @property
    def large_rows(self) -> int:
        return max(1, LARGE_QUERIES // self.group)

    def own_parts(self, rows: int) -> int:
        """Into how many parts the stretch of a decoding row may be split, when there are so many rows."""
        return min(MAX_OWN_PARTS, max(1, -(-2 * self.processors // (rows * self.kv_heads))))

    def tile_room(self, rows: int) -> int:
        """Tiles of many rows that a graph of so many rows has room for: what is empty still costs a launch each."""
        return min(rows // 2, max(4, 2 * -(-rows // self.large_rows)))

    def shared_parts(self, tiles: int) -> int:
        """The same for tiles of many rows."""
        return min(MAX_SHARED_PARTS, max(1, -(-self.processors // (tiles * self.kv_heads))))


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows `first_row` to `first_row` + `rows` - 1 look at positions `begin` to `end` - 1 of a chunk's blocks.

    Each row only at those that it may see. Part p is `split_tokens` long and leaves its result in slot
    `first_slot` + p of each row. No rows: nothing to do.
    """

    first_row: int
    rows: int
    table: int
    begin: int
    end: int
    split_tokens: int
    first_slot: int

    @property
    def parts(self) -> int:
        return -(-(self.end - self.begin) // self.split_tokens) if self.rows else 0

    def numbers(self) -> tuple[int, ...]:
        return self.first_row, self.rows, self.table, self.begin, self.end, self.split_tokens, self.first_slot


NO_TILE: Final = Tile(0, 0, 0, 0, 0, 1, 0)


@dataclass(frozen=True, slots=True)
class Layout:
    """A step as the device computes it."""

    records: Ints
    """[rows, RECORD]. A row whose tile has many rows has the numbers of `NO_TILE`."""
    tables: Sequence[Sequence[int]]
    """Blocks of each chunk."""
    large_tiles: Sequence[Tile]
    samples: Sequence[int]
    """Rows whose logits are wanted, in the order of the chunks."""
    own_slots: int
    """Slots of a row before those of shared stretches."""
    shared_slots: int
    small_parts: int
    large_parts: int
    """Most parts of a small and of a large tile."""

    sees_all: bool
    """Whether each row sees every position of its tiles: so it is where none belongs to a prompt."""

    @property
    def slots(self) -> int:
        """Of each row."""
        return self.own_slots + self.shared_slots


def unrolled(chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    """The same tokens, each as a chunk of its own: what a graph for decoding can compute.

    A step stores all its keys and values before it looks at any, so the tokens of a prompt find those before them.
    They share what was computed before the step.
    """
    if all(len(chunk.token_ids) == 1 for chunk in chunks):
        return chunks
    rows: list[Chunk] = []
    for chunk in chunks:
        last = len(chunk.token_ids) - 1
        for offset, token_id in enumerate(chunk.token_ids):
            shared = chunk.start // BLOCK_TOKENS if offset else chunk.shared_blocks
            samples = chunk.samples and offset == last
            rows.append(Chunk([token_id], chunk.start + offset, chunk.blocks, samples, shared))
    return rows


def padded_size(rows: int, sizes: Sequence[int] = GRAPH_SIZES) -> int | None:
    """The smallest of the rising `sizes` that holds so many rows; None when none does."""
    return next((size for size in sizes if size >= rows), None)


Run = tuple[int, int, int]
"""First chunk, how many chunks, and how many tokens they share."""


def shared_runs(chunks: Sequence[Chunk]) -> Iterable[Run]:
    """Runs of decoding chunks that share leading blocks.

    A chunk that shares less than half of what its run shares begins another one: two long prefixes read twice are
    less than one short one read for all, and the rest by each.
    """
    links = [chunk.shared_blocks if len(chunk.token_ids) == 1 else 0 for chunk in chunks]
    if not any(links):
        return
    first, shared, may_follow = 0, 0, False
    for number, link in enumerate([*links, 0]):
        if link == 0 or not may_follow or 2 * link < shared:
            if shared * BLOCK_TOKENS >= MIN_SHARED_TOKENS:
                yield first, number - first, shared * BLOCK_TOKENS
            first, shared = number, 0
        else:
            shared = min(link, shared) if shared else link
        may_follow = number < len(chunks) and len(chunks[number].token_ids) == 1


def lay_out(
    step: Step, tiling: Tiling, *, scratch: int, size: int | None = None, reads_shared_once: bool = True
) -> Layout:
    """The layout of a step, padded to `size` rows where it is given and every chunk is one token.

    Rows of padding write to the block `scratch` and see only themselves. Columns are computed for all decoding rows at
    once.
    """
    chunks = step.chunks
    runs = list(shared_runs(chunks)) if reads_shared_once and tiling.window is None else []
    if size is not None:
        return _padded(chunks, runs, tiling, scratch, size)
    lengths = [len(chunk.token_ids) for chunk in chunks]
    singles = [number for number, length in enumerate(lengths) if length == 1]
    prompts = sum(-(-length // tiling.large_rows) for length in lengths if length > 1)
    prompt_parts = tiling.shared_parts(max(1, prompts))
    own_limit = tiling.own_parts(max(1, len(singles)))
    if prompts:
        # Every row gets as many slots as the one with most parts, and a prompt has thousands of rows.
        own_limit = min(own_limit, max(prompt_parts, 4))
    first_rows = np.cumsum([0, *lengths])
    records = np.zeros((int(first_rows[-1]), RECORD), dtype=np.int32)
    records[:, 11] = 1  # split_tokens of NO_TILE
    if singles:
        at = first_rows[singles]
        records[at, 6], records[at, 7], records[at, 8] = at, 1, singles
        begins = _begins(runs, len(chunks))[singles]
        records[at] = _singles(records[at], [chunks[number] for number in singles], begins, own_limit, tiling.window)
    large: list[Tile] = []
    for number, length in enumerate(lengths):
        if length > 1:
            large += _fill_prompt(records, chunks[number], number, int(first_rows[number]), prompt_parts, tiling)
    # Large tiles of prompts count as own parts, so only now is it known where shared ones begin.
    own_slots = int(records[:, 4].max(initial=1))
    shared = _fill_shared(records, runs, first_rows, tiling, own_slots)
    large += shared
    return Layout(
        records=records,
        tables=[chunk.blocks for chunk in chunks],
        large_tiles=large,
        samples=[int(first_rows[number + 1]) - 1 for number, chunk in enumerate(chunks) if chunk.samples],
        own_slots=own_slots,
        shared_slots=max((tile.parts for tile in shared), default=0),
        small_parts=int(records[first_rows[singles], 4].max(initial=1)),
        large_parts=max((tile.parts for tile in large), default=0),
        sees_all=not prompts,
    )


def _padded(chunks: Sequence[Chunk], runs: Sequence[Run], tiling: Tiling, scratch: int, size: int) -> Layout:
    """The layout of chunks of one token, for a graph of `size` rows: what every step of an answer waits for."""
    runs = _best_runs(runs, tiling, tiling.tile_room(size))
    own_slots = tiling.own_parts(size)
    records = _padding(size, scratch).copy()
    if chunks:
        rows = records[: len(chunks)]
        _singles(rows, chunks, _begins(runs, len(chunks)), own_slots, tiling.window)
    large = _fill_shared(records, runs, range(len(chunks)), tiling, own_slots)
    parts = max((tile.parts for tile in large), default=0)
    return Layout(
        records=records,
        tables=[*[chunk.blocks for chunk in chunks], *[_scratch_table(scratch)] * (size - len(chunks))],
        large_tiles=large,
        samples=[row for row, chunk in enumerate(chunks) if chunk.samples],
        own_slots=own_slots,
        shared_slots=parts,
        small_parts=own_slots,
        large_parts=parts,
        sees_all=True,
    )


@lru_cache
def _padding(size: int, scratch: int) -> Ints:
    """Records of rows that write to the block `scratch` and see only themselves. Not to be written to."""
    records = np.zeros((size, RECORD), dtype=np.int32)
    records[:] = (0, 0, scratch * BLOCK_TOKENS, 1, 1, 0, 0, 1, 0, 0, 1, TILE_TOKENS, 0)
    records[:, 6] = records[:, 8] = np.arange(size)
    return records


@lru_cache
def _scratch_table(scratch: int) -> Sequence[int]:
    """One and the same each time, so that it is known as sent."""
    return (scratch,)


def _begins(runs: Sequence[Run], chunks: int) -> NDArray[np.int_]:
    """Where the own stretch of each chunk begins: behind what its run shares."""
    begins = np.zeros(chunks, dtype=np.int_)
    for first, count, tokens in runs:
        begins[first : first + count] = tokens
    return begins


def _best_runs(runs: Sequence[Run], tiling: Tiling, room: int) -> list[Run]:
    """Those that spare most reads, in as many tiles as there is room for; rows of the others read for themselves."""
    kept: list[Run] = []
    for run in sorted(runs, key=lambda run: (1 - run[1]) * run[2]):
        tiles = -(-run[1] // tiling.large_rows)
        if tiles <= room:
            room -= tiles
            kept.append(run)
    return sorted(kept)


def _singles(
    records: Ints, chunks: Sequence[Chunk], begins: NDArray[np.int_], own_limit: int, window: int | None
) -> Ints:
    """Fills and gives records of chunks of one token, each with a tile of its own, but for their rows and tables."""
    starts = [chunk.start for chunk in chunks]
    position = np.array(starts)
    block = np.array([chunk.blocks[start // BLOCK_TOKENS] for chunk, start in zip(chunks, starts, strict=True)])
    end = position + 1
    if window is not None:
        begins = np.maximum(0, end - window)
    tokens = end - begins
    split = _whole_tiles(-(-tokens // own_limit))
    records[:, 0] = [chunk.token_ids[0] for chunk in chunks]
    records[:, 1] = position
    records[:, 2] = block * BLOCK_TOKENS + position % BLOCK_TOKENS
    records[:, 3] = records[:, 10] = end
    records[:, 4] = -(-tokens // split)
    records[:, 9] = begins
    records[:, 11] = split
    return records


def _fill_prompt(
    records: Ints, chunk: Chunk, number: int, first_row: int, parts: int, tiling: Tiling
) -> Iterable[Tile]:
    """The rows of a chunk of several tokens, and their tiles."""
    count = len(chunk.token_ids)
    position = np.arange(chunk.start, chunk.start + count)
    rows = records[first_row : first_row + count]
    rows[:, 0] = chunk.token_ids
    rows[:, 1] = position
    rows[:, 2] = np.array(chunk.blocks)[position // BLOCK_TOKENS] * BLOCK_TOKENS + position % BLOCK_TOKENS
    rows[:, 3] = position + 1
    for at in range(0, count, tiling.large_rows):
        taken = min(tiling.large_rows, count - at)
        begin = 0 if tiling.window is None else max(0, chunk.start + at + 1 - tiling.window)
        tile = _tile(first_row + at, taken, number, begin, chunk.start + at + taken, parts=parts)
        rows[at : at + taken, 4] = tile.parts
        yield tile


def _fill_shared(
    records: Ints, runs: Sequence[Run], first_rows: Sequence[int] | NDArray[np.int_], tiling: Tiling, first_slot: int
) -> list[Tile]:
    """Tiles over the blocks that the rows of a run share, and how many parts their rows have of them."""
    parts = tiling.shared_parts(max(1, sum(-(-count // tiling.large_rows) for _, count, _ in runs)))
    tiles = [
        _tile(int(first_rows[first + at]), min(tiling.large_rows, count - at), first, 0, tokens, parts, first_slot)
        for first, count, tokens in runs
        for at in range(0, count, tiling.large_rows)
    ]
    for tile in tiles:
        records[tile.first_row : tile.first_row + tile.rows, 5] = tile.parts
    return tiles


def _tile(first_row: int, rows: int, table: int, begin: int, end: int, parts: int, first_slot: int = 0) -> Tile:
    """At most `parts` parts of whole `TILE_TOKENS`."""
    split = -(-(end - begin) // parts)
    return Tile(first_row, rows, table, begin, end, -(-split // TILE_TOKENS) * TILE_TOKENS, first_slot)


def _whole_tiles(tokens: NDArray[np.int_]) -> NDArray[np.int_]:
    return -(-tokens // TILE_TOKENS) * TILE_TOKENS
