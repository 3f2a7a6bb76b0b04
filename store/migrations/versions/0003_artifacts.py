"""Results that lie outside the database."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table: the results that there are lie in the rows of their stars."""
    op.create_table(
        "artifacts",
        sa.Column("constellation", TEXT, primary_key=True),
        sa.Column("star", TEXT, primary_key=True),
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("size", BIG, nullable=False),
        sa.ForeignKeyConstraint(["constellation", "star"], ["stars.constellation", "stars.star"]),
        sqlite_with_rowid=False,
    )
