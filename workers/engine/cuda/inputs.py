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


class Buffers:
    """Fixed places on the device for decoding `rows` sequences of up to `blocks` blocks, and their twins on the host.

    Pinned where there is a GPU, so that copies run while Python goes on; a fill waits until those before it are over.
    """

    def __init__(self, *, rows: int, tiles: int, blocks: int, device: torch.device) -> None:
        is_cuda = device.type == "cuda"

        def pair(*shape: int) -> tuple[Tensor, Tensor]:
            host = torch.zeros(shape, dtype=torch.int32, pin_memory=is_cuda)
            return host, torch.zeros(shape, dtype=torch.int32, device=device)

        self._host_records, self._records = pair(rows, RECORD)
        self._host_tables, self._tables = pair(rows, blocks)
        self._host_tiles, self._tiles = pair(max(1, tiles), len(NO_TILE.numbers()))
        self._sent: list[list[int]] = [[] for _ in range(rows)]
        self._tiles_sent = len(self._tiles)  # of the first step: nothing of what lies there is a tile
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
        )

    def fill(self, layout: Layout) -> None:
        """Sends a padded layout: of block tables only what has changed since the last time."""
        if self._copied is not None:
            self._copied.synchronize()
        size = len(layout.records)
        self._host_records.numpy()[:size] = layout.records
        self._records[:size].copy_(self._host_records[:size], non_blocking=True)
        self._send_tiles([tile.numbers() for tile in layout.large_tiles])
        self._send_tables(layout.tables)
        if self._copied is not None:
            self._copied.record()

    def _send_tiles(self, tiles: list[tuple[int, ...]]) -> None:
        # Tiles that are left from a step before would be computed again, so these are overwritten.
        end = max(len(tiles), self._tiles_sent)
        self._tiles_sent = len(tiles)
        if end:
            self._host_tiles.numpy()[:end] = tiles + [NO_TILE.numbers()] * (end - len(tiles))
            self._tiles[:end].copy_(self._host_tiles[:end], non_blocking=True)

    def _send_tables(self, tables: Sequence[Sequence[int]]) -> None:
        host = self._host_tables.numpy()
        changed = []
        for number, blocks in enumerate(tables):
            known = self._sent[number]
            if blocks == known:
                continue
            # A sequence that grew keeps its first blocks: a long table is not turned into an array for one more.
            start = len(known) if list(blocks[: len(known)]) == known else 0
            self._sent[number] = list(blocks)
            host[number, start : len(blocks)] = blocks[start:]
            changed.append(number)
        if len(changed) > MANY_TABLES:
            self._tables[: len(tables)].copy_(self._host_tables[: len(tables)], non_blocking=True)
            return
        for number in changed:
            end = len(self._sent[number])
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
    )
