"""How a step is laid out for a GPU: rows, tiles of attention, and which blocks are read once for many rows. Pure.

A row is one token to compute. A tile is what one group of programs of the attention kernel works on: consecutive rows
that look at the same stretch of the same blocks. A decoding row has a tile of its own; rows of one prompt form tiles;
and rows that share leading blocks form tiles over those blocks, while their own tiles begin behind them (cascade
attention, as in Hydragen, Juravsky et al. 2024, and FlashInfer, Ye et al. 2025). Where few tiles would leave the
device idle, a stretch is split, and the parts are merged by their logarithmic sums (Flash-Decoding, Dao et al. 2023).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from asterism.workers.engine.step import BLOCK_TOKENS, Chunk, Step

TILE_TOKENS: Final = 64
"""Positions that a program reads at a time; a split begins at a multiple of it behind the tile's begin."""

LARGE_QUERIES: Final = 128
"""Queries of a tile of many rows: a row has one for each head of a group that shares a KV head."""

MAX_OWN_PARTS: Final = 32
MAX_SHARED_PARTS: Final = 16

MIN_SHARED_TOKENS: Final = 128
"""Shorter prefixes are read by each row for itself. A guess: a tile more costs a row a part more to merge."""

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


@dataclass(slots=True)
class Row:
    """One token: where its keys and values go (`slot`, in positions of the whole cache), and what it may see."""

    token_id: int
    position: int
    slot: int
    own_parts: int
    shared_parts: int
    tile: Tile

    def numbers(self) -> tuple[int, ...]:
        """As the kernels read it; the fourth is how many positions it may see, itself among them."""
        head = (self.token_id, self.position, self.slot, self.position + 1, self.own_parts, self.shared_parts)
        return *head, *self.tile.numbers()


@dataclass(frozen=True, slots=True)
class Layout:
    """A step as the device computes it."""

    rows: Sequence[Row]
    tables: Sequence[Sequence[int]]
    """Blocks of each chunk."""
    large_tiles: Sequence[Tile]
    samples: Sequence[int]
    """Rows whose logits are wanted, in the order of the chunks."""
    own_slots: int
    """Slots of a row before those of shared stretches."""
    small_parts: int
    large_parts: int
    """Most parts of a small and of a large tile."""

    @property
    def slots(self) -> int:
        """Of each row."""
        return self.own_slots + max((row.shared_parts for row in self.rows), default=0)


def is_decoding(step: Step) -> bool:
    """Whether every chunk is one token whose logits are wanted."""
    return all(len(chunk.token_ids) == 1 and chunk.samples for chunk in step.chunks)


def padded_size(rows: int, sizes: Sequence[int] = GRAPH_SIZES) -> int | None:
    """The smallest of the rising `sizes` that holds so many rows; None when none does."""
    return next((size for size in sizes if size >= rows), None)


def shared_runs(chunks: Sequence[Chunk]) -> Iterable[tuple[int, int, int]]:
    """Runs of decoding chunks that share leading blocks: first chunk, how many, and how many tokens they share.

    A chunk that shares less than half of what its run shares begins another one: two long prefixes read twice are
    less than one short one read for all, and the rest by each.
    """
    first = 0
    while first < len(chunks):
        after, shared = first + 1, 0
        while after < len(chunks) and len(chunks[after].token_ids) == len(chunks[first].token_ids) == 1:
            link = chunks[after].shared_blocks
            if link == 0 or 2 * link < shared:
                break
            shared = min(link, shared) if shared else link
            after += 1
        if after - first > 1 and shared * BLOCK_TOKENS >= MIN_SHARED_TOKENS:
            yield first, after - first, shared * BLOCK_TOKENS
        first = after


def lay_out(
    step: Step, tiling: Tiling, *, scratch: int, size: int | None = None, reads_shared_once: bool = True
) -> Layout:
    """The layout of a step, padded to `size` rows where it is given and the step `is_decoding`.

    Rows of padding write to the block `scratch` and see only themselves.
    """
    chunks = step.chunks
    decoding = size or sum(len(chunk.token_ids) == 1 for chunk in chunks)
    runs = list(shared_runs(chunks)) if reads_shared_once and tiling.window is None else []
    shared = {chunk: tokens for first, count, tokens in runs for chunk in range(first, first + count)}
    large: list[Tile] = []
    prompts = sum(-(-len(chunk.token_ids) // tiling.large_rows) for chunk in chunks if len(chunk.token_ids) > 1)
    prompt_parts = tiling.shared_parts(max(1, prompts))
    own_limit = tiling.own_parts(max(1, decoding))
    if prompts:
        # Every row gets as many slots as the one with most parts, and a prompt has thousands of rows.
        own_limit = min(own_limit, max(prompt_parts, 4))
    rows: list[Row] = []
    first_rows: list[int] = []
    for number, chunk in enumerate(chunks):
        first_rows.append(len(rows))
        if len(chunk.token_ids) == 1:
            begin, end = shared.get(number, _first_seen(chunk.start, tiling.window)), chunk.start + 1
            tile = _tile(len(rows), 1, number, begin, end, parts=own_limit)
            rows.append(_row(chunk, 0, tile.parts, tile))
            continue
        for at in range(0, len(chunk.token_ids), tiling.large_rows):
            count = min(tiling.large_rows, len(chunk.token_ids) - at)
            begin, end = _first_seen(chunk.start + at, tiling.window), chunk.start + at + count
            tile = _tile(len(rows), count, number, begin, end, parts=prompt_parts)
            large.append(tile)
            rows.extend(_row(chunk, at + offset, tile.parts, NO_TILE) for offset in range(count))
    own_slots = max((row.own_parts for row in rows), default=1)
    if size is not None:
        own_slots = own_limit
        for number in range(len(rows), size):
            tile = _tile(number, 1, number, 0, 1, parts=1)
            rows.append(Row(0, 0, scratch * BLOCK_TOKENS, 1, 0, tile))
    run_tiles = sum(-(-count // tiling.large_rows) for _, count, _ in runs)
    run_parts = tiling.shared_parts(max(1, run_tiles))
    for first, count, tokens in runs:
        for at in range(0, count, tiling.large_rows):
            taken = min(tiling.large_rows, count - at)
            first_row = first_rows[first + at]
            tile = _tile(first_row, taken, first, 0, tokens, parts=run_parts, first_slot=own_slots)
            large.append(tile)
            for row in rows[first_row : first_row + taken]:
                row.shared_parts = tile.parts
    tables = [*(chunk.blocks for chunk in chunks), *[(scratch,)] * (len(rows) - len(chunks) if size else 0)]
    return Layout(
        rows=rows,
        tables=tables,
        large_tiles=large,
        samples=[
            first + len(chunk.token_ids) - 1 for first, chunk in zip(first_rows, chunks, strict=True) if chunk.samples
        ],
        own_slots=own_slots,
        small_parts=own_limit if size else max((row.tile.parts for row in rows), default=1),
        large_parts=max((tile.parts for tile in large), default=0),
    )


def _first_seen(position: int, window: int | None) -> int:
    return 0 if window is None else max(0, position + 1 - window)


def _tile(first_row: int, rows: int, table: int, begin: int, end: int, *, parts: int, first_slot: int = 0) -> Tile:
    """At most `parts` parts of whole `TILE_TOKENS`."""
    split = -(-(end - begin) // parts)
    return Tile(first_row, rows, table, begin, end, -(-split // TILE_TOKENS) * TILE_TOKENS, first_slot)


def _row(chunk: Chunk, offset: int, parts: int, tile: Tile) -> Row:
    position = chunk.start + offset
    slot = chunk.blocks[position // BLOCK_TOKENS] * BLOCK_TOKENS + position % BLOCK_TOKENS
    return Row(chunk.token_ids[offset], position, slot, parts, 0, tile)
