"""What a batch of records changes beside the journal: what is counted, listed, looked up by a name, or outlives it."""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias, assert_never

from asterism.orchestrator.core.edits import AddStar, RemoveStar
from asterism.orchestrator.core.ids import ConstellationId, WorkerId
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.records import (
    AttemptEnded,
    AttemptLeased,
    ConstellationEnded,
    ConstellationPaused,
    ConstellationRecord,
    EditsApplied,
    EditsRefused,
    Record,
    RequestAccepted,
    SlotReleased,
    StarFinished,
    WorkerDraining,
    WorkerJoined,
    WorkerLabelled,
    WorkerLeft,
)
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.values import Artifact
from asterism.store.plain import Coder, coder
from asterism.store.text import dump

Row: TypeAlias = dict[str, Any]

PROFILE: Final[Coder[WorkerProfile]] = coder(WorkerProfile)


@dataclass(slots=True)
class Totals:
    """What is added to the counters of one constellation."""

    first_seq: int
    last_seq: int
    revisions: int = 0
    stars: int = 0
    stars_terminal: int = 0
    stopping: int = 0


class Changes:
    """The rows of some records, by what is done with them."""

    def __init__(self) -> None:
        self.worker_changes: list[tuple[WorkerId, Row]] = []
        self.requests: list[Row] = []
        self.totals: dict[ConstellationId, Totals] = {}
        self.ends: dict[ConstellationId, Row] = {}
        """How those stand at last that ended or were edited: an edit brings an ended one back."""
        self.artifacts: list[Row] = []
        self.last_token = 0
        """The newest fencing token, or 0."""

    def take(self, record: Record) -> None:
        """Add what one record changes."""
        match record:
            case AttemptLeased():
                self._of(record)
                self.last_token = record.fencing_token
            case StarFinished():
                self._finish(record)
            case EditsApplied():
                self._edit(record)
            case AttemptEnded():
                self._of(record).stopping += not record.releases_slot
            case SlotReleased():
                self._of(record).stopping -= 1
            case RequestAccepted():
                self._accept(record)
            case ConstellationEnded():
                self._of(record)
                self._end(record.constellation, record.state, record.reason, record.at)
            case EditsRefused() | ConstellationPaused():
                self._of(record)
            case WorkerJoined():
                profile = PROFILE.write(record.profile)
                row = {"instance": record.instance, "profile": profile, "has_left": False}
                self.worker_changes.append((record.worker, row))
            case WorkerLeft():
                self.worker_changes.append((record.worker, {"has_left": True}))
            case WorkerDraining():
                self.worker_changes.append((record.worker, {"is_draining": record.is_draining}))
            case WorkerLabelled():
                self.worker_changes.append((record.worker, {"labels": dump(dict(record.labels))}))
            case _:
                assert_never(record)

    def _of(self, record: ConstellationRecord) -> Totals:
        totals = self.totals.get(record.constellation)
        if totals is None:
            totals = self.totals[record.constellation] = Totals(record.seq, record.seq)
        totals.last_seq = record.seq
        return totals

    def _accept(self, record: RequestAccepted) -> None:
        self._of(record)
        self.requests.append(
            {
                "constellation": record.constellation,
                "owner": record.owner,
                "request_id": record.request_id,
                "form": record.request.form,
                "name": without_nul(record.request.name),
                "created_at": record.at,
            }
        )

    def _finish(self, record: StarFinished) -> None:
        totals = self._of(record)
        totals.stars_terminal += 1
        totals.stopping += record.attempt is not None and not record.releases_slot
        if isinstance(record.result, Artifact):
            self.artifacts.append(
                {
                    "constellation": record.constellation,
                    "star": record.star,
                    "sha256": record.result.sha256,
                    "size": record.result.size,
                }
            )

    def _edit(self, record: EditsApplied) -> None:
        totals = self._of(record)
        totals.revisions += 1
        kinds = list(map(type, record.edits))
        totals.stars += kinds.count(AddStar) - kinds.count(RemoveStar)
        self._end(record.constellation, ConstellationState.RUNNING, "", None)

    def _end(
        self, constellation: ConstellationId, state: ConstellationState, reason: str, ended_at: float | None
    ) -> None:
        self.ends[constellation] = {
            "of_constellation": constellation,
            "state": state.value,
            "reason": without_nul(reason),
            "ended_at": ended_at,
        }


def without_nul(text: str) -> str:
    """Free text for a column: PostgreSQL keeps every character but one. JSON escapes it, and so keeps it too."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
