"""What a step tells the device: a layout's numbers in buffers that graphs read from, sent with few copies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from asterism.workers.engine.cuda.plan import NO_TILE, Layout

RECORD: Final = 13
"""Numbers of a row: token, position, slot, limit, own parts, shared parts, and the seven of its own tile."""

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

    def __init__(self, *, rows: int, blocks: int, device: torch.device) -> None:
        is_cuda = device.type == "cuda"

        def pair(*shape: int) -> tuple[Tensor, Tensor]:
            host = torch.zeros(shape, dtype=torch.int32, pin_memory=is_cuda)
            return host, torch.zeros(shape, dtype=torch.int32, device=device)

        self._host_records, self._records = pair(rows, RECORD)
        self._host_tables, self._tables = pair(rows, blocks)
        self._host_tiles, self._tiles = pair(max(1, rows // 2), len(NO_TILE.numbers()))
        self._sent: list[Sequence[int]] = [()] * rows
        self._copied = torch.cuda.Event() if is_cuda else None  # type: ignore[no-untyped-call]  # torch's own gap

    def view(self, size: int, *, own_slots: int, shared_slots: int) -> Inputs:
        """What a graph of `size` rows reads. Without shared slots it has no tiles of many rows."""
        return Inputs(
            records=self._records[:size],
            tables=self._tables[:size],
            large_tiles=self._tiles[: size // 2 if shared_slots else 0],
            own_slots=own_slots,
            slots=own_slots + shared_slots,
            small_parts=own_slots,
            large_parts=shared_slots,
        )

    def fill(self, layout: Layout) -> None:
        """Sends a padded layout. Of block tables only what has changed since the last time."""
        if self._copied is not None:
            self._copied.synchronize()
        size = len(layout.rows)
        self._host_records[:size] = torch.tensor([row.numbers() for row in layout.rows], dtype=torch.int32)
        self._records[:size].copy_(self._host_records[:size], non_blocking=True)
        # Tiles that are left from a step before would be computed again, so all of them are sent.
        tiles = [tile.numbers() for tile in layout.large_tiles]
        tiles += [NO_TILE.numbers()] * (len(self._host_tiles) - len(tiles))
        self._host_tiles.copy_(torch.tensor(tiles, dtype=torch.int32))
        self._tiles.copy_(self._host_tiles, non_blocking=True)
        self._send_tables(layout.tables)
        if self._copied is not None:
            self._copied.record()

    def _send_tables(self, tables: Sequence[Sequence[int]]) -> None:
        changed = []
        for number, blocks in enumerate(tables):
            known = tuple(blocks)
            if known != self._sent[number]:
                self._host_tables[number, : len(known)] = torch.tensor(known, dtype=torch.int32)
                self._sent[number] = known
                changed.append(number)
        if len(changed) > MANY_TABLES:
            self._tables[: len(tables)].copy_(self._host_tables[: len(tables)], non_blocking=True)
            return
        for number in changed:
            end = len(self._sent[number])
            self._tables[number, :end].copy_(self._host_tables[number, :end], non_blocking=True)


def send(layout: Layout, device: torch.device) -> Inputs:
    """Inputs of a step that no graph is for, in memory of their own."""
    width = max(map(len, layout.tables))
    tables = [[*blocks, *[0] * (width - len(blocks))] for blocks in layout.tables]

    def on_device(numbers: Sequence[Sequence[int]], columns: int) -> Tensor:
        host = torch.tensor(numbers, dtype=torch.int32).reshape(-1, columns)
        return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)

    return Inputs(
        records=on_device([row.numbers() for row in layout.rows], RECORD),
        tables=on_device(tables, width),
        large_tiles=on_device([tile.numbers() for tile in layout.large_tiles], len(NO_TILE.numbers())),
        own_slots=layout.own_slots,
        slots=layout.slots,
        small_parts=layout.small_parts,
        large_parts=layout.large_parts,
    )
