"""The seam between the statements and a database, which does works: one transaction each, one after the other."""

from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias, TypeVar

import sqlalchemy as sa

T = TypeVar("T")
Work: TypeAlias = Callable[[sa.Connection], T]
Synchronous: TypeAlias = Literal["FULL", "NORMAL"]
"""Of SQLite: FULL survives a power cut; NORMAL only the death of the process. PostgreSQL always survives both."""


class Database(Protocol):
    """A connection that writes, one that reads, and one that reads what is short."""

    @property
    def is_shared(self) -> bool:
        """Whether several orchestrators may have it open, so that a lease decides which of them leads."""
        ...

    async def open(self, *, exclusive: bool) -> None:
        """Bring it to the newest migration; raises Misconfigured or Unreachable, and says what to mend.

        `exclusive`: where the database itself has no say in who writes, keep every other process from opening it so.
        """

    async def close(self) -> None:
        """Finish what was asked for, then let go; harmless when nothing is open."""

    async def write(self, work: Work[T], *, is_short: bool = False) -> T:
        """Do the work in one transaction that is on disk when this returns; works never overlap.

        `is_short`: the event loop may do it by itself, where that is quicker than to hand it over.
        """
        ...

    async def read(self, work: Work[T], *, is_short: bool = False) -> T:
        """Do the work on one picture of what is on disk.

        `is_short`: it finds a few rows by a key, and waits for no work that reads whole graphs.
        """
        ...
