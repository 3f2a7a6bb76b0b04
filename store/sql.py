"""The store in a database: the seam of `orchestrator/store.py`, each method one transaction."""

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, cast

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.credential import StoredCredential
from asterism.orchestrator.core.edits import count_edits
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.lead import Lead, Led
from asterism.orchestrator.core.records import ConstellationRecord, EditsApplied, Record
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.snapshot import Snapshot, Summary
from asterism.orchestrator.core.values import Artifact
from asterism.store import credentials, forgetting, leading, reads, writes
from asterism.store.database import Synchronous
from asterism.store.location import database_at

MAX_SHORT: Final = 1024
"""Records and edits of an append that need not go to another OS thread: what a full drain of the mailbox leads to, and
some milliseconds of CPU."""


class SqlStore:
    """Everything in SQLite (a path, a `sqlite:` URL, or ":memory:") or in PostgreSQL (a `postgresql:` URL)."""

    def __init__(self, location: str | Path, *, synchronous: Synchronous = "FULL") -> None:
        self._database = database_at(location, synchronous=synchronous)

    async def open(self) -> None:
        """Bring the schema to the newest migration; raises Misconfigured where that is impossible."""
        await self._database.open(exclusive=True)

    async def close(self) -> None:
        """Finish what was asked for, then let go."""
        await self._database.close()

    async def acquire_epoch(self) -> int:
        """Begin a new epoch: from now on an append with an older one is refused."""
        return await self._database.write(writes.acquire_epoch)

    @property
    def is_shared(self) -> bool:
        """Whether several orchestrators may have it open, so that `take_lead` decides which of them leads."""
        return self._database.is_shared

    async def take_lead(self, leader: str, lease_s: float) -> Lead | Led:
        """Begin a new epoch if nobody leads: then our lease runs for `lease_s` from now. For a shared store only."""
        return await self._database.write(lambda connection: leading.take_lead(connection, leader, lease_s))

    async def renew_lead(self, epoch: int, lease_s: float) -> bool:
        """Let the lease begin anew; False where another leads."""
        return await self._database.write(lambda connection: leading.renew_lead(connection, epoch, lease_s))

    async def resign_lead(self, epoch: int) -> None:
        """End the lease, so that another may lead at once."""
        await self._database.write(lambda connection: leading.resign_lead(connection, epoch))

    async def load(self) -> Snapshot:
        """Everything that is live."""
        return await self._database.read(reads.read_snapshot)

    async def append(self, records: Sequence[Record], epoch: int) -> None:
        """Put all of it on disk in one transaction, or raise WrongState and change nothing."""
        if not records:
            return
        is_short = _size(records) <= MAX_SHORT
        rows = writes.rows_of(records) if is_short else await asyncio.to_thread(writes.rows_of, records)
        await self._database.write(lambda connection: writes.append_rows(connection, rows, epoch), is_short=is_short)

    async def forget(
        self, ended_before: float, spared: Collection[ConstellationId], most_stars: int, epoch: int
    ) -> Sequence[ConstellationId]:
        """Remove the oldest of what ended before, of about so many stars; gives those that it took something from."""
        return await self._database.write(
            lambda connection: forgetting.forget(connection, ended_before, spared, most_stars, epoch)
        )

    async def find_constellation(self, constellation: ConstellationId) -> TaskConstellation | None:
        """The whole graph, whatever its state."""
        return await self._database.read(lambda connection: reads.find_constellation(connection, constellation))

    async def find_request(self, owner: str, request_id: str) -> ConstellationId | None:
        """The constellation that `owner` submitted under `request_id`."""
        return await self._database.read(
            lambda connection: reads.find_request(connection, owner, request_id), is_short=True
        )

    async def list_constellations(
        self,
        *,
        owner: str | None,
        states: Collection[ConstellationState],
        before: ConstellationId | None,
        limit: int,
    ) -> list[Summary]:
        """At most `limit`, newest first, older than `before`; no states means all, no owner means everybody's."""
        query = reads.summaries_query(owner, states, before, limit)
        # Without states, each row that is looked at is an answer; with them they may be few of many.
        return await self._database.read(
            lambda connection: reads.list_constellations(connection, query), is_short=not states
        )

    async def read_journal(
        self, constellation: ConstellationId, *, after_seq: int, limit: int
    ) -> list[ConstellationRecord]:
        """At most `limit` records of one constellation after `after_seq`, in order."""
        found = await self._database.read(
            lambda connection: reads.read_journal(connection, constellation, after_seq, limit)
        )
        return cast(list[ConstellationRecord], found)

    async def read_whole_journal(self, *, after_seq: int, limit: int) -> list[Record]:
        """At most `limit` records of everything after `after_seq`, in order: for audit and replay."""
        return await self._database.read(lambda connection: reads.read_journal(connection, None, after_seq, limit))

    async def find_artifact(self, constellation: ConstellationId, star: StarId) -> tuple[str, Artifact] | None:
        """Who owns the request, and the star's result where that is an artifact."""
        return await self._database.read(
            lambda connection: reads.find_artifact(connection, constellation, star), is_short=True
        )

    async def list_artifacts(self) -> set[Artifact]:
        """Every artifact that some star refers to."""
        return await self._database.read(reads.list_artifacts)

    async def add_credential(self, credential: StoredCredential) -> None:
        """Keep it; AlreadyExists where its name is that of one still valid, or its secret is known."""
        await self._database.write(lambda connection: credentials.add_credential(connection, credential))

    async def find_credential(self, secret_sha256: bytes) -> StoredCredential | None:
        """The one with that secret, valid or not."""
        return await self._database.read(
            lambda connection: credentials.find_credential(connection, secret_sha256), is_short=True
        )

    async def list_credentials(self) -> list[StoredCredential]:
        """All of them, oldest first."""
        return await self._database.read(credentials.list_credentials)

    async def revoke_credential(self, name: str, at: float) -> None:
        """End it at once; NotFound where none of that name is left to revoke."""
        await self._database.write(lambda connection: credentials.revoke_credential(connection, name, at))


def _size(records: Sequence[Record]) -> int:
    """Of an append: how much there is to write."""
    return len(records) + sum(count_edits(record.edits) for record in records if isinstance(record, EditsApplied))
