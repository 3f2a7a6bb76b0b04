"""The seam to what keeps state: one append for each drain of the mailbox, and queries that see only what is on disk."""

from collections.abc import Collection, Sequence
from typing import Protocol

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.credential import StoredCredential
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.records import ConstellationRecord, Record
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.snapshot import Snapshot, Summary
from asterism.orchestrator.core.values import Artifact


class Store(Protocol):
    """Keeps constellations, workers and the journal. One writer: the loop."""

    async def open(self) -> None:
        """Bring the schema to the newest migration; raises Misconfigured where that is impossible."""

    async def close(self) -> None:
        """Finish what was asked for, then let go."""

    async def load(self) -> Snapshot:
        """Everything that is live."""

    async def append(self, records: Sequence[Record], epoch: int) -> None:
        """Put all of it on disk in one transaction, or raise and change nothing.

        WrongState where the epoch is not the newest, where a seq is stored already, or for a record about a
        constellation or a worker that is not. Whether a record fits the graph is the machine's business.
        """

    async def forget(
        self, ended_before: float, spared: Collection[ConstellationId], most_stars: int, epoch: int
    ) -> Sequence[ConstellationId]:
        """Remove constellations that ended before then, those first that ended first, and old news of workers.

        Never one that is spared, or of which an attempt still holds a slot. A call takes about `most_stars` stars, and
        gives the constellations that it took something from: none when nothing is left. They are not found any more,
        in whole or in part, and their request_ids may be used again; the journal's sequence numbers go on.
        """
        ...

    async def find_constellation(self, constellation: ConstellationId) -> TaskConstellation | None:
        """The whole graph, whatever its state."""

    async def find_request(self, owner: str, request_id: str) -> ConstellationId | None:
        """The constellation that `owner` submitted under `request_id`."""

    async def list_constellations(
        self,
        *,
        owner: str | None,
        states: Collection[ConstellationState],
        before: ConstellationId | None,
        limit: int,
    ) -> list[Summary]:
        """At most `limit`, newest first, older than `before`; no states means all, no owner means everybody's."""

    async def read_journal(
        self, constellation: ConstellationId, *, after_seq: int, limit: int
    ) -> list[ConstellationRecord]:
        """At most `limit` records of one constellation after `after_seq`, in order."""

    async def read_whole_journal(self, *, after_seq: int, limit: int) -> list[Record]:
        """At most `limit` records of everything after `after_seq`, in order: for audit and replay."""


class OpenStore(Store, Protocol):
    """What the orchestrator as a whole needs of a store, beyond what the loop does."""

    async def acquire_epoch(self) -> int:
        """Become the writer: earlier ones are refused from now on."""

    async def find_artifact(self, constellation: ConstellationId, star: StarId) -> tuple[str, Artifact] | None:
        """Who owns the request, and the star's result where that is an artifact."""

    async def find_credential(self, secret_sha256: bytes) -> StoredCredential | None:
        """The credential with that secret."""

    async def list_credentials(self) -> Sequence[StoredCredential]:
        """All of them, revoked and ended ones too."""
