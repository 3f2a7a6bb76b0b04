"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The order of bytes, whatever language the database speaks: what is in order here is in order in Python.
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make them, and the one row that is always there."""
    op.create_table(
        "requests",
        sa.Column("constellation", TEXT, primary_key=True),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("request_id", TEXT, nullable=False),
        sa.Column("form", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("budget", TEXT, nullable=False),
        sa.Column("request", TEXT, nullable=False),
        sa.UniqueConstraint("owner", "request_id", name="requests_by_request_id"),
    )
    op.create_index("requests_by_owner", "requests", ["owner", "constellation"])
    op.create_table(
        "constellations",
        sa.Column("constellation", TEXT, sa.ForeignKey("requests.constellation"), primary_key=True),
        sa.Column("seq", BIG, nullable=False),
        sa.Column("revision", BIG, nullable=False),
        sa.Column("stars", BIG, nullable=False),
        sa.Column("stars_terminal", BIG, nullable=False),
        sa.Column("attempts", BIG, nullable=False),
        sa.Column("started_at", sa.Float, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("ended_at", sa.Float),
        sa.Column("stopping", BIG, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "constellations_live",
        "constellations",
        ["constellation"],
        sqlite_where=sa.text("ended_at IS NULL OR stopping > 0"),
        postgresql_where=sa.text("ended_at IS NULL OR stopping > 0"),
    )
    op.create_table(
        "stars",
        sa.Column("constellation", TEXT, sa.ForeignKey("constellations.constellation"), primary_key=True),
        sa.Column("star", TEXT, primary_key=True),
        sa.Column("position", BIG, nullable=False),
        sa.Column("revision", BIG, nullable=False),
        sa.Column("placed_at", sa.Float, nullable=False),
        sa.Column("spec", TEXT, nullable=False),
        sa.Column("state", TEXT),
        sa.Column("finished_at", sa.Float),
        sa.Column("error", TEXT),
        sa.Column("result", TEXT),
    )
    op.create_table(
        "lines",
        sa.Column("constellation", TEXT, primary_key=True),
        sa.Column("child", TEXT, primary_key=True),
        sa.Column("parent", TEXT, primary_key=True),
        sa.Column("position", BIG, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("condition", TEXT),
        sa.ForeignKeyConstraint(["constellation", "child"], ["stars.constellation", "stars.star"]),
        sa.ForeignKeyConstraint(["constellation", "parent"], ["stars.constellation", "stars.star"]),
        sqlite_with_rowid=False,
    )
    op.create_index("lines_by_parent", "lines", ["constellation", "parent"])
    op.create_table(
        "workers",
        sa.Column("worker", TEXT, primary_key=True),
        sa.Column("instance", TEXT, nullable=False),
        sa.Column("profile", TEXT, nullable=False),
        sa.Column("labels", TEXT, nullable=False),
        sa.Column("has_left", sa.Boolean, nullable=False),
        sa.Column("is_draining", sa.Boolean, nullable=False),
    )
    op.create_table(
        "attempts",
        sa.Column("constellation", TEXT, primary_key=True),
        sa.Column("star", TEXT, primary_key=True),
        sa.Column("number", BIG, primary_key=True, autoincrement=False),
        sa.Column("worker", TEXT, sa.ForeignKey("workers.worker"), nullable=False),
        sa.Column("fencing_token", BIG, nullable=False),
        sa.Column("leased_at", sa.Float, nullable=False),
        sa.Column("holds_slot", sa.Boolean, nullable=False),
        sa.Column("ended_at", sa.Float),
        sa.Column("outcome", TEXT),
        sa.Column("error", TEXT),
        sa.Column("retry_at", sa.Float),
        sa.ForeignKeyConstraint(["constellation", "star"], ["stars.constellation", "stars.star"]),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "journal",
        sa.Column("seq", BIG, primary_key=True, autoincrement=False),
        sa.Column("constellation", TEXT),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("body", TEXT, nullable=False),
    )
    op.create_index("journal_by_constellation", "journal", ["constellation", "seq"])
    op.create_table(
        "credentials",
        sa.Column("secret_sha256", sa.LargeBinary, primary_key=True),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.Column("revoked_at", sa.Float),
    )
    op.create_index("credentials_by_name", "credentials", ["name"])
    op.create_table(
        "orchestrator",
        sa.Column("id", BIG, primary_key=True, autoincrement=False),
        sa.Column("epoch", BIG, nullable=False),
        sa.Column("last_fencing_token", BIG, nullable=False),
    )
    op.execute("INSERT INTO orchestrator (id, epoch, last_fencing_token) VALUES (1, 0, 0)")
