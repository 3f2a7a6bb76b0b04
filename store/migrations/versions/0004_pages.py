"""The journal in pages; the tables of stars, lines and attempts go, since a graph is the fold of its records."""

from collections.abc import Callable, Iterator
from itertools import groupby, islice
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
LIVE = sa.text("ended_at IS NULL OR stopping > 0")
PAGE = 256
"""Records of one page, at most, and pages written at a time."""


def upgrade() -> None:
    """Write the journal anew, each record as it was; of the other tables that stay, the columns that do."""
    _replace("artifacts", "constellation, star, sha256, size", _make_artifacts)
    for table in ("attempts", "lines", "stars"):
        op.drop_table(table)
    # Before the constellations: the first databases have a reference from the journal to them.
    _rename("journal", "journal_by_constellation")
    op.create_table(
        "journal",
        sa.Column("seq", BIG, primary_key=True, autoincrement=False),
        sa.Column("constellation", TEXT),
        sa.Column("body", TEXT, nullable=False),
    )
    op.create_index("journal_by_constellation", "journal", ["constellation", "seq"])
    _write_pages()
    op.drop_table("old_journal")
    _rename("requests", "requests_by_owner", unique="requests_by_request_id")
    _replace(
        "constellations",
        "constellation, seq, revision, stars, stars_terminal, state, reason, ended_at, stopping",
        _make_requests_and_constellations,
        index="constellations_live",
    )
    op.drop_table("old_requests")


def _rename(table: str, index: str | None = None, unique: str | None = None) -> None:
    """Make room for one of its name: in PostgreSQL the names of keys are taken, too."""
    if index is not None:
        op.drop_index(index, table)
    op.rename_table(table, f"old_{table}")
    if op.get_context().dialect.name == "postgresql":
        for key in filter(None, (f"{table}_pkey", unique)):
            op.execute(f"ALTER INDEX {key} RENAME TO old_{key}")


def _replace(table: str, columns: str, make: Callable[[], None], index: str | None = None) -> None:
    """Make a table anew, with the rows that it had."""
    _rename(table, index)
    make()
    op.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM old_{table}")
    op.drop_table(f"old_{table}")


def _make_artifacts() -> None:
    op.create_table(
        "artifacts",
        sa.Column("constellation", TEXT, primary_key=True),
        sa.Column("star", TEXT, primary_key=True),
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("size", BIG, nullable=False),
        sqlite_with_rowid=False,
    )


def _make_requests_and_constellations() -> None:
    op.create_table(
        "requests",
        sa.Column("constellation", TEXT, primary_key=True),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("request_id", TEXT, nullable=False),
        sa.Column("form", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.UniqueConstraint("owner", "request_id", name="requests_by_request_id"),
    )
    op.create_index("requests_by_owner", "requests", ["owner", "constellation"])
    columns = "constellation, owner, request_id, form, name, created_at"
    op.execute(f"INSERT INTO requests ({columns}) SELECT {columns} FROM old_requests")
    op.create_table(
        "constellations",
        sa.Column("constellation", TEXT, sa.ForeignKey("requests.constellation"), primary_key=True),
        sa.Column("seq", BIG, nullable=False),
        sa.Column("revision", BIG, nullable=False),
        sa.Column("stars", BIG, nullable=False),
        sa.Column("stars_terminal", BIG, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("ended_at", sa.Float),
        sa.Column("stopping", BIG, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "constellations_live", "constellations", ["constellation"], sqlite_where=LIVE, postgresql_where=LIVE
    )


def _write_pages() -> None:
    """Neighbours of one constellation become a page."""
    add = sa.text("INSERT INTO journal (seq, constellation, body) VALUES (:seq, :constellation, :body)")
    pages = (
        {
            "seq": part[-1].seq,
            "constellation": constellation,
            "body": f'{{"v":3,"records":[{",".join(map(_record, part))}]}}',
        }
        for constellation, rows in groupby(_rows(), key=lambda row: row.constellation)
        for part in iter(lambda rows=rows: list(islice(rows, PAGE)), [])  # type: ignore[misc]  # a default binds it
    )
    while some := list(islice(pages, PAGE)):
        op.get_bind().execute(add, some)


def _rows() -> Iterator[Any]:
    """Of the old journal, in order, some thousands at a time."""
    read = sa.text("SELECT * FROM old_journal WHERE seq > :after ORDER BY seq LIMIT 4096")
    after = 0
    while rows := op.get_bind().execute(read, {"after": after}).all():
        yield from rows
        after = rows[-1].seq


def _record(row: Any) -> str:
    """A body was an object that ended with its version, and had all but the columns."""
    fields = row.body[1 : row.body.rindex(',"v":')]
    # Of a result that is an artifact the body says so apart, and that there is no other.
    fields = fields.replace('"result":null,', "") if row.body.endswith(',"v":2}') else fields
    return f'{{"type":"{row.kind}","seq":{row.seq},"at":{row.at!r},{fields}}}'
