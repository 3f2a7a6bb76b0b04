"""What a batch of records changes in the tables: records are taken in turn, rows come out grouped by statement."""

from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias, assert_never

from asterism.orchestrator.core.condition import Condition
from asterism.orchestrator.core.edits import (
    AddLine,
    AddStar,
    CancelStar,
    Edit,
    RebindInputs,
    RemoveLine,
    RemoveStar,
    UpdateStar,
    update_spec,
)
from asterism.orchestrator.core.ids import ConstellationId, StarId, WorkerId
from asterism.orchestrator.core.line import TaskStarLine
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.records import (
    AttemptEnded,
    AttemptLeased,
    ConstellationEnded,
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
from asterism.orchestrator.core.request import Budget, Request
from asterism.orchestrator.core.star import AttemptOutcome, StarError, StarSpec
from asterism.orchestrator.core.values import Artifact
from asterism.store.plain import Coder, coder
from asterism.store.text import dump, dump_value

Row: TypeAlias = dict[str, Any]
StarKey: TypeAlias = tuple[ConstellationId, StarId]
SpecEdit: TypeAlias = UpdateStar | RebindInputs

BATCH: Final = 2**20
"""More edits than one record may hold: a position is the record's seq and, in the lowest 20 bits, the edit's place."""

SPEC: Final[Coder[StarSpec]] = coder(StarSpec)
ERROR: Final[Coder[StarError]] = coder(StarError)
CONDITION: Final[Coder[Condition]] = coder(Condition)
REQUEST: Final[Coder[Request]] = coder(Request)
BUDGET: Final[Coder[Budget]] = coder(Budget)
PROFILE: Final[Coder[WorkerProfile]] = coder(WorkerProfile)


@dataclass(slots=True)
class Totals:
    """What is added to the counters of one constellation."""

    seq: int
    revision: int = 0
    """The newest, or 0 where it did not change."""
    stars: int = 0
    stars_terminal: int = 0
    attempts: int = 0
    stopping: int = 0


@dataclass(slots=True)
class Edited:
    """A star from before the batch that some edit touched."""

    revision: int
    placed_at: float | None = None
    """None where its lines stayed as they were."""
    spec_edits: list[SpecEdit] = field(default_factory=list)
    """To be done, in order, to the specification on disk."""


class Changes:
    """The rows of some records. Its parts are written in the order of the attributes.

    That order is the records' own as far as it matters, as long as no record but the first removes stars: the others
    may be about a star of the same name before and after.
    """

    def __init__(self) -> None:
        self.worker_changes: list[tuple[WorkerId, Row]] = []
        self.requests: list[Row] = []
        self.totals: dict[ConstellationId, Totals] = {}
        self.lifecycle: list[EditsApplied | ConstellationEnded] = []
        """In order: an edit brings an ended constellation back."""
        self.removed_lines: list[Row] = []
        self.removed_stars: list[Row] = []
        self.edited: dict[StarKey, Edited] = {}
        self.new_stars: dict[StarKey, tuple[StarSpec, Row]] = {}
        self.new_lines: dict[tuple[ConstellationId, StarId, StarId], Row] = {}
        self.leased: dict[tuple[StarKey, int], Row] = {}
        self.ended: dict[tuple[StarKey, int], Row] = {}
        self.released: dict[tuple[StarKey, int], None] = {}
        self.finished: list[Row] = []
        self.artifacts: list[Row] = []

    def take(self, record: Record) -> None:
        """Add what one record changes."""
        match record:
            case AttemptLeased():
                self._lease(record)
            case StarFinished():
                self._finish(record)
            case EditsApplied():
                self._edit(record)
            case AttemptEnded():
                self._of(record)
                self._end(record, record.attempt, record.outcome, record.error, record.retry_at)
            case SlotReleased():
                self._of(record).stopping -= 1
                self.released[(record.constellation, record.star), record.attempt] = None
            case RequestAccepted():
                self._accept(record)
            case ConstellationEnded():
                self._of(record)
                self.lifecycle.append(record)
            case EditsRefused():
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
            totals = self.totals[record.constellation] = Totals(record.seq)
        totals.seq = record.seq
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
                "budget": BUDGET.write(record.budget),
                "request": REQUEST.write(record.request),
            }
        )

    def _lease(self, record: AttemptLeased) -> None:
        self._of(record).attempts += 1
        self.leased[(record.constellation, record.star), record.attempt] = {
            "constellation": record.constellation,
            "star": record.star,
            "number": record.attempt,
            "worker": record.worker,
            "fencing_token": record.fencing_token,
            "leased_at": record.at,
            "holds_slot": True,
        }

    def _finish(self, record: StarFinished) -> None:
        self._of(record).stars_terminal += 1
        if record.attempt is not None and record.outcome is not None:
            self._end(record, record.attempt, record.outcome, record.error, None)
        result = record.result
        if isinstance(result, Artifact):
            self.artifacts.append(
                {
                    "constellation": record.constellation,
                    "star": record.star,
                    "sha256": result.sha256,
                    "size": result.size,
                }
            )
            result = None
        self.finished.append(
            {
                "of_constellation": record.constellation,
                "of_star": record.star,
                "state": record.state.value,
                "finished_at": record.at,
                "error": None if record.error is None else ERROR.write(record.error),
                "result": dump_value(result),
            }
        )

    def _end(
        self,
        record: AttemptEnded | StarFinished,
        attempt: int,
        outcome: AttemptOutcome,
        error: StarError | None,
        retry_at: float | None,
    ) -> None:
        if not record.releases_slot:
            self.totals[record.constellation].stopping += 1
        self.ended[(record.constellation, record.star), attempt] = {
            "of_constellation": record.constellation,
            "of_star": record.star,
            "of_number": attempt,
            "ended_at": record.at,
            "outcome": outcome.value,
            "error": None if error is None else ERROR.write(error),
            "retry_at": retry_at,
            "holds_slot": not record.releases_slot,
        }

    def _edit(self, record: EditsApplied) -> None:
        totals = self._of(record)
        totals.revision = record.revision
        self.lifecycle.append(record)
        for index, edit in enumerate(record.edits):
            self._edit_one(record, totals, edit, record.seq * BATCH + index)

    def _edit_one(self, record: EditsApplied, totals: Totals, edit: Edit, position: int) -> None:
        constellation = record.constellation
        match edit:
            case AddStar(spec):
                totals.stars += 1
                row = {
                    "constellation": constellation,
                    "star": spec.id,
                    "position": position,
                    "revision": record.revision,
                    "placed_at": record.at,
                }
                self.new_stars[constellation, spec.id] = (spec, row)
            case RemoveStar(star):
                totals.stars -= 1
                self._remove_star(record, star)
            case AddLine(line):
                self._touch(record, line.child, places=True)
                self.new_lines[constellation, line.child, line.parent] = _line_row(constellation, line, position)
            case RemoveLine(parent, child):
                self._touch(record, child, places=True)
                self.new_lines.pop((constellation, child, parent), None)
                self.removed_lines.append({"of_constellation": constellation, "of_child": child, "of_parent": parent})
            case UpdateStar() | RebindInputs():
                self._edit_spec(record, edit)
            case CancelStar():
                pass
            case _:
                assert_never(edit)

    def _remove_star(self, record: EditsApplied, star: StarId) -> None:
        """Its lines go with it, those on disk too; the children that lose one count as edited."""
        constellation = record.constellation
        self.new_stars.pop((constellation, star), None)
        self.edited.pop((constellation, star), None)
        for key in [key for key in self.new_lines if key[0] == constellation and star in key[1:]]:
            del self.new_lines[key]
        self.removed_stars.append(
            {"of_constellation": constellation, "of_star": star, "revision": record.revision, "placed_at": record.at}
        )

    def _touch(self, record: EditsApplied, star: StarId, *, places: bool) -> Edited | None:
        """Note that the star was edited (`places`: its lines were); gives the note, or None for a new star."""
        new = self.new_stars.get((record.constellation, star))
        if new is not None:
            new[1]["revision"] = record.revision
            if places:
                new[1]["placed_at"] = record.at
            return None
        edited = self.edited.setdefault((record.constellation, star), Edited(record.revision))
        edited.revision = record.revision
        if places:
            edited.placed_at = record.at
        return edited

    def _edit_spec(self, record: EditsApplied, edit: SpecEdit) -> None:
        edited = self._touch(record, edit.star, places=False)
        if edited is not None:
            edited.spec_edits.append(edit)
        else:
            spec, row = self.new_stars[record.constellation, edit.star]
            self.new_stars[record.constellation, edit.star] = (edit_spec(spec, edit), row)


def without_nul(text: str) -> str:
    """Free text for a column: PostgreSQL keeps every character but one. JSON escapes it, and so keeps it too."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def edit_spec(spec: StarSpec, edit: SpecEdit) -> StarSpec:
    """The specification as the edit leaves it."""
    match edit:
        case UpdateStar():
            return update_spec(spec, edit)
        case RebindInputs():
            return replace(spec, inputs={**spec.inputs, **edit.inputs})
        case _:
            assert_never(edit)


def _line_row(constellation: ConstellationId, line: TaskStarLine, position: int) -> Row:
    return {
        "constellation": constellation,
        "child": line.child,
        "parent": line.parent,
        "position": position,
        "kind": line.kind.value,
        "condition": None if line.condition is None else CONDITION.write(line.condition),
    }
