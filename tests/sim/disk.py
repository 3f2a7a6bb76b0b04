"""The database that outlives every process: SQLite in memory behind the real store, and what can go wrong with it."""

import asyncio
import random
import sqlite3
from collections.abc import Collection, Sequence
from typing import Protocol

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.credential import StoredCredential
from asterism.orchestrator.core.errors import Unreachable
from asterism.orchestrator.core.ids import ConstellationId
from asterism.orchestrator.core.lead import Lead, Led
from asterism.orchestrator.core.records import ConstellationRecord, Record
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.snapshot import Snapshot, Summary
from asterism.store.sql import SqlStore
from tests.sim.processes import Process


class DiskFull(Exception):
    """The append did not land."""


class FalseAlarm(Exception):
    """The append landed, and the database says that it failed."""


class BlankStore(SqlStore):
    """A store in memory that can be made as new: migrations take longer than a schedule."""

    def __init__(self) -> None:
        super().__init__(":memory:", synchronous="NORMAL")
        self._blank = b""
        self._raw: sqlite3.Connection | None = None

    async def open(self) -> None:
        await super().open()
        # Outside of any transaction, so that it can be replaced later.
        self._raw = await self._database.read(lambda connection: connection.connection.driver_connection)
        assert self._raw is not None
        self._blank = self._raw.serialize()

    def wipe(self) -> None:
        """Nothing was ever stored."""
        assert self._raw is not None
        if self._raw.in_transaction:
            self._raw.rollback()
        self._raw.deserialize(self._blank)


class Witness(Protocol):
    """Is told of everything that lands, as it lands."""

    def raised(self, epoch: int) -> None: ...
    async def committed(self, process: Process, records: Sequence[Record], epoch: int) -> None: ...
    def forgot(self, gone: Sequence[ConstellationId], before: float, epoch: int) -> None: ...


class Disk:
    """What all processes share."""

    def __init__(self, store: BlankStore, rng: random.Random, witness: Witness) -> None:
        self.store = store
        self.rng = rng
        self.witness = witness
        self.full_until = 0.0
        self.slow_until = 0.0
        self.false_alarms = 0
        """How many of the next commits land and are reported as failed."""
        self.cut_off: dict[str, float] = {}
        """Machines that do not reach the database, and until when; only where it is a server."""
        self.leader = ""
        self.lead_epoch = 0
        self.lead_ends_at = 0.0
        """By the clock of the database."""
        self.clock_ahead_s = 0.0

    def now(self) -> float:
        """What the database takes the time to be."""
        return asyncio.get_running_loop().time() + self.clock_ahead_s

    def heal(self) -> None:
        """From now on all is well."""
        self.full_until = self.slow_until = 0.0
        self.false_alarms = 0
        self.cut_off.clear()

    async def reach(self, process: Process) -> None:
        """What every statement begins with: it takes time, and where the database is out of reach it ends so."""
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(self.rng.uniform(0.5, 3.0) if now < self.slow_until else self.rng.uniform(0.0001, 0.003))
        if process.is_dead:
            raise asyncio.CancelledError
        if asyncio.get_running_loop().time() < self.cut_off.get(process.machine, 0.0):
            raise Unreachable("database", "cut off")


class DiskHandle:
    """One process's view of it: the seams `OpenStore` and `LeaseStore`."""

    def __init__(self, disk: Disk, process: Process, *, is_shared: bool) -> None:
        self._disk = disk
        self._process = process
        self._is_shared = is_shared

    @property
    def is_shared(self) -> bool:
        return self._is_shared

    async def open(self) -> None:
        """It is."""

    async def close(self) -> None:
        """Others use it."""

    async def acquire_epoch(self) -> int:
        await self._disk.reach(self._process)
        if asyncio.get_running_loop().time() < self._disk.full_until:
            raise DiskFull
        epoch = await self._disk.store.acquire_epoch()
        self._disk.witness.raised(epoch)
        return epoch

    async def append(self, records: Sequence[Record], epoch: int) -> None:
        disk, process = self._disk, self._process
        await process.point("before commit")
        await disk.reach(process)
        if asyncio.get_running_loop().time() < disk.full_until:
            raise DiskFull
        await disk.store.append(records, epoch)
        await disk.witness.committed(process, records, epoch)
        if disk.false_alarms:
            disk.false_alarms -= 1
            raise FalseAlarm
        await process.point("after commit")
        await disk.reach(process)

    async def forget(
        self, ended_before: float, spared: Collection[ConstellationId], most_stars: int, epoch: int
    ) -> Sequence[ConstellationId]:
        disk, process = self._disk, self._process
        await disk.reach(process)
        if asyncio.get_running_loop().time() < disk.full_until:
            raise DiskFull
        await process.point("before forgetting")
        gone = await disk.store.forget(ended_before, spared, most_stars, epoch)
        disk.witness.forgot(gone, ended_before, epoch)
        if disk.false_alarms:
            disk.false_alarms -= 1
            raise FalseAlarm
        await process.point("after forgetting")
        await disk.reach(process)
        return gone

    async def take_lead(self, leader: str, lease_s: float) -> Lead | Led:
        disk = self._disk
        await disk.reach(self._process)
        now = disk.now()
        if disk.lead_ends_at > now:
            return Led(disk.leader, disk.lead_ends_at - now)
        epoch = await disk.store.acquire_epoch()
        disk.witness.raised(epoch)
        disk.leader, disk.lead_epoch, disk.lead_ends_at = leader, epoch, now + lease_s
        await disk.reach(self._process)
        return Lead(epoch)

    async def renew_lead(self, epoch: int, lease_s: float) -> bool:
        await self._disk.reach(self._process)
        if self._disk.lead_epoch != epoch:
            return False
        self._disk.lead_ends_at = self._disk.now() + lease_s
        return True

    async def resign_lead(self, epoch: int) -> None:
        await self._disk.reach(self._process)
        if self._disk.lead_epoch == epoch:
            self._disk.lead_ends_at = 0.0

    async def load(self) -> Snapshot:
        await self._disk.reach(self._process)
        return await self._disk.store.load()

    async def find_constellation(self, constellation: ConstellationId) -> TaskConstellation | None:
        await self._disk.reach(self._process)
        return await self._disk.store.find_constellation(constellation)

    async def find_request(self, owner: str, request_id: str) -> ConstellationId | None:
        await self._disk.reach(self._process)
        return await self._disk.store.find_request(owner, request_id)

    async def list_constellations(
        self,
        *,
        owner: str | None,
        states: Collection[ConstellationState],
        before: ConstellationId | None,
        limit: int,
    ) -> list[Summary]:
        await self._disk.reach(self._process)
        return await self._disk.store.list_constellations(owner=owner, states=states, before=before, limit=limit)

    async def read_journal(
        self, constellation: ConstellationId, *, after_seq: int, limit: int
    ) -> list[ConstellationRecord]:
        await self._disk.reach(self._process)
        return await self._disk.store.read_journal(constellation, after_seq=after_seq, limit=limit)

    async def read_whole_journal(self, *, after_seq: int, limit: int) -> list[Record]:
        await self._disk.reach(self._process)
        return await self._disk.store.read_whole_journal(after_seq=after_seq, limit=limit)

    async def find_credential(self, secret_sha256: bytes) -> StoredCredential | None:
        return None

    async def list_credentials(self) -> Sequence[StoredCredential]:
        return ()
