"""The statements of an append. Each finds its rows by a key, and runs once for all the rows of its kind."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from asterism.orchestrator.core.errors import EPOCH, WrongState
from asterism.orchestrator.core.ids import WorkerId
from asterism.orchestrator.core.records import Record
from asterism.orchestrator.core.request import ConstellationState
from asterism.store.batch import Batch
from asterism.store.changes import Changes, Row
from asterism.store.codec import encode
from asterism.store.prepared import Prepared
from asterism.store.schema import Big, artifacts, constellations, journal, orchestrator, requests, workers

_constellation: Final = constellations.c.constellation == sa.bindparam("of_constellation")


def _insert(table: sa.Table) -> Prepared:
    """All the columns of a new row."""
    return Prepared(sa.insert(table).values(**_values(*table.columns.keys())))


def _values(*names: str) -> dict[str, sa.BindParameter[Any]]:
    return {name: sa.bindparam(name) for name in names}


def _change_constellation(**values: Any) -> Prepared:
    return Prepared(sa.update(constellations).where(_constellation).values(**values))


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
ADD_PAGE: Final = _insert(journal)
ADD_WORKER: Final = _insert(workers)
ADD_REQUEST: Final = _insert(requests)
ADD_CONSTELLATION: Final = _insert(constellations)
COUNT: Final = Prepared(
    sa.update(constellations)
    .where(_constellation, constellations.c.seq < sa.bindparam("first_seq", type_=Big))
    .values(
        seq=sa.bindparam("last_seq", type_=Big),
        revision=constellations.c.revision + sa.bindparam("more_revisions"),
        stars=constellations.c.stars + sa.bindparam("more_stars"),
        stars_terminal=constellations.c.stars_terminal + sa.bindparam("more_terminal"),
    )
)
"""Matches nothing where some of the records are there already."""
COUNT_STOPPING: Final = _change_constellation(stopping=constellations.c.stopping + sa.bindparam("more_stopping"))
END: Final = _change_constellation(**_values("state", "reason", "ended_at"))
ADD_ARTIFACT: Final = _insert(artifacts)


def acquire_epoch(connection: sa.Connection) -> int:
    """Raise the epoch by one, and give it."""
    connection.execute(RAISE_EPOCH)
    epoch: int = connection.execute(READ_EPOCH).scalar_one()
    return epoch


@dataclass(frozen=True, slots=True)
class Rows:
    """What an append writes, which is made before its transaction begins."""

    changes: Changes
    pages: Sequence[Row]


def rows_of(records: Sequence[Record]) -> Rows:
    """The records as the journal keeps them, and what they change beside it."""
    changes = Changes()
    for record in records:
        changes.take(record)
    pages = [{"seq": page.seq, "constellation": page.constellation, "body": page.body} for page in encode(records)]
    return Rows(changes, pages)


def append_rows(connection: sa.Connection, rows: Rows, epoch: int) -> None:
    """Write them; the caller's transaction makes it whole or nothing.

    Raises WrongState where the epoch is not the newest, where a seq is stored already, or where a record is about a
    constellation or a worker that is not.
    """
    changes = rows.changes
    guarded = GUARD, {"of_epoch": epoch, "token": changes.last_token}
    batch = Batch(connection, lambda: hold_epoch(connection, epoch, changes.last_token), guarded)
    if changes.worker_changes:
        batch.begin()
    for worker, row in changes.worker_changes:
        _change_worker(connection, worker, row)
    batch.add(ADD_REQUEST, changes.requests)
    batch.add(ADD_CONSTELLATION, [_first_row(row) for row in changes.requests])
    _count(batch, changes)
    batch.add(ADD_ARTIFACT, changes.artifacts)
    batch.add(ADD_PAGE, rows.pages)
    batch.end()


def hold_epoch(connection: sa.Connection, epoch: int, token: int = 0) -> None:
    """Let no newer epoch begin before the transaction has ended, and keep the fencing token if it is the newest.

    Raises WrongState where the epoch is not the newest.
    """
    if GUARD.run(connection, [{"of_epoch": epoch, "token": token}]) == 0:
        newest = connection.execute(READ_EPOCH).scalar_one()
        raise WrongState(EPOCH, str(epoch), f"not {newest}", "another orchestrator has taken over")


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
        "state": ConstellationState.RUNNING.value,
        "reason": "",
        "ended_at": None,
        "stopping": 0,
    }


def _count(batch: Batch, changes: Changes) -> None:
    counted = [
        {
            "of_constellation": constellation,
            "first_seq": totals.first_seq,
            "last_seq": totals.last_seq,
            "more_revisions": totals.revisions,
            "more_stars": totals.stars,
            "more_terminal": totals.stars_terminal,
        }
        for constellation, totals in changes.totals.items()
    ]
    batch.add(COUNT, counted, must_match=True)
    # Apart, because they are in the partial index of what is live, and change only at ends, and when something is told
    # to stop.
    stopping = [
        {"of_constellation": constellation, "more_stopping": totals.stopping}
        for constellation, totals in changes.totals.items()
        if totals.stopping
    ]
    batch.add(COUNT_STOPPING, stopping)
    batch.add(END, list(changes.ends.values()))
