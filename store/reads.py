"""The queries: the tables read back into the core's nouns, everything that is not stored recomputed."""

from collections.abc import Collection, Iterable
from typing import Any, Final

import sqlalchemy as sa

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.records import Record
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.snapshot import Snapshot, StoredWorker, Summary
from asterism.orchestrator.core.star import Attempt, AttemptOutcome, StarState, TaskStar
from asterism.orchestrator.core.values import Artifact
from asterism.store.changes import BUDGET, CONDITION, ERROR, PROFILE, REQUEST, SPEC
from asterism.store.codec import JournalRow, decode
from asterism.store.plain import read
from asterism.store.schema import (
    LIVE,
    NOBODY,
    artifacts,
    attempts,
    constellations,
    forgotten,
    journal,
    lines,
    orchestrator,
    requests,
    stars,
    workers,
)

_IS_LIVE: Final = sa.text(LIVE)
_IS_NAMED: Final = constellations.c.constellation == sa.bindparam("of_constellation")
_IS_OWNED: Final = requests.c.owner != NOBODY


def _rows_of(table: sa.Table, chosen: sa.ColumnElement[bool] | sa.TextClause, *order: sa.Column[Any]) -> sa.Select[Any]:
    """The rows of `table` that belong to the chosen constellations, one constellation after the other."""
    ids = sa.select(constellations.c.constellation).where(chosen)
    return sa.select(table).where(table.c.constellation.in_(ids)).order_by(table.c.constellation, *order)


def _graph_queries(
    chosen: sa.ColumnElement[bool] | sa.TextClause, *of_request: sa.ColumnElement[bool]
) -> tuple[sa.Select[Any], ...]:
    head = (
        sa.select(constellations, *(column for column in requests.c if column.name != "constellation"))
        .join(requests, requests.c.constellation == constellations.c.constellation)
        .where(chosen, *of_request)
        .order_by(constellations.c.constellation)
    )
    return (
        head,
        _rows_of(stars, chosen, stars.c.position),
        _rows_of(lines, chosen, lines.c.position),
        _rows_of(attempts, chosen, attempts.c.star, attempts.c.number),
        _rows_of(artifacts, chosen),
    )


LIVE_GRAPHS: Final = _graph_queries(_IS_LIVE)
ONE_GRAPH: Final = _graph_queries(_IS_NAMED, _IS_OWNED)
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
    known = tuple(
        StoredWorker(
            WorkerId(row.worker),
            row.instance,
            PROFILE.read(row.profile),
            row.has_left,
            row.is_draining,
            read(row.labels),
        )
        for row in connection.execute(READ_WORKERS)
    )
    return Snapshot(
        tuple(_read_graphs(connection, LIVE_GRAPHS, {})),
        known,
        max(connection.execute(LAST_SEQ).scalar_one() or 0, connection.execute(FORGOTTEN_SEQ).scalar_one()),
        FencingToken(head.last_fencing_token),
    )


def find_constellation(connection: sa.Connection, constellation: ConstellationId) -> TaskConstellation | None:
    """One whole graph."""
    return next(iter(_read_graphs(connection, ONE_GRAPH, {"of_constellation": constellation})), None)


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
    values: dict[str, Any] = {"after_seq": after_seq, "at_most": limit}
    if constellation is None:
        found = connection.execute(READ_WHOLE_JOURNAL, values)
    else:
        found = connection.execute(READ_JOURNAL, {**values, "of_constellation": constellation})
    return [decode(JournalRow(row.seq, row.constellation, row.kind, row.at, row.body)) for row in found]


def _read_graphs(
    connection: sa.Connection, queries: tuple[sa.Select[Any], ...], values: dict[str, Any]
) -> Iterable[TaskConstellation]:
    head, *rest = queries
    found = {row.constellation: _constellation(row) for row in connection.execute(head, values)}
    if not found:
        return ()
    star_rows, line_rows, attempt_rows, artifact_rows = (connection.execute(query, values) for query in rest)
    placed_at: dict[tuple[str, str], float] = {}
    for row in star_rows:
        found[row.constellation].stars[StarId(row.star)] = _star(row)
        placed_at[row.constellation, row.star] = row.placed_at
    for row in line_rows:
        _add_line(found[row.constellation], row)
    for row in attempt_rows:
        _add_attempt(found[row.constellation].stars[StarId(row.star)], row)
    for row in artifact_rows:
        found[row.constellation].stars[StarId(row.star)].result = Artifact(row.sha256, row.size)
    for constellation in found.values():
        for star in constellation.stars.values():
            _settle(constellation, star, placed_at[constellation.id, star.spec.id])
    return found.values()


def _constellation(row: sa.Row[Any]) -> TaskConstellation:
    return TaskConstellation(
        ConstellationId(row.constellation),
        row.request_id,
        row.owner,
        REQUEST.read(row.request),
        BUDGET.read(row.budget),
        row.created_at,
        row.started_at,
        revision=row.revision,
        state=ConstellationState(row.state),
        reason=row.reason,
        ended_at=row.ended_at,
        attempts=row.attempts,
        seq=row.seq,
    )


def _star(row: sa.Row[Any]) -> TaskStar:
    """The star as its row tells; what is not terminal is settled when its lines and attempts are known."""
    star = TaskStar(SPEC.read(row.spec), StarState.WAITING, row.revision)
    if row.state is not None:
        star.state = StarState(row.state)
        star.finished_at = row.finished_at
        star.result = read(row.result)
        star.error = None if row.error is None else ERROR.read(row.error)
    return star


def _add_line(constellation: TaskConstellation, row: sa.Row[Any]) -> None:
    parent, child = StarId(row.parent), StarId(row.child)
    condition = None if row.condition is None else CONDITION.read(row.condition)
    line = TaskStarLine(parent, child, LineKind(row.kind), condition)
    constellation.parents.setdefault(child, {})[parent] = line
    constellation.children.setdefault(parent, {})[child] = line
    if not constellation.stars[parent].state.is_terminal:
        constellation.stars[child].unmet += 1


def _add_attempt(star: TaskStar, row: sa.Row[Any]) -> None:
    """In the order of their numbers: only the last one's backoff still counts."""
    attempt = Attempt(row.number, WorkerId(row.worker), FencingToken(row.fencing_token), row.leased_at)
    attempt.holds_slot = row.holds_slot
    attempt.ended_at = row.ended_at
    attempt.outcome = None if row.outcome is None else AttemptOutcome(row.outcome)
    attempt.error = None if row.error is None else ERROR.read(row.error)
    star.attempts.append(attempt)
    star.retry_at = None if star.state.is_terminal else row.retry_at


def _settle(constellation: TaskConstellation, star: TaskStar, placed_at: float) -> None:
    """Work out the state of a star that is not terminal, count it, and say since when it could run.

    `ready_at` may be later than it was in memory, by an edit that changed the lines of a star that was READY already;
    it only bounds the wait for a slot, which then begins anew.
    """
    if star.state.is_terminal:
        return
    constellation.unfinished += 1
    if star.unmet == 0:
        parents = constellation.parents.get(star.spec.id, ())
        ends = [constellation.stars[parent].finished_at or 0.0 for parent in parents]
        ends += [attempt.ended_at for attempt in star.attempts if attempt.ended_at is not None]
        star.ready_at = max([placed_at, *ends])
    if star.live_attempt is not None:
        star.state = StarState.RUNNING
    elif star.unmet == 0 and star.retry_at is None:
        star.state = StarState.READY
