"""A database of an older asterism comes up with everything that was in it."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from asterism.orchestrator.core.edits import AddLine, AddStar, Edit
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.records import (
    AttemptLeased,
    ConstellationEnded,
    EditsApplied,
    Record,
    StarFinished,
    WorkerJoined,
)
from asterism.orchestrator.core.values import Artifact
from asterism.store import migrate
from asterism.store.changes import Changes
from asterism.store.codec import encode
from asterism.store.location import database_at
from asterism.store.sql import SqlStore
from tests.store.histories import seeded_history
from tests.store.test_contract import assert_holds

REVISION = "UPDATE orchestrator SET epoch = 1, last_fencing_token = {token}"


def whole(hint: Any, plain: Any) -> Any:
    """As bodies before the fourth version had it: with what is empty by default."""
    if is_dataclass(hint):
        for field in fields(hint):
            if field.name in plain:
                plain[field.name] = whole(field.type, plain[field.name])
            elif field.name != "constellation":
                default = field.default if field.default_factory is MISSING else field.default_factory()
                assert default is None or not default
                plain[field.name] = list(default) if isinstance(default, tuple | frozenset) else default
        return plain
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        return [whole(arguments[0], each) for each in plain]
    if origin is Mapping:
        return {key: whole(arguments[1], each) for key, each in plain.items()}
    members: list[Any] = [member for member in arguments if is_dataclass(member)]
    by_name = {member.__name__: member for member in members}
    if plain is None or not by_name:
        return plain
    member = by_name[plain["type"]] if isinstance(plain, dict) and "type" in plain else next(iter(by_name.values()))
    return whole(member, plain)


def of_old(record: Record) -> Record:
    """Before the fourth version no star came with lines: they were edits of their own."""
    return replace(record, edits=tuple(lines_apart(record.edits))) if isinstance(record, EditsApplied) else record


def lines_apart(edits: Sequence[Edit]) -> Iterator[Edit]:
    """Each edit, and behind a star the lines that it came with."""
    for edit in edits:
        if isinstance(edit, AddStar):
            yield AddStar(edit.spec)
            yield from map(AddLine, edit.lines())
        else:
            yield edit


def written_of_old(record: Record) -> dict[str, object]:
    """The row of the journal that migration 0003 had for a record."""
    (page,) = encode([record])
    (plain,) = json.loads(page.body)["records"]
    plain = whole(type(record), plain)
    kind, seq, at = (plain.pop(name) for name in ("type", "seq", "at"))
    if isinstance(record, WorkerJoined):
        assert plain["profile"].pop("descriptions") == []
    if isinstance(record, EditsApplied):
        assert (plain.pop("reason"), plain.pop("proposal")) == ("", 0)
        plain["edits"] = [edit_of_old(edit) for edit in plain["edits"]]
    artifact = plain.pop("artifact", None)
    if artifact is None:
        plain["v"] = 1
    else:
        plain |= {"result": None, "artifact": artifact, "v": 2}
    body = json.dumps(plain, separators=(",", ":"))
    return {"seq": seq, "constellation": page.constellation, "kind": kind, "at": at, "body": body}


def edit_of_old(edit: dict[str, Any]) -> dict[str, Any]:
    """Without what stars and conditions have since; none of the history's uses it."""
    if edit["type"] == "AddStar":
        assert edit.pop("after") == []
        assert (edit["spec"].pop("quorum"), edit["spec"].pop("is_idempotent")) == (0, None)
    if edit["type"] == "AddLine" and edit["line"]["condition"] is not None:
        (compare,) = edit["line"]["condition"]["terms"]
        assert (compare.pop("type"), compare.pop("of_length")) == ("Compare", False)
        edit["line"]["condition"] = compare
    return edit


def fill_old(connection: sa.Connection, records: list[Record]) -> None:
    """What of the tables of migration 0003 still counts."""
    changes = Changes()
    for record in records:
        changes.take(record)
    tables = sa.MetaData()
    tables.reflect(connection)

    def add(table: str, rows: list[dict[str, object]]) -> None:
        if rows:
            connection.execute(sa.insert(tables.tables[table]), rows)

    for worker, row in changes.worker_changes:
        if "profile" in row:
            profile = whole(WorkerProfile, json.loads(row["profile"]))
            assert profile.pop("descriptions") == []
            row["profile"] = json.dumps(profile)
        workers = tables.tables["workers"]
        if connection.execute(sa.update(workers).where(workers.c.worker == worker).values(**row)).rowcount == 0:
            add("workers", [{"worker": worker, "labels": "{}", "is_draining": False, **row}])
    add("requests", [{**row, "budget": "{}", "request": "{}"} for row in changes.requests])
    rows: list[dict[str, object]] = []
    for request in changes.requests:
        totals = changes.totals[request["constellation"]]
        end = changes.ends.get(request["constellation"], {"state": "RUNNING", "reason": "", "ended_at": None})
        rows.append(
            {
                "constellation": request["constellation"],
                "seq": totals.last_seq,
                "revision": totals.revisions,
                "stars": totals.stars,
                "stars_terminal": totals.stars_terminal,
                "stopping": totals.stopping,
                "attempts": 0,
                "started_at": 0.0,
                **{name: end[name] for name in ("state", "reason", "ended_at")},
            }
        )
    add("constellations", rows)
    add("journal", [written_of_old(record) for record in records])
    token = max(record.fencing_token for record in records if isinstance(record, AttemptLeased))
    connection.exec_driver_sql(REVISION.format(token=token))
    # A star with a line, an attempt and an artifact: what refers to tables that are to go.
    constellation = changes.requests[0]["constellation"]
    key = {"constellation": constellation, "star": "a"}
    add("stars", [{**key, "position": 1, "revision": 1, "placed_at": 1.0, "spec": "{}"}])
    add(
        "lines",
        [{"constellation": constellation, "child": "a", "parent": "a", "position": 1, "kind": "success"}],
    )
    attempt = {**key, "number": 1, "worker": changes.worker_changes[0][0], "fencing_token": 1, "leased_at": 1.0}
    add("attempts", [{**attempt, "holds_slot": False}])
    add("artifacts", [{**key, "sha256": "0" * 64, "size": 3}])


def upgrade_to(connection: sa.Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def assert_lifted(store: SqlStore, records: list[Record]) -> None:
    """The store as it is opened anew holds the records."""
    await store.open()
    try:
        await assert_holds(store, records)
        (kept,) = await store.list_artifacts()
        assert (kept.sha256, kept.size) == ("0" * 64, 3)
    finally:
        await store.close()


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """A history with everything in it."""
    found = [of_old(record) for batch in seeded_history(3, 500).batches for record in batch]
    assert any(isinstance(record, StarFinished) and isinstance(record.result, Artifact) for record in found)
    assert {type(record) for record in found} >= {WorkerJoined, AttemptLeased, EditsApplied, ConstellationEnded}
    return found


JOURNAL_OF_THE_FIRST = (
    "DROP TABLE journal",
    "CREATE TABLE journal (seq INTEGER PRIMARY KEY, constellation TEXT REFERENCES constellations (constellation), "
    "kind TEXT NOT NULL, at FLOAT NOT NULL, body TEXT NOT NULL)",
    "CREATE INDEX journal_by_constellation ON journal (constellation, seq)",
)
"""It had a reference to the constellations, which migration 0001 makes no more."""


@pytest.mark.parametrize("changes", [(), JOURNAL_OF_THE_FIRST], ids=["0003", "first"])
async def test_old_sqlite_file_is_lifted(tmp_path: Path, records: list[Record], changes: tuple[str, ...]) -> None:
    path = tmp_path / "old.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys=ON")
        upgrade_to(connection, "0003")
        for change in changes:
            connection.exec_driver_sql(change)
        fill_old(connection, records)
    engine.dispose()
    await assert_lifted(SqlStore(path), records)
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (pages,) = raw.execute("SELECT count(*) FROM journal").fetchone()
    assert pages < len(records)


async def test_old_postgresql_database_is_lifted(postgres_url: str, records: list[Record]) -> None:
    def fill(connection: sa.Connection) -> None:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
        upgrade_to(connection, "0003")
        fill_old(connection, records)

    database = database_at(postgres_url)
    await database.open(exclusive=True)
    await database.write(fill)
    await database.close()
    await assert_lifted(SqlStore(postgres_url), records)
