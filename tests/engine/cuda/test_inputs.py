"""What is on the device after steps whose block tables grew, were mended at their ends, moved or are new, and whose
tiles came and went."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from asterism.workers.engine.cuda.inputs import Buffers
from asterism.workers.engine.cuda.plan import NO_TILE, Tiling, lay_out
from asterism.workers.engine.step import BLOCK_TOKENS, Chunk, Step

TILING = Tiling(kv_heads=2, group=4, window=None, processors=8)
ROWS, BLOCKS, SCRATCH = 8, 40, 999


@given(st.data())
def test_the_device_has_the_blocks_of_each_row(data: st.DataObject) -> None:
    buffers = Buffers(rows=ROWS, tiles=TILING.tile_room(ROWS), blocks=BLOCKS, device=torch.device("cpu"))
    view = buffers.view(ROWS, tiles=TILING.tile_room(ROWS), own_slots=1, shared_slots=1)
    fresh = iter(range(100_000))
    tables = [[next(fresh)] for _ in range(ROWS)]
    for _ in range(data.draw(st.integers(2, 12))):
        for number in data.draw(st.lists(st.integers(0, ROWS - 1), max_size=ROWS)):
            change = data.draw(st.sampled_from(["grow", "mend", "new", "move", "copy"]))
            if change == "grow" and len(tables[number]) < BLOCKS:
                tables[number].append(next(fresh))
            elif change == "mend":
                tables[number][-1] = next(fresh)
            elif change == "new":
                tables[number] = [next(fresh) for _ in range(data.draw(st.integers(1, BLOCKS)))]
            elif change == "move":
                tables.append(tables.pop(number))
            else:
                tables[number] = list(tables[number])
        used = data.draw(st.integers(1, ROWS))
        chunks = tuple(
            Chunk([1], len(table) * BLOCK_TOKENS - 1, table, True, data.draw(st.integers(0, min(map(len, pair)) - 1)))
            for table, *pair in zip(tables[:used], tables, [[SCRATCH], *tables], strict=False)
        )
        layout = lay_out(Step((), chunks), TILING, scratch=SCRATCH, size=ROWS)
        buffers.fill(layout)
        found = [row[: len(table)].tolist() for row, table in zip(view.tables, tables[:used], strict=False)]
        assert found == tables[:used]
        tiles = [tile.numbers() for tile in layout.large_tiles]
        assert [tuple(tile) for tile in view.large_tiles.tolist()] == [
            *tiles,
            *[NO_TILE.numbers()] * (len(view.large_tiles) - len(tiles)),
        ]
        assert view.tables[used:, 0].tolist() == [SCRATCH] * (ROWS - used)
        assert torch.equal(view.records, torch.from_numpy(layout.records))
