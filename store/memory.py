"""The store without a disk: the journal in a list and its fold beside it. For tests, and for what may be lost."""

from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import replace

from asterism.orchestrator.core.apply import apply
from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.credential import StoredCredential
from asterism.orchestrator.core.errors import EPOCH, AlreadyExists, NotFound, WrongState
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.records import (
    ConstellationRecord,
    Record,
    WorkerDraining,
    WorkerJoined,
    WorkerLabelled,
    WorkerLeft,
)
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.snapshot import Snapshot, StoredWorker, Summary
from asterism.orchestrator.core.state import State
from asterism.orchestrator.core.values import Artifact


class MemoryStore:
    """Keeps everything for as long as it lives; closing and opening it again loses nothing."""

    def __init__(self) -> None:
        self._journal: list[Record] = []
        self._state = State()
        self._base = State()
        """The state when something was last forgotten, and all that came after: what a bad append leaves."""
        self._since_base: list[Record] = []
        self._epoch = 0
        self._credentials: list[StoredCredential] = []

    async def open(self) -> None:
        """There is nothing to prepare."""

    async def close(self) -> None:
        """There is nothing to let go."""

    async def acquire_epoch(self) -> int:
        """Begin a new epoch: from now on an append with an older one is refused."""
        self._epoch += 1
        return self._epoch

    async def load(self) -> Snapshot:
        """Everything that is live."""
        live = [
            constellation
            for constellation in self._newest_last()
            if not constellation.state.is_terminal or _holds_slots(constellation)
        ]
        workers = [
            StoredWorker(
                worker.id, worker.instance, worker.profile, worker.has_left, worker.is_draining, dict(worker.labels)
            )
            for worker in sorted(self._state.workers.values(), key=lambda worker: worker.id)
        ]
        return Snapshot(deepcopy(tuple(live)), tuple(workers), self._state.last_seq, self._state.last_fencing_token)

    async def append(self, records: Sequence[Record], epoch: int) -> None:
        """Keep all of it, or raise WrongState and change nothing."""
        self._hold_epoch(epoch)
        try:
            for record in records:
                if record.seq <= self._state.last_seq:
                    raise WrongState("record", str(record.seq), "stored already", "a seq is used once")
                apply(self._state, record)
        except (KeyError, IndexError, WrongState) as error:
            self._state = deepcopy(self._base)
            for record in self._since_base:
                apply(self._state, record)
            span = f"{records[0].seq} to {records[-1].seq}"
            raise WrongState("records", span, "not as the store holds them", repr(error)) from error
        self._journal.extend(records)
        self._since_base.extend(records)

    async def forget(
        self, ended_before: float, spared: Collection[ConstellationId], most_stars: int, epoch: int
    ) -> Sequence[ConstellationId]:
        """Remove the oldest of what ended before, of about so many stars; gives those that it took something from."""
        self._hold_epoch(epoch)
        gone: list[TaskConstellation] = []
        for constellation in sorted(self._state.constellations.values(), key=lambda one: (one.ended_at or 0.0, one.id)):
            if constellation.ended_at is None or constellation.ended_at >= ended_before:
                continue
            if constellation.id in spared or _holds_slots(constellation):
                continue
            if gone and sum(1 + len(one.stars) for one in (*gone, constellation)) > most_stars:
                break
            gone.append(constellation)
        ids = [constellation.id for constellation in gone]
        self._state.forget(ids)
        self._journal = [record for record in self._journal if not _is_gone(record, ids, ended_before)]
        self._base, self._since_base = deepcopy(self._state), []
        return ids

    async def find_constellation(self, constellation: ConstellationId) -> TaskConstellation | None:
        """The whole graph, whatever its state."""
        return deepcopy(self._state.constellations.get(constellation))

    async def find_request(self, owner: str, request_id: str) -> ConstellationId | None:
        """The constellation that `owner` submitted under `request_id`."""
        return self._state.requests.get((owner, request_id))

    async def list_constellations(
        self,
        *,
        owner: str | None,
        states: Collection[ConstellationState],
        before: ConstellationId | None,
        limit: int,
    ) -> list[Summary]:
        """At most `limit`, newest first, older than `before`; no states means all, no owner means everybody's."""
        found = [
            _summary(constellation)
            for constellation in reversed(self._newest_last())
            if (owner is None or constellation.owner == owner)
            and (not states or constellation.state in states)
            and (before is None or constellation.id < before)
        ]
        return found[:limit]

    async def read_journal(
        self, constellation: ConstellationId, *, after_seq: int, limit: int
    ) -> list[ConstellationRecord]:
        """At most `limit` records of one constellation after `after_seq`, in order."""
        found = [
            record
            for record in self._journal
            if not isinstance(record, WorkerJoined | WorkerLeft | WorkerDraining | WorkerLabelled)
            and record.constellation == constellation
            and record.seq > after_seq
        ]
        return found[:limit]

    async def read_whole_journal(self, *, after_seq: int, limit: int) -> list[Record]:
        """At most `limit` records of everything after `after_seq`, in order: for audit and replay."""
        return [record for record in self._journal if record.seq > after_seq][:limit]

    async def find_artifact(self, constellation: ConstellationId, star: StarId) -> tuple[str, Artifact] | None:
        """Who owns the request, and the star's result where that is an artifact."""
        found = self._state.constellations.get(constellation)
        of = None if found is None else found.stars.get(star)
        if found is None or of is None or not isinstance(of.result, Artifact):
            return None
        return found.owner, of.result

    async def list_artifacts(self) -> set[Artifact]:
        """Every artifact that some star refers to."""
        stars = (star for constellation in self._state.constellations.values() for star in constellation.stars.values())
        return {star.result for star in stars if isinstance(star.result, Artifact)}

    async def add_credential(self, credential: StoredCredential) -> None:
        """Keep it; AlreadyExists where its name is that of one still valid, or its secret is known."""
        for known in self._credentials:
            if known.name == credential.name and known.is_valid(credential.created_at):
                raise AlreadyExists("credential", credential.name, "revoke it first, or take another name")
            if known.secret_sha256 == credential.secret_sha256:
                raise AlreadyExists("credential", credential.name, "its secret is in use; make another")
        self._credentials.append(credential)

    async def find_credential(self, secret_sha256: bytes) -> StoredCredential | None:
        """The one with that secret, valid or not."""
        return next((known for known in self._credentials if known.secret_sha256 == secret_sha256), None)

    async def list_credentials(self) -> list[StoredCredential]:
        """All of them, oldest first."""
        return sorted(self._credentials, key=lambda known: (known.created_at, known.name))

    async def revoke_credential(self, name: str, at: float) -> None:
        """End it at once; NotFound where none of that name is left to revoke."""
        if not any(known.name == name and known.revoked_at is None for known in self._credentials):
            raise NotFound("credential", name)
        self._credentials = [
            replace(known, revoked_at=at) if known.name == name and known.revoked_at is None else known
            for known in self._credentials
        ]

    def _hold_epoch(self, epoch: int) -> None:
        if epoch != self._epoch:
            reason = "another orchestrator has taken over"
            raise WrongState(EPOCH, str(epoch), f"not {self._epoch}", reason)

    def _newest_last(self) -> list[TaskConstellation]:
        return sorted(self._state.constellations.values(), key=lambda constellation: constellation.id)


def _is_gone(record: Record, gone: Sequence[ConstellationId], before: float) -> bool:
    """Whether the journal loses it: what it says of workers is only history, once nothing else is left to forget."""
    if isinstance(record, WorkerJoined | WorkerLeft | WorkerDraining | WorkerLabelled):
        return not gone and record.at < before
    return record.constellation in gone


def _holds_slots(constellation: TaskConstellation) -> bool:
    return any(attempt.holds_slot for star in constellation.stars.values() for attempt in star.attempts)


def _summary(constellation: TaskConstellation) -> Summary:
    return Summary(
        constellation.id,
        constellation.request_id,
        constellation.owner,
        constellation.request.name,
        constellation.request.form,
        constellation.created_at,
        constellation.state,
        constellation.reason,
        constellation.ended_at,
        constellation.revision,
        len(constellation.stars),
        len(constellation.stars) - constellation.unfinished,
    )
