"""Forgetting what ended long ago."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make what finds the oldest, and the one row that says how far the journal had come."""
    op.create_index(
        "constellations_ended",
        "constellations",
        ["ended_at", "constellation"],
        sqlite_where=sa.text("ended_at IS NOT NULL"),
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )
    op.create_table(
        "forgotten",
        sa.Column("id", BIG, primary_key=True, autoincrement=False),
        sa.Column("last_seq", BIG, nullable=False),
    )
    op.execute("INSERT INTO forgotten (id, last_seq) VALUES (1, 0)")
