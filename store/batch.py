"""Statements of one transaction, in order: SQLite runs each at once, PostgreSQL as many together as may be.

A round trip to PostgreSQL costs an append more than what is done at its end. The parts of one statement (data-modifying
WITH) all see the rows as they were before it, so what changes a table that an earlier part changes begins the next one.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from asterism.orchestrator.core.errors import WrongState
from asterism.store.prepared import Prepared, Row

_PLACE: Final = re.compile(r"\$(\d+)")


@dataclass(frozen=True, slots=True)
class _Part:
    prepared: Prepared
    rows: Sequence[Row]
    must_match: bool


class Batch:
    """Takes statements; `flush` before anything that is to see what they did."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self._waits = connection.dialect.name == "postgresql"
        self._parts: list[_Part] = []
        self._touched: set[str] = set()

    def add(self, prepared: Prepared, rows: Sequence[Row], *, must_match: bool = False) -> None:
        """Run a statement for the rows, now or at the latest with `flush`.

        `must_match`: WrongState unless it changes as many rows as are given: no change is lost in silence.
        """
        if not rows:
            return
        part = _Part(prepared, rows, must_match)
        if not self._waits:
            _check(part, prepared.run(self.connection, rows))
            return
        table = prepared.table.name
        if table in self._touched:
            self.flush()
        self._touched.add(table)
        self._parts.append(part)

    def flush(self) -> None:
        """Run what waits."""
        parts, self._parts = self._parts, []
        self._touched.clear()
        if len(parts) == 1:
            _check(parts[0], parts[0].prepared.run(self.connection, parts[0].rows))
        elif parts:
            for part, matched in zip(parts, _run_together(self.connection, parts), strict=True):
                _check(part, matched)


def _check(part: _Part, matched: int) -> None:
    if part.must_match and matched != len(part.rows):
        reason = f"{matched} of {len(part.rows)} are there"
        raise WrongState("records", str(part.prepared.statement), "not as the store holds them", reason)


_TOGETHER: Final[dict[tuple[Prepared, ...], str]] = {}
"""The text of each combination that has been asked for. There are some dozens."""


def _run_together(connection: sa.Connection, parts: Sequence[_Part]) -> Sequence[int]:
    """Run the parts as one statement; gives how many rows each matched."""
    key = tuple(part.prepared for part in parts)
    calls = [part.prepared.call(connection.dialect, part.rows) for part in parts]
    sql = _TOGETHER.get(key)
    if sql is None:
        sql = _TOGETHER[key] = _join([(text, len(values)) for text, values in calls])
    cursor = connection.connection.cursor()
    try:
        cursor.execute(sql, tuple(value for _, values in calls for value in values))
        counts: Sequence[int] = cursor.fetchone() or ()
        return counts
    except connection.dialect.loaded_dbapi.IntegrityError as error:
        raise WrongState("records", sql, "not as the store holds them", str(error)) from error
    finally:
        cursor.close()


def _join(statements: Sequence[tuple[str, int]]) -> str:
    """One statement of several, each given with the number of its values, which become those of one list."""
    parts: list[str] = []
    before = 0
    for number, (text, values) in enumerate(statements):
        moved = _PLACE.sub(lambda place, before=before: f"${int(place[1]) + before}", text)  # type: ignore[misc]  # a default binds it
        parts.append(f"part{number} AS ({moved} RETURNING 1)")
        before += values
    counts = ", ".join(f"(SELECT count(*) FROM part{number})" for number in range(len(statements)))
    return f"WITH {', '.join(parts)} SELECT {counts}"
