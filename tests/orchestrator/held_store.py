"""A store that a test can hold up."""

import asyncio
from collections.abc import Sequence

from asterism.orchestrator.core.records import Record
from asterism.store.memory import MemoryStore


class DiskFull(Exception):
    """What the store below raises when it is told to."""


class HeldStore(MemoryStore):
    """A store whose appends wait until they are let go, as on a slow disk, or fail, as on a full one."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[Record]] = []
        self.may_append = asyncio.Event()
        self.may_append.set()
        self.is_appending = asyncio.Event()
        self.is_full = False

    async def append(self, records: Sequence[Record], epoch: int) -> None:
        """Wait, then append; keeps what each append held."""
        self.is_appending.set()
        await self.may_append.wait()
        self.is_appending.clear()
        if self.is_full:
            raise DiskFull
        self.batches.append(list(records))
        await super().append(records, epoch)
