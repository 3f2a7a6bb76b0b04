"""The lease of the leader: one row, which PostgreSQL changes for one at a time, by PostgreSQL's own clock."""

from typing import Final

import sqlalchemy as sa

from asterism.orchestrator.core.lead import Lead, Led
from asterism.store.schema import leadership
from asterism.store.writes import acquire_epoch

_NOW: Final = sa.func.extract("epoch", sa.func.clock_timestamp()).cast(sa.Float)
_ENDS_AT: Final = _NOW + sa.bindparam("lease_s", type_=sa.Float)
_OF_EPOCH: Final = sa.and_(leadership.c.id == 1, leadership.c.epoch == sa.bindparam("of_epoch"))

TAKE: Final = (
    sa.update(leadership)
    .where(leadership.c.id == 1, leadership.c.ends_at <= _NOW)
    .values(leader=sa.bindparam("by"), ends_at=_ENDS_AT)
)
SET_EPOCH: Final = sa.update(leadership).where(leadership.c.id == 1).values(epoch=sa.bindparam("new_epoch"))
READ: Final = sa.select(leadership.c.leader, (leadership.c.ends_at - _NOW).label("ends_in_s")).where(
    leadership.c.id == 1
)
RENEW: Final = sa.update(leadership).where(_OF_EPOCH).values(ends_at=_ENDS_AT)
RESIGN: Final = sa.update(leadership).where(_OF_EPOCH).values(ends_at=0.0)


def take_lead(connection: sa.Connection, leader: str, lease_s: float) -> Lead | Led:
    """Begin a new epoch where nobody holds the lease. A leader that was stopped inside a transaction is waited for.

    Whoever holds the lease, holds it even where its process is no more: nobody but PostgreSQL's clock can know.
    """
    _be_brief(connection, lease_s)
    if connection.execute(TAKE, {"by": leader, "lease_s": lease_s}).rowcount == 0:
        row = connection.execute(READ).one()
        return Led(row.leader, max(0.0, row.ends_in_s))
    epoch = acquire_epoch(connection)
    connection.execute(SET_EPOCH, {"new_epoch": epoch})
    return Lead(epoch)


def renew_lead(connection: sa.Connection, epoch: int, lease_s: float) -> bool:
    """Whether the epoch is still the newest; then its lease begins anew, also where it had ended and nobody came."""
    _be_brief(connection, lease_s)
    return connection.execute(RENEW, {"of_epoch": epoch, "lease_s": lease_s}).rowcount == 1


def resign_lead(connection: sa.Connection, epoch: int) -> None:
    """End the lease now, so that the next need not wait for it; nothing where somebody else leads already."""
    connection.execute(RESIGN, {"of_epoch": epoch})


def _be_brief(connection: sa.Connection, lease_s: float) -> None:
    """From now on also of this session, which may be a new one: stopped in a transaction, it must not outlast the lease
    of its process."""
    idle_ms = str(int(lease_s * 1000))
    connection.execute(sa.select(sa.func.set_config("idle_in_transaction_session_timeout", idle_ms, False)))
