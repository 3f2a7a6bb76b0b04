"""The queries: what is listed comes from its table, and a graph is the fold of its records."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import sqlalchemy as sa

from asterism.orchestrator.core.apply import apply
from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.records import Record
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.snapshot import Snapshot, StoredWorker, Summary
from asterism.orchestrator.core.state import State, Worker
from asterism.orchestrator.core.values import Artifact
from asterism.store.changes import PROFILE
from asterism.store.codec import Page, decode
from asterism.store.plain import read
from asterism.store.schema import (
    LIVE,
    NOBODY,
    artifacts,
    constellations,
    forgotten,
    journal,
    orchestrator,
    requests,
    workers,
)

_IS_OWNED: Final = requests.c.owner != NOBODY
READ_LIVE: Final = (
    sa.select(journal)
    .where(journal.c.constellation.in_(sa.select(constellations.c.constellation).where(sa.text(LIVE))))
    .order_by(journal.c.constellation, journal.c.seq)
)
READ_ONE: Final = (
    sa.select(journal)
    .join(requests, requests.c.constellation == journal.c.constellation)
    .where(journal.c.constellation == sa.bindparam("of_constellation"), _IS_OWNED)
    .order_by(journal.c.seq)
)
PAGES: Final = 16
"""Rows of the journal that are read at a time: each may hold some hundred records."""
_SUMMARY: Final[list[sa.Column[Any]]] = [
    requests.c.constellation,
    requests.c.request_id,
    requests.c.owner,
    requests.c.name,
    requests.c.form,
    requests.c.created_at,
    constellations.c.state,
    constellations.c.reason,
    constellations.c.ended_at,
    constellations.c.revision,
    constellations.c.stars,
    constellations.c.stars_terminal,
]
READ_WORKERS: Final = sa.select(workers).order_by(workers.c.worker)
READ_ORCHESTRATOR: Final = sa.select(orchestrator).where(orchestrator.c.id == 1)
LAST_SEQ: Final = sa.select(sa.func.max(journal.c.seq))
FORGOTTEN_SEQ: Final = sa.select(forgotten.c.last_seq).where(forgotten.c.id == 1)
FIND_REQUEST: Final = sa.select(requests.c.constellation).where(
    requests.c.owner == sa.bindparam("owner"), requests.c.request_id == sa.bindparam("request_id")
)
FIND_ARTIFACT: Final = (
    sa.select(requests.c.owner, artifacts.c.sha256, artifacts.c.size)
    .join(requests, requests.c.constellation == artifacts.c.constellation)
    .where(
        artifacts.c.constellation == sa.bindparam("of_constellation"),
        artifacts.c.star == sa.bindparam("of_star"),
        _IS_OWNED,
    )
)
LIST_ARTIFACTS: Final = sa.select(artifacts.c.sha256, artifacts.c.size)
READ_WHOLE_JOURNAL: Final = (
    sa.select(journal)
    .where(journal.c.seq > sa.bindparam("after_seq"))
    .order_by(journal.c.seq)
    .limit(sa.bindparam("at_most"))
)
READ_JOURNAL: Final = READ_WHOLE_JOURNAL.where(journal.c.constellation == sa.bindparam("of_constellation"))


def read_snapshot(connection: sa.Connection) -> Snapshot:
    """Everything that is live; the caller's transaction makes it one picture."""
    head = connection.execute(READ_ORCHESTRATOR).one()
    known = read_workers(connection)
    return Snapshot(
        tuple(_fold(known, connection.execute(READ_LIVE)).constellations.values()),
        tuple(known),
        max(connection.execute(LAST_SEQ).scalar_one() or 0, connection.execute(FORGOTTEN_SEQ).scalar_one()),
        FencingToken(head.last_fencing_token),
    )


def read_workers(connection: sa.Connection) -> list[StoredWorker]:
    """All that are known, by name."""
    return [
        StoredWorker(
            WorkerId(row.worker),
            row.instance,
            PROFILE.read(row.profile),
            row.has_left,
            row.is_draining,
            read(row.labels),
        )
        for row in connection.execute(READ_WORKERS)
    ]


def find_constellation(connection: sa.Connection, constellation: ConstellationId) -> TaskConstellation | None:
    """One whole graph."""
    pages = connection.execute(READ_ONE, {"of_constellation": constellation}).all()
    if not pages:
        return None
    return _fold(read_workers(connection), pages).constellations[constellation]


def _fold(known: Sequence[StoredWorker], pages: Iterable[sa.Row[Any]]) -> State:
    """What the records of some constellations, each one's in order, lead to."""
    state = State()
    for stored in known:
        state.workers[stored.id] = Worker(stored.id, stored.instance, stored.profile)
    for row in pages:
        for record in decode(Page(row.seq, row.constellation, row.body)):
            apply(state, record)
    return state


def find_artifact(
    connection: sa.Connection, constellation: ConstellationId, star: StarId
) -> tuple[str, Artifact] | None:
    """Who owns the request, and the star's result where that is an artifact."""
    row = connection.execute(FIND_ARTIFACT, {"of_constellation": constellation, "of_star": star}).one_or_none()
    return None if row is None else (row.owner, Artifact(row.sha256, row.size))


def list_artifacts(connection: sa.Connection) -> set[Artifact]:
    """Every artifact that some star refers to."""
    return {Artifact(row.sha256, row.size) for row in connection.execute(LIST_ARTIFACTS)}


def find_request(connection: sa.Connection, owner: str, request_id: str) -> ConstellationId | None:
    """The constellation that `owner` submitted under `request_id`."""
    found = connection.execute(FIND_REQUEST, {"owner": owner, "request_id": request_id}).scalar_one_or_none()
    return None if found is None else ConstellationId(found)


def summaries_query(
    owner: str | None, states: Collection[ConstellationState], before: ConstellationId | None, limit: int
) -> sa.Select[Any]:
    """Newest first: along the key of `requests`, or along its index by owner."""
    query = (
        sa.select(*_SUMMARY)
        .join(constellations, constellations.c.constellation == requests.c.constellation)
        .where(_IS_OWNED if owner is None else requests.c.owner == owner)
        .order_by(requests.c.constellation.desc())
        .limit(limit)
    )
    if states:
        query = query.where(constellations.c.state.in_(sorted(state.value for state in states)))
    if before is not None:
        query = query.where(requests.c.constellation < before)
    return query


def list_constellations(connection: sa.Connection, query: sa.Select[Any]) -> list[Summary]:
    """The rows of `summaries_query`."""
    return [
        Summary(
            ConstellationId(row.constellation),
            row.request_id,
            row.owner,
            row.name,
            row.form,
            row.created_at,
            ConstellationState(row.state),
            row.reason,
            row.ended_at,
            row.revision,
            row.stars,
            row.stars_terminal,
        )
        for row in connection.execute(query)
    ]


def read_journal(
    connection: sa.Connection, constellation: ConstellationId | None, after_seq: int, limit: int
) -> list[Record]:
    """At most `limit` records after `after_seq`, of one constellation or (None) of everything."""
    return list(islice(_records(connection, constellation, after_seq), limit))


def _records(connection: sa.Connection, constellation: ConstellationId | None, after_seq: int) -> Iterator[Record]:
    values: dict[str, Any] = {"at_most": PAGES}
    query = READ_WHOLE_JOURNAL
    if constellation is not None:
        values["of_constellation"] = constellation
        query = READ_JOURNAL
    seq, is_there_more = after_seq, True
    while is_there_more:
        rows = connection.execute(query, {**values, "after_seq": seq}).all()
        for row in rows:
            yield from decode(Page(row.seq, row.constellation, row.body), after_seq=after_seq)
            seq = row.seq
        is_there_more = len(rows) == PAGES
