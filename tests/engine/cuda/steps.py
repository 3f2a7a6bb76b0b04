"""Random steps over blocks, as a scheduler would write them, for a model of `vocab` tokens."""

from dataclasses import dataclass

from hypothesis import strategies as st

from asterism.workers.engine.cuda.plan import Layout, Tile
from asterism.workers.engine.step import BLOCK_TOKENS, Chunk, Step


@st.composite
def steps(draw: st.DrawFn, *, vocab: int = 30, max_context: int = 400, decodes_only: bool = False) -> Step:
    """Chunks whose leading blocks may be those of the chunk before; no two write to one block."""
    chunks: list[Chunk] = []
    blocks_used = 0
    for _ in range(draw(st.integers(1, 6))):
        length = 1 if decodes_only else draw(st.sampled_from([1, 1, 1, 2, 37]))
        start = draw(st.integers(0, max_context))
        count = -(-(start + length) // BLOCK_TOKENS)
        own = list(range(blocks_used, blocks_used + count))
        blocks_used += count
        shared = 0
        may_share: bool = draw(st.booleans())
        if chunks and may_share:
            # Only blocks that are full before the step, of this chunk and of the one before.
            most = min(start // BLOCK_TOKENS, chunks[-1].start // BLOCK_TOKENS)
            shared = draw(st.integers(0, most))
            own[:shared] = chunks[-1].blocks[:shared]
        token_ids = draw(st.lists(st.integers(0, vocab - 1), min_size=length, max_size=length))
        samples = True if decodes_only else draw(st.booleans())
        chunks.append(Chunk(token_ids, start, own, samples, shared))
    return Step((), tuple(chunks))


def blocks_of(step: Step) -> int:
    return 1 + max(block for chunk in step.chunks for block in chunk.blocks)


@dataclass(frozen=True, slots=True)
class Row:
    """A record of a layout by the names of its numbers."""

    token_id: int
    position: int
    slot: int
    limit: int
    own_parts: int
    shared_parts: int
    tile: Tile


def rows_of(layout: Layout) -> list[Row]:
    rows: list[Row] = []
    for token_id, position, slot, limit, own_parts, shared_parts, *tile in layout.records.tolist():
        rows.append(Row(token_id, position, slot, limit, own_parts, shared_parts, Tile(*tile)))
    return rows
