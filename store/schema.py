"""The tables: the journal, and beside it what is listed, looked up by a name, or outlives a request."""

from typing import Final

import sqlalchemy as sa

METADATA: Final = sa.MetaData()

Big: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""64 bits everywhere; SQLite makes only a column of type INTEGER the key of the table itself."""

Text: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""In the order of its bytes, as Python has it, whatever language a database speaks."""

NOBODY: Final = ""
"""Owner of a request that is being forgotten: what is left of it is on its way out, and no query shows it."""

requests: Final = sa.Table(
    "requests",
    METADATA,
    sa.Column("constellation", Text, primary_key=True),
    sa.Column("owner", Text, nullable=False),
    sa.Column("request_id", Text, nullable=False),
    sa.Column("form", Text, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.UniqueConstraint("owner", "request_id", name="requests_by_request_id"),
    sa.Index("requests_by_owner", "owner", "constellation"),
)
"""What never changes, apart from `constellations`: a text of a megabyte is then not written anew at each append."""

constellations: Final = sa.Table(
    "constellations",
    METADATA,
    sa.Column("constellation", Text, sa.ForeignKey("requests.constellation"), primary_key=True),
    sa.Column("seq", Big, nullable=False),
    sa.Column("revision", Big, nullable=False),
    sa.Column("stars", Big, nullable=False),
    sa.Column("stars_terminal", Big, nullable=False),
    sa.Column("state", Text, nullable=False),
    sa.Column("reason", Text, nullable=False),
    sa.Column("ended_at", sa.Float),
    # Attempts that have ended and still hold a slot; what ended with some of them is part of a snapshot.
    sa.Column("stopping", Big, nullable=False),
    sqlite_with_rowid=False,
)

LIVE: Final = "ended_at IS NULL OR stopping > 0"
"""Of `constellations`: what a snapshot holds. A query says just this, and so finds the index."""

sa.Index(
    "constellations_live",
    constellations.c.constellation,
    sqlite_where=sa.text(LIVE),
    postgresql_where=sa.text(LIVE),
)

sa.Index(
    "constellations_ended",
    constellations.c.ended_at,
    constellations.c.constellation,
    sqlite_where=sa.text("ended_at IS NOT NULL"),
    postgresql_where=sa.text("ended_at IS NOT NULL"),
)

artifacts: Final = sa.Table(
    "artifacts",
    METADATA,
    sa.Column("constellation", Text, primary_key=True),
    sa.Column("star", Text, primary_key=True),
    # In hexadecimal digits.
    sa.Column("sha256", Text, nullable=False),
    sa.Column("size", Big, nullable=False),
    sqlite_with_rowid=False,
)
"""Where the results of some stars lie: what may be read, and what must be kept."""

workers: Final = sa.Table(
    "workers",
    METADATA,
    sa.Column("worker", Text, primary_key=True),
    sa.Column("instance", Text, nullable=False),
    sa.Column("profile", Text, nullable=False),
    sa.Column("labels", Text, nullable=False),
    sa.Column("has_left", sa.Boolean, nullable=False),
    sa.Column("is_draining", sa.Boolean, nullable=False),
)

journal: Final = sa.Table(
    "journal",
    METADATA,
    # Of the last record of the page.
    sa.Column("seq", Big, primary_key=True, autoincrement=False),
    # No reference: an append counts every record in its constellation's row, and so refuses one that is not there.
    sa.Column("constellation", Text),
    # The records, as `codec.py` writes them.
    sa.Column("body", Text, nullable=False),
    sa.Index("journal_by_constellation", "constellation", "seq"),
)
"""All that was decided, and the only place where a graph is kept: a constellation is the fold of its records."""

credentials: Final = sa.Table(
    "credentials",
    METADATA,
    sa.Column("secret_sha256", sa.LargeBinary, primary_key=True),
    sa.Column("name", Text, nullable=False),
    sa.Column("role", Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Column("revoked_at", sa.Float),
    sa.Index("credentials_by_name", "name"),
)

orchestrator: Final = sa.Table(
    "orchestrator",
    METADATA,
    # There is one row, and its key is 1.
    sa.Column("id", Big, primary_key=True, autoincrement=False),
    sa.Column("epoch", Big, nullable=False),
    sa.Column("last_fencing_token", Big, nullable=False),
)

forgotten: Final = sa.Table(
    "forgotten",
    METADATA,
    # There is one row, and its key is 1.
    sa.Column("id", Big, primary_key=True, autoincrement=False),
    # The newest of the journal when something was last forgotten: no seq is used twice.
    sa.Column("last_seq", Big, nullable=False),
)

leadership: Final = sa.Table(
    "leadership",
    METADATA,
    # There is one row, and its key is 1.
    sa.Column("id", Big, primary_key=True, autoincrement=False),
    # Of the leader. Apart from `orchestrator`: a renewal must not wait for an append.
    sa.Column("epoch", Big, nullable=False),
    # HOST:PORT where it is reached.
    sa.Column("leader", Text, nullable=False),
    # Of its lease, by the database's clock, in seconds since 1970.
    sa.Column("ends_at", sa.Float, nullable=False),
)
"""Used in PostgreSQL only: a SQLite file has one holder, by its lock."""
