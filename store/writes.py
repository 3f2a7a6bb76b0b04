"""The statements of an append. Each finds its rows by a key, and runs once for all the rows of its kind."""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from asterism.orchestrator.core.edits import RemoveStar
from asterism.orchestrator.core.errors import WrongState
from asterism.orchestrator.core.records import EditsApplied, Record
from asterism.orchestrator.core.request import ConstellationState
from asterism.store.changes import SPEC, Changes, Row, edit_spec
from asterism.store.codec import encode
from asterism.store.schema import (
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


READ_EPOCH: Final = sa.select(orchestrator.c.epoch).where(orchestrator.c.id == 1)
RAISE_EPOCH: Final = sa.update(orchestrator).where(orchestrator.c.id == 1).values(epoch=orchestrator.c.epoch + 1)
SET_FENCING_TOKEN: Final = sa.update(orchestrator).where(orchestrator.c.id == 1).values(**_values("last_fencing_token"))
ADD_JOURNAL: Final = sa.insert(journal)
ADD_WORKER: Final = sa.insert(workers)
ADD_REQUEST: Final = sa.insert(requests)
ADD_CONSTELLATION: Final = sa.insert(constellations)
COUNT: Final = (
    sa.update(constellations)
    .where(_constellation)
    .values(
        seq=sa.bindparam("new_seq"),
        stars=constellations.c.stars + sa.bindparam("more_stars"),
        stars_terminal=constellations.c.stars_terminal + sa.bindparam("more_terminal"),
        attempts=constellations.c.attempts + sa.bindparam("more_attempts"),
    )
)
COUNT_STOPPING: Final = (
    sa.update(constellations)
    .where(_constellation)
    .values(stopping=constellations.c.stopping + sa.bindparam("more_stopping"))
)
SET_REVISION: Final = sa.update(constellations).where(_constellation).values(**_values("revision"))
BRING_BACK: Final = (
    sa.update(constellations)
    .where(_constellation, constellations.c.ended_at.is_not(None))
    .values(state=ConstellationState.RUNNING.value, reason="", ended_at=None, **_values("started_at"))
)
END: Final = sa.update(constellations).where(_constellation).values(**_values("state", "reason", "ended_at"))
READ_SPEC: Final = sa.select(stars.c.spec).where(_star)
SET_SPEC: Final = sa.update(stars).where(_star).values(**_values("spec"))
SET_STAR_REVISION: Final = sa.update(stars).where(_star).values(**_values("revision"))
PLACE: Final = sa.update(stars).where(_star).values(**_values("placed_at"))
PLACE_CHILDREN: Final = (
    sa.update(stars)
    .where(
        stars.c.constellation == sa.bindparam("of_constellation"),
        stars.c.star.in_(
            sa.select(lines.c.child).where(
                lines.c.constellation == sa.bindparam("of_constellation"), lines.c.parent == sa.bindparam("of_star")
            )
        ),
    )
    .values(**_values("revision", "placed_at"))
)
REMOVE_LINE: Final = sa.delete(lines).where(
    lines.c.constellation == sa.bindparam("of_constellation"),
    lines.c.child == sa.bindparam("of_child"),
    lines.c.parent == sa.bindparam("of_parent"),
)
REMOVE_LINES_TO: Final = sa.delete(lines).where(
    lines.c.constellation == sa.bindparam("of_constellation"), lines.c.child == sa.bindparam("of_star")
)
REMOVE_LINES_FROM: Final = sa.delete(lines).where(
    lines.c.constellation == sa.bindparam("of_constellation"), lines.c.parent == sa.bindparam("of_star")
)
REMOVE_ATTEMPTS: Final = sa.delete(attempts).where(
    attempts.c.constellation == sa.bindparam("of_constellation"), attempts.c.star == sa.bindparam("of_star")
)
REMOVE_STAR: Final = sa.delete(stars).where(_star)
ADD_STAR: Final = sa.insert(stars)
ADD_LINE: Final = sa.insert(lines)
LEASE: Final = sa.insert(attempts)
END_ATTEMPT: Final = (
    sa.update(attempts).where(_attempt).values(**_values("ended_at", "outcome", "error", "retry_at", "holds_slot"))
)
RELEASE: Final = sa.update(attempts).where(_attempt).values(holds_slot=False)
FINISH: Final = sa.update(stars).where(_star).values(**_values("state", "finished_at", "error", "result"))


def acquire_epoch(connection: sa.Connection) -> int:
    """Raise the epoch by one, and give it."""
    connection.execute(RAISE_EPOCH)
    epoch: int = connection.execute(READ_EPOCH).scalar_one()
    return epoch


def append_records(connection: sa.Connection, records: Sequence[Record], epoch: int) -> None:
    """Write the records and all that they change; the caller's transaction makes it whole or nothing.

    Raises WrongState where the epoch is not the newest, or where a record does not fit what is stored.
    """
    newest = connection.execute(READ_EPOCH).scalar_one()
    if epoch != newest:
        raise WrongState("orchestrator epoch", str(epoch), f"not {newest}", "another orchestrator has taken over")
    try:
        changes = Changes()
        for record in records:
            if isinstance(record, EditsApplied) and any(isinstance(edit, RemoveStar) for edit in record.edits):
                _write(connection, changes)
                changes = Changes()
            changes.take(record)
        _write(connection, changes)
        rows = [encode(record) for record in records]
        _run(
            connection,
            ADD_JOURNAL,
            [
                {"seq": row.seq, "constellation": row.constellation, "kind": row.kind, "at": row.at, "body": row.body}
                for row in rows
            ],
        )
    except sa.exc.IntegrityError as error:
        span = f"{records[0].seq} to {records[-1].seq}"
        raise WrongState("records", span, "not as the store holds them", str(error.orig)) from error


def _write(connection: sa.Connection, changes: Changes) -> None:
    for worker, row in changes.worker_changes:
        change = sa.update(workers).where(workers.c.worker == worker).values(**row)
        if connection.execute(change).rowcount == 0:
            # Only a join says all that a new row needs; anything else about an unknown worker fails here.
            connection.execute(ADD_WORKER, {"worker": worker, "labels": "{}", "is_draining": False, **row})
    _run(connection, ADD_REQUEST, changes.requests)
    _run(connection, ADD_CONSTELLATION, [_first_row(row) for row in changes.requests])
    _count(connection, changes)
    _edit_lines_and_stars(connection, changes)
    _run(connection, LEASE, list(changes.leased.values()))
    _run(connection, END_ATTEMPT, list(changes.ended.values()), must_match=True)
    released = [
        {"of_constellation": constellation, "of_star": star, "of_number": number}
        for (constellation, star), number in changes.released
    ]
    _run(connection, RELEASE, released, must_match=True)
    _run(connection, FINISH, changes.finished, must_match=True)
    if changes.last_fencing_token is not None:
        connection.execute(SET_FENCING_TOKEN, {"last_fencing_token": changes.last_fencing_token})


def _run(connection: sa.Connection, statement: sa.Executable, rows: Sequence[Row], *, must_match: bool = False) -> None:
    """Run a statement for each row. `must_match`: each row is about one that is there, so that no change is lost."""
    if not rows:
        return
    matched = connection.execute(statement, rows).rowcount
    if must_match and matched != len(rows):
        raise WrongState("records", str(statement), "not as the store holds them", f"{matched} of {len(rows)} matched")


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


def _count(connection: sa.Connection, changes: Changes) -> None:
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
    _run(connection, COUNT, counted, must_match=True)
    revised = [
        {"of_constellation": constellation, "revision": totals.revision}
        for constellation, totals in changes.totals.items()
        if totals.revision
    ]
    _run(connection, SET_REVISION, revised)
    # Apart, because it is in the partial index of what is live, and changes only when something is told to stop.
    stopping = [
        {"of_constellation": constellation, "more_stopping": totals.stopping}
        for constellation, totals in changes.totals.items()
        if totals.stopping
    ]
    _run(connection, COUNT_STOPPING, stopping)
    for record in changes.lifecycle:
        row: Row = {"of_constellation": record.constellation}
        if isinstance(record, EditsApplied):
            connection.execute(BRING_BACK, {**row, "started_at": record.at})
        else:
            row |= {"state": record.state.value, "reason": record.reason, "ended_at": record.at}
            connection.execute(END, row)


def _edit_lines_and_stars(connection: sa.Connection, changes: Changes) -> None:
    _run(connection, PLACE_CHILDREN, changes.removed_stars)
    _run(connection, REMOVE_LINE, changes.removed_lines)
    gone = [{"of_constellation": row["of_constellation"], "of_star": row["of_star"]} for row in changes.removed_stars]
    for statement in (REMOVE_LINES_TO, REMOVE_LINES_FROM, REMOVE_ATTEMPTS, REMOVE_STAR):
        _run(connection, statement, gone)
    revised: list[Row] = []
    placed: list[Row] = []
    specified: list[Row] = []
    for (constellation, star), edited in changes.edited.items():
        key = {"of_constellation": constellation, "of_star": star}
        revised.append({**key, "revision": edited.revision})
        if edited.placed_at is not None:
            placed.append({**key, "placed_at": edited.placed_at})
        if edited.spec_edits:
            spec = SPEC.read(connection.execute(READ_SPEC, key).scalar_one())
            for edit in edited.spec_edits:
                spec = edit_spec(spec, edit)
            specified.append({**key, "spec": SPEC.write(spec)})
    _run(connection, SET_STAR_REVISION, revised, must_match=True)
    _run(connection, PLACE, placed)
    _run(connection, SET_SPEC, specified)
    _run(connection, ADD_STAR, [{**row, "spec": SPEC.write(spec)} for spec, row in changes.new_stars.values()])
    _run(connection, ADD_LINE, list(changes.new_lines.values()))
