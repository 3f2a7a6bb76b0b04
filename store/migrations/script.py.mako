"""${message}."""

import sqlalchemy as sa
from alembic import op

revision = "${up_revision}"
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply it. There is no way back: an older asterism refuses a newer database."""
    ${upgrades if upgrades else "pass"}
