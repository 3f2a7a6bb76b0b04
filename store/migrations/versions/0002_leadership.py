"""Who leads, where several orchestrators share a database."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table and its one row: nobody leads."""
    op.create_table(
        "leadership",
        sa.Column("id", BIG, primary_key=True, autoincrement=False),
        sa.Column("epoch", BIG, nullable=False),
        sa.Column("leader", TEXT, nullable=False),
        sa.Column("ends_at", sa.Float, nullable=False),
    )
    op.execute("INSERT INTO leadership (id, epoch, leader, ends_at) VALUES (1, 0, '', 0)")
