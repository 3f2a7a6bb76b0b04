"""Forgetting what ended long ago, a bounded part at each call, so that no append waits long behind one.

A constellation that is too large for one call first loses its owner. Nobody is named "", so that no query finds it from
then on, and its request_id is free; then its rows go bit by bit, also after a restart.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import takewhile
from typing import Any, Final

import sqlalchemy as sa

from asterism.orchestrator.core.ids import ConstellationId
from asterism.store.codec import Page, decode
from asterism.store.schema import NOBODY, Big, artifacts, constellations, forgotten, journal, requests
from asterism.store.writes import hold_epoch

AT_ONCE: Final = 100
"""Constellations, at most, that one call looks at and removes whole."""
PER_PAGE: Final = 8
"""Stars for which a page of the journal counts."""

_ONE: Final[sa.BindParameter[Any]] = sa.bindparam("of_constellation")
_LAST: Final[sa.BindParameter[Any]] = sa.bindparam("last")

KEEP_SEQ: Final = (
    sa.update(forgotten)
    .where(forgotten.c.id == 1, forgotten.c.last_seq < sa.bindparam("newest", type_=Big))
    .values(last_seq=sa.bindparam("newest", type_=Big))
)
NEWEST_SEQ: Final = sa.select(sa.func.max(journal.c.seq))
READ_LEFT: Final = (
    sa.select(requests.c.constellation).where(requests.c.owner == NOBODY).order_by(requests.c.constellation).limit(1)
)
READ_ENDED: Final = (
    sa.select(constellations.c.constellation, constellations.c.stars, constellations.c.revision)
    .where(constellations.c.ended_at < sa.bindparam("ended_before"), constellations.c.stopping == 0)
    .order_by(constellations.c.ended_at, constellations.c.constellation)
    .limit(sa.bindparam("at_most"))
)
DISOWN: Final = (
    sa.update(requests)
    .where(requests.c.constellation == _ONE)
    .values(owner=NOBODY, request_id=requests.c.constellation, name="")
)
READ_ARTIFACTS: Final = (
    sa.select(artifacts.c.star)
    .where(artifacts.c.constellation == _ONE)
    .order_by(artifacts.c.star)
    .limit(sa.bindparam("at_most"))
)
FORGET_ARTIFACTS: Final = sa.delete(artifacts).where(artifacts.c.constellation == _ONE, artifacts.c.star <= _LAST)
READ_PAGES: Final = (
    sa.select(journal.c.seq)
    .where(journal.c.constellation == _ONE)
    .order_by(journal.c.seq)
    .limit(sa.bindparam("at_most"))
)
FORGET_PAGES: Final = sa.delete(journal).where(journal.c.constellation == _ONE, journal.c.seq <= _LAST)
READ_OF_WORKERS: Final = (
    sa.select(journal).where(journal.c.constellation.is_(None)).order_by(journal.c.seq).limit(sa.bindparam("at_most"))
)
FORGET_OF_WORKERS: Final = sa.delete(journal).where(journal.c.constellation.is_(None), journal.c.seq <= _LAST)


def forget(
    connection: sa.Connection, ended_before: float, spared: Collection[ConstellationId], most_stars: int, epoch: int
) -> list[ConstellationId]:
    """Remove the oldest of what ended before; gives those of which it removed something, none when all are gone.

    Raises WrongState where the epoch is not the newest.
    """
    hold_epoch(connection, epoch)
    # The rows that say how far the journal has come may be among those that go.
    connection.execute(KEEP_SEQ, {"newest": connection.execute(NEWEST_SEQ).scalar_one() or 0})
    left = connection.execute(READ_LEFT).scalar_one_or_none()
    if left is not None:
        _forget_part(connection, left, most_stars)
        return [ConstellationId(left)]
    chosen: list[str] = []
    size = 0
    values = {"ended_before": ended_before, "at_most": AT_ONCE + len(spared)}
    for row in connection.execute(READ_ENDED, values):
        if row.constellation in spared:
            continue
        size += 1 + max(row.stars, row.revision)
        if size > most_stars or len(chosen) == AT_ONCE:
            break
        chosen.append(row.constellation)
    if chosen:
        for whole in removals(chosen):
            connection.execute(whole)
    elif size:
        chosen = [row.constellation]
        connection.execute(DISOWN, {"of_constellation": row.constellation})
        _forget_part(connection, row.constellation, most_stars)
    else:
        _forget_workers(connection, ended_before, most_stars)
    return [ConstellationId(name) for name in chosen]


def removals(chosen: Sequence[str]) -> Iterator[sa.Delete]:
    """What removes all of those constellations, each table after all that refers to its rows."""
    for table in (artifacts, journal, constellations, requests):
        yield sa.delete(table).where(table.c.constellation.in_(chosen))


def _forget_part(connection: sa.Connection, constellation: str, most_stars: int) -> None:
    """Some of its artifacts; when none is left, some of the journal; and then the request."""
    of: dict[str, object] = {"of_constellation": constellation}
    stars = connection.execute(READ_ARTIFACTS, {**of, "at_most": most_stars}).scalars().all()
    if stars:
        connection.execute(FORGET_ARTIFACTS, {**of, "last": stars[-1]})
        return
    seqs = connection.execute(READ_PAGES, {**of, "at_most": max(1, most_stars // PER_PAGE)}).scalars().all()
    if seqs:
        connection.execute(FORGET_PAGES, {**of, "last": seqs[-1]})
    else:
        for whole in removals([constellation]):
            connection.execute(whole)


def _forget_workers(connection: sa.Connection, before: float, at_most: int) -> None:
    """The oldest of what the journal says of workers: how they are now stands in their own table."""
    pages = connection.execute(READ_OF_WORKERS, {"at_most": at_most})
    old = takewhile(lambda page: all(record.at < before for record in decode(page)), (Page(*row) for row in pages))
    seqs = [page.seq for page in old]
    if seqs:
        connection.execute(FORGET_OF_WORKERS, {"last": seqs[-1]})
