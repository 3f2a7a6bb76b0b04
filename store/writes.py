"""The statements of an append. Each finds its rows by a key, and runs once for all the rows of its kind."""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from asterism.orchestrator.core.edits import RemoveStar
from asterism.orchestrator.core.errors import EPOCH, WrongState
from asterism.orchestrator.core.ids import ConstellationId, StarId, WorkerId
from asterism.orchestrator.core.records import AttemptLeased, EditsApplied, Record
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.star import StarSpec
from asterism.store.batch import Batch
from asterism.store.changes import SPEC, Changes, Row, StarKey, edit_spec, without_nul
from asterism.store.codec import encode
from asterism.store.prepared import Prepared
from asterism.store.schema import (
    Big,
    artifacts,
    attempts,
    constellations,
    journal,
    lines,
    orchestrator,
    requests,
    stars,
    workers,
)

_star: Final = sa.and_(
    stars.c.constellation == sa.bindparam("of_constellation"), stars.c.star == sa.bindparam("of_star")
)
_attempt: Final = sa.and_(
    attempts.c.constellation == sa.bindparam("of_constellation"),
    attempts.c.star == sa.bindparam("of_star"),
    attempts.c.number == sa.bindparam("of_number"),
)
_constellation: Final = constellations.c.constellation == sa.bindparam("of_constellation")


def _values(*names: str) -> dict[str, sa.BindParameter[Any]]:
    return {name: sa.bindparam(name) for name in names}


def _insert(table: sa.Table, *names: str) -> Prepared:
    """All the columns of a new row, or those named."""
    return Prepared(sa.insert(table).values(**_values(*(names or table.columns.keys()))))


def _change_constellation(**values: Any) -> Prepared:
    return Prepared(sa.update(constellations).where(_constellation).values(**values))


def _change_star(*names: str) -> Prepared:
    return Prepared(sa.update(stars).where(_star).values(**_values(*names)))


def _of_star(table: sa.Table, column: str) -> sa.ColumnElement[bool]:
    """The rows of `table` whose `column` is the star."""
    return sa.and_(
        table.c.constellation == sa.bindparam("of_constellation"), table.c[column] == sa.bindparam("of_star")
    )


READ_EPOCH: Final = sa.select(orchestrator.c.epoch).where(orchestrator.c.id == 1)
RAISE_EPOCH: Final = sa.update(orchestrator).where(orchestrator.c.id == 1).values(epoch=orchestrator.c.epoch + 1)
GUARD: Final = Prepared(
    sa.update(orchestrator)
    .where(orchestrator.c.id == 1, orchestrator.c.epoch == sa.bindparam("of_epoch"))
    .values(
        last_fencing_token=sa.case(
            (orchestrator.c.last_fencing_token < sa.bindparam("token", type_=Big), sa.bindparam("token", type_=Big)),
            else_=orchestrator.c.last_fencing_token,
        )
    )
)
"""What every append begins with: where the epoch is not the newest it matches nothing, and where it is no newer one
can begin before the append has ended, for that would change the same row."""
ADD_JOURNAL: Final = _insert(journal)
ADD_WORKER: Final = _insert(workers)
ADD_REQUEST: Final = _insert(requests)
ADD_CONSTELLATION: Final = _insert(constellations)
COUNT: Final = _change_constellation(
    seq=sa.bindparam("new_seq", type_=Big),
    stars=constellations.c.stars + sa.bindparam("more_stars"),
    stars_terminal=constellations.c.stars_terminal + sa.bindparam("more_terminal"),
    attempts=constellations.c.attempts + sa.bindparam("more_attempts"),
)
COUNT_STOPPING: Final = _change_constellation(stopping=constellations.c.stopping + sa.bindparam("more_stopping"))
SET_REVISION: Final = _change_constellation(**_values("revision"))
BRING_BACK: Final = Prepared(
    sa.update(constellations)
    .where(_constellation, constellations.c.ended_at.is_not(None))
    .values(state=ConstellationState.RUNNING.value, reason="", ended_at=sa.null(), **_values("started_at"))
)
END: Final = _change_constellation(**_values("state", "reason", "ended_at"))
READ_SPECS: Final = sa.select(stars.c.star, stars.c.spec).where(
    stars.c.constellation == sa.bindparam("of_constellation"),
    stars.c.star.in_(sa.bindparam("of_stars", expanding=True)),
)
SET_SPEC: Final = _change_star("spec")
SET_STAR_REVISION: Final = _change_star("revision")
PLACE: Final = _change_star("placed_at")
PLACE_CHILDREN: Final = Prepared(
    sa.update(stars)
    .where(
        stars.c.constellation == sa.bindparam("of_constellation"),
        stars.c.star.in_(sa.select(lines.c.child).where(_of_star(lines, "parent"))),
        stars.c.finished_at.is_(None),
    )
    .values(**_values("revision", "placed_at"))
)
REMOVE_LINE: Final = Prepared(
    sa.delete(lines).where(
        lines.c.constellation == sa.bindparam("of_constellation"),
        lines.c.child == sa.bindparam("of_child"),
        lines.c.parent == sa.bindparam("of_parent"),
    )
)
REMOVE_LINES_TO: Final = Prepared(sa.delete(lines).where(_of_star(lines, "child")))
REMOVE_LINES_FROM: Final = Prepared(sa.delete(lines).where(_of_star(lines, "parent")))
REMOVE_ATTEMPTS: Final = Prepared(sa.delete(attempts).where(_of_star(attempts, "star")))
REMOVE_STAR: Final = Prepared(sa.delete(stars).where(_star))
ADD_STAR: Final = _insert(stars, "constellation", "star", "position", "revision", "placed_at", "spec")
ADD_LINE: Final = _insert(lines)
LEASE: Final = _insert(
    attempts, "constellation", "star", "number", "worker", "fencing_token", "leased_at", "holds_slot"
)
END_ATTEMPT: Final = Prepared(
    sa.update(attempts).where(_attempt).values(**_values("ended_at", "outcome", "error", "retry_at", "holds_slot"))
)
RELEASE: Final = Prepared(sa.update(attempts).where(_attempt).values(holds_slot=sa.false()))
FINISH: Final = _change_star("state", "finished_at", "error", "result")
ADD_ARTIFACT: Final = _insert(artifacts)


def acquire_epoch(connection: sa.Connection) -> int:
    """Raise the epoch by one, and give it."""
    connection.execute(RAISE_EPOCH)
    epoch: int = connection.execute(READ_EPOCH).scalar_one()
    return epoch


def append_records(connection: sa.Connection, records: Sequence[Record], epoch: int) -> None:
    """Write the records and all that they change; the caller's transaction makes it whole or nothing.

    Raises WrongState where the epoch is not the newest, or where a record does not fit what is stored.
    """
    token = max((record.fencing_token for record in records if isinstance(record, AttemptLeased)), default=0)
    hold_epoch(connection, epoch, token)
    batch = Batch(connection)
    changes = Changes()
    for record in records:
        if isinstance(record, EditsApplied) and RemoveStar in map(type, record.edits):
            _write(batch, changes)
            batch.flush()
            changes = Changes()
        changes.take(record)
    _write(batch, changes)
    journalled = [
        {"seq": row.seq, "constellation": row.constellation, "kind": row.kind, "at": row.at, "body": row.body}
        for row in map(encode, records)
    ]
    batch.add(ADD_JOURNAL, journalled)
    batch.flush()


def hold_epoch(connection: sa.Connection, epoch: int, token: int = 0) -> None:
    """Let no newer epoch begin before the transaction has ended, and keep the fencing token if it is the newest.

    Raises WrongState where the epoch is not the newest.
    """
    if GUARD.run(connection, [{"of_epoch": epoch, "token": token}]) == 0:
        newest = connection.execute(READ_EPOCH).scalar_one()
        raise WrongState(EPOCH, str(epoch), f"not {newest}", "another orchestrator has taken over")


def _write(batch: Batch, changes: Changes) -> None:
    if changes.worker_changes:
        batch.flush()
    for worker, row in changes.worker_changes:
        _change_worker(batch.connection, worker, row)
    batch.add(ADD_REQUEST, changes.requests)
    batch.add(ADD_CONSTELLATION, [_first_row(row) for row in changes.requests])
    _count(batch, changes)
    _edit_lines_and_stars(batch, changes)
    # An attempt that is new and one that ends are apart, unless it is the same.
    are_apart = changes.leased.keys().isdisjoint(changes.ended)
    batch.add(LEASE, list(changes.leased.values()), touches="new attempts" if are_apart else None)
    batch.add(END_ATTEMPT, list(changes.ended.values()), must_match=True)
    released = [
        {"of_constellation": constellation, "of_star": star, "of_number": number}
        for (constellation, star), number in changes.released
    ]
    batch.add(RELEASE, released, must_match=True)
    batch.add(FINISH, changes.finished, must_match=True)
    batch.add(ADD_ARTIFACT, changes.artifacts)


def _change_worker(connection: sa.Connection, worker: WorkerId, row: Row) -> None:
    """Only a join says all that a new row needs; the operator's labels and drain outlast it."""
    change = sa.update(workers).where(workers.c.worker == worker).values(**row)
    if connection.execute(change).rowcount == 0:
        if "profile" not in row:
            raise WrongState("worker", worker, "unknown", "it has not joined")
        ADD_WORKER.run(connection, [{"worker": worker, "labels": "{}", "is_draining": False, **row}])


def _first_row(request: Row) -> Row:
    return {
        "constellation": request["constellation"],
        "seq": 0,
        "revision": 0,
        "stars": 0,
        "stars_terminal": 0,
        "attempts": 0,
        "started_at": request["created_at"],
        "state": ConstellationState.RUNNING.value,
        "reason": "",
        "ended_at": None,
        "stopping": 0,
    }


def _count(batch: Batch, changes: Changes) -> None:
    counted = [
        {
            "of_constellation": constellation,
            "new_seq": totals.seq,
            "more_stars": totals.stars,
            "more_terminal": totals.stars_terminal,
            "more_attempts": totals.attempts,
        }
        for constellation, totals in changes.totals.items()
    ]
    batch.add(COUNT, counted, must_match=True)
    revised = [
        {"of_constellation": constellation, "revision": totals.revision}
        for constellation, totals in changes.totals.items()
        if totals.revision
    ]
    batch.add(SET_REVISION, revised)
    # Apart, because it is in the partial index of what is live, and changes only when something is told to stop.
    stopping = [
        {"of_constellation": constellation, "more_stopping": totals.stopping}
        for constellation, totals in changes.totals.items()
        if totals.stopping
    ]
    batch.add(COUNT_STOPPING, stopping)
    for record in changes.lifecycle:
        row: Row = {"of_constellation": record.constellation}
        if isinstance(record, EditsApplied):
            batch.add(BRING_BACK, [{**row, "started_at": record.at}])
        else:
            row |= {"state": record.state.value, "reason": without_nul(record.reason), "ended_at": record.at}
            batch.add(END, [row])


def _edit_lines_and_stars(batch: Batch, changes: Changes) -> None:
    if changes.removed_stars:
        batch.flush()  # it reads the lines
    batch.add(PLACE_CHILDREN, changes.removed_stars)
    batch.add(REMOVE_LINE, changes.removed_lines)
    gone = [{"of_constellation": row["of_constellation"], "of_star": row["of_star"]} for row in changes.removed_stars]
    for removal in (REMOVE_LINES_TO, REMOVE_LINES_FROM, REMOVE_ATTEMPTS, REMOVE_STAR):
        batch.add(removal, gone)
    revised: list[Row] = []
    placed: list[Row] = []
    specs = _read_specs(batch, changes)
    specified: list[Row] = []
    for (constellation, star), edited in changes.edited.items():
        key = {"of_constellation": constellation, "of_star": star}
        revised.append({**key, "revision": edited.revision})
        if edited.placed_at is not None:
            placed.append({**key, "placed_at": edited.placed_at})
        if edited.spec_edits:
            spec = specs[constellation, star]
            for edit in edited.spec_edits:
                spec = edit_spec(spec, edit)
            specified.append({**key, "spec": SPEC.write(spec)})
    batch.add(SET_STAR_REVISION, revised, must_match=True)
    batch.add(PLACE, placed)
    batch.add(SET_SPEC, specified)
    batch.add(ADD_STAR, [{**row, "spec": SPEC.write(spec)} for spec, row in changes.new_stars.values()])
    batch.add(ADD_LINE, list(changes.new_lines.values()))


def _read_specs(batch: Batch, changes: Changes) -> dict[StarKey, StarSpec]:
    """What is on disk of the stars whose specifications are edited."""
    wanted: dict[ConstellationId, list[StarId]] = {}
    for (constellation, star), edited in changes.edited.items():
        if edited.spec_edits:
            wanted.setdefault(constellation, []).append(star)
    found: dict[StarKey, StarSpec] = {}
    if wanted:
        batch.flush()
    for constellation, names in wanted.items():
        for row in batch.connection.execute(READ_SPECS, {"of_constellation": constellation, "of_stars": names}):
            found[constellation, row.star] = SPEC.read(row.spec)
    return found
