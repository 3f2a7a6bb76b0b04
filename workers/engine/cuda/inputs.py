"""What a step tells the device: a layout's numbers in buffers that graphs read from, sent with few copies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from asterism.workers.engine.cuda.plan import NO_TILE, RECORD, Ints, Layout

MANY_TABLES: Final = 16
"""Rows of block tables that are sent one by one; when more have changed, one copy of all is cheaper. A guess: a copy
costs about 5 us to enqueue, and the link moves the tables of 256 rows of 40,960 positions, 2.6 MB, in about 100."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Views of the device's buffers, and the sizes that the kernels are launched with."""

    records: Tensor
    """int32 [rows, RECORD]."""
    tables: Tensor
    """int32 [chunks, blocks]."""
    large_tiles: Tensor
    """int32 [tiles, 7]."""
    own_slots: int
    slots: int
    small_parts: int
    large_parts: int
    sees_all: bool
    """As in `Layout`."""

    @property
    def token_ids(self) -> Tensor:
        return self.records[:, 0]

    @property
    def positions(self) -> Tensor:
        return self.records[:, 1]

    @property
    def slots_written(self) -> Tensor:
        return self.records[:, 2]

    @property
    def limits(self) -> Tensor:
        return self.records[:, 3]

    @property
    def parts(self) -> Tensor:
        return self.records[:, 4:6]

    @property
    def small_tiles(self) -> Tensor:
        return self.records[:, 6:]

    @property
    def needs_merge(self) -> bool:
        return self.slots > 1


@dataclass(slots=True)
class Sent:
    """What the device has of a row's block table.

    By the rule for `Chunk.blocks` the same list differs at its end alone, so a look costs the same however long it is.
    """

    blocks: Sequence[int] = ()
    length: int = 0
    last: int = -1

    def is_of(self, blocks: Sequence[int]) -> bool:
        return blocks is self.blocks and len(blocks) == self.length and blocks[-1] == self.last

    def take(self, blocks: Sequence[int]) -> int:
        """Notes that `blocks` are sent; gives the first of them that must be."""
        start = max(0, self.length - 1) if blocks is self.blocks else 0
        self.blocks, self.length, self.last = blocks, len(blocks), blocks[-1]
        return start


class Buffers:
    """Fixed places on the device for decoding `rows` sequences of up to `blocks` blocks, and their twins on the host.

    Pinned where there is a GPU, so that copies run while Python goes on; a fill waits until those before it are over.
    """

    def __init__(self, *, rows: int, tiles: int, blocks: int, device: torch.device) -> None:
        is_cuda = device.type == "cuda"

        def pair(*shape: int) -> tuple[Tensor, Tensor]:
            host = torch.zeros(shape, dtype=torch.int32, pin_memory=is_cuda)
            return host, torch.zeros(shape, dtype=torch.int32, device=device)

        # Tiles, then records, in one piece: what a step sends of both is one copy.
        columns = len(NO_TILE.numbers())
        self._records_at = -(-max(1, tiles) * columns // 4) * 4
        self._host_numbers, self._numbers = pair(self._records_at + rows * RECORD)
        self._tiles = self._numbers[: tiles * columns].view(tiles, columns)
        self._records = self._numbers[self._records_at :].view(rows, RECORD)
        self._host_tiles = self._host_numbers.numpy()[: tiles * columns].reshape(tiles, columns)
        self._host_records = self._host_numbers.numpy()[self._records_at :].reshape(rows, RECORD)
        self._host_tiles[:] = NO_TILE.numbers()
        self._tiles_sent = 0
        self._host_tables, self._tables = pair(rows, blocks)
        self._sent = [Sent() for _ in range(rows)]
        self._copied = torch.cuda.Event() if is_cuda else None  # type: ignore[no-untyped-call]  # torch's own gap

    def view(self, size: int, *, tiles: int, own_slots: int, shared_slots: int) -> Inputs:
        """What a graph of `size` rows and `tiles` tiles of many rows reads."""
        return Inputs(
            records=self._records[:size],
            tables=self._tables[:size],
            large_tiles=self._tiles[:tiles],
            own_slots=own_slots,
            slots=own_slots + shared_slots,
            small_parts=own_slots,
            large_parts=shared_slots,
            sees_all=True,
        )

    def fill(self, layout: Layout) -> None:
        """Sends a padded layout: of block tables only what has changed since the last time."""
        if self._copied is not None:
            self._copied.synchronize()
        size, tiles = len(layout.records), len(layout.large_tiles)
        self._host_records[:size] = layout.records
        for number, tile in enumerate(layout.large_tiles):
            self._host_tiles[number] = tile.numbers()
        # Tiles that are left from a step before would be computed again.
        self._host_tiles[tiles : self._tiles_sent] = NO_TILE.numbers()
        self._tiles_sent = tiles
        end = self._records_at + size * RECORD
        self._numbers[:end].copy_(self._host_numbers[:end], non_blocking=True)
        self._send_tables(layout.tables)
        if self._copied is not None:
            self._copied.record()

    def _send_tables(self, tables: Sequence[Sequence[int]]) -> None:
        changed = [number for number, blocks in enumerate(tables) if not self._sent[number].is_of(blocks)]
        if not changed:
            return
        host = self._host_tables.numpy()
        for number in changed:
            blocks = tables[number]
            start = self._sent[number].take(blocks)
            host[number, start : len(blocks)] = blocks[start:]
        if len(changed) > MANY_TABLES:
            self._tables[: len(tables)].copy_(self._host_tables[: len(tables)], non_blocking=True)
            return
        for number in changed:
            end = len(tables[number])
            self._tables[number, :end].copy_(self._host_tables[number, :end], non_blocking=True)


def send(layout: Layout, device: torch.device) -> Inputs:
    """Inputs of a step that no graph is for, in memory of their own."""
    tables = np.zeros((len(layout.tables), max(map(len, layout.tables))), dtype=np.int32)
    for number, blocks in enumerate(layout.tables):
        tables[number, : len(blocks)] = blocks
    large_tiles = np.array([tile.numbers() for tile in layout.large_tiles], dtype=np.int32)

    def on_device(numbers: Ints, columns: int) -> Tensor:
        host = torch.from_numpy(numbers).reshape(-1, columns)
        return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)

    return Inputs(
        records=on_device(layout.records, RECORD),
        tables=on_device(tables, tables.shape[1]),
        large_tiles=on_device(large_tiles, len(NO_TILE.numbers())),
        own_slots=layout.own_slots,
        slots=layout.slots,
        small_parts=layout.small_parts,
        large_parts=layout.large_parts,
        sees_all=layout.sees_all,
    )
