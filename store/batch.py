"""Statements of one transaction, in order: SQLite runs each at once, PostgreSQL as many together as may be.

A round trip to PostgreSQL costs an append more than what is done at its end. The parts of one statement (data-modifying
WITH) all see the rows as they were before it, so what changes a table that an earlier part changes begins the next one.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from asterism.orchestrator.core.errors import WrongState
from asterism.store.prepared import Prepared, Row

_PLACE: Final = re.compile(r"\$(\d+)")
UNMET: Final = "22012"
"""SQLSTATE of a division by zero: what a statement fails with whose parts do not match what they must."""


@dataclass(frozen=True, slots=True)
class _Part:
    prepared: Prepared
    rows: Sequence[Row]
    must_match: bool


class Batch:
    """Takes the statements of a transaction, behind a guard without which none of them is to count.

    `end` it after the last; `begin` it before anything else that the transaction does.
    """

    def __init__(self, connection: sa.Connection, guard: Callable[[], None], guarded: tuple[Prepared, Row]) -> None:
        """`guard` runs the statement that `guarded` names, and raises where it matches nothing."""
        self.connection = connection
        self._waits = connection.dialect.name == "postgresql"
        self._guard = guard
        self._guarded = guarded
        self._has_begun = False
        self._parts: list[_Part] = []
        if not self._waits:
            self.begin()

    def begin(self) -> None:
        """Run the guard, if it has not run."""
        if not self._has_begun:
            self._has_begun = True
            self._guard()

    def add(self, prepared: Prepared, rows: Sequence[Row], *, must_match: bool = False) -> None:
        """Run a statement for the rows, now or at the latest with `end`.

        `must_match`: WrongState unless it changes as many rows as are given: no change is lost in silence.
        """
        if not rows:
            return
        part = _Part(prepared, rows, must_match)
        if self._waits:
            self._parts.append(part)
        else:
            _check(part, prepared.run(self.connection, rows))

    def end(self) -> None:
        """Run what waits."""
        groups = list(_groups(self._parts))
        if not self._has_begun and len(groups) == 1:
            prepared, row = self._guarded
            self._run_alone([_Part(prepared, [row], True), *groups[0]])
            return
        self.begin()
        for group in groups:
            if len(group) == 1:
                _check(group[0], group[0].prepared.run(self.connection, group[0].rows))
            else:
                for part, matched in zip(group, _run_together(self.connection, group), strict=True):
                    _check(part, matched)

    def _run_alone(self, parts: Sequence[_Part]) -> None:
        """As a statement that is a transaction by itself: one round trip where there would be four."""
        driver = self.connection.connection.dbapi_connection
        assert driver is not None, "it is connected"
        driver.autocommit = True
        try:
            _run_together(self.connection, parts, demanding=True)
            return
        except self.connection.dialect.loaded_dbapi.Error as error:
            if getattr(error, "sqlstate", None) != UNMET:
                raise
            reason = str(error)
        except WrongState as error:
            reason = error.reason
        finally:
            driver.autocommit = False
        # Nothing of it is there. Why not is asked again, where it can be told.
        self._guard()
        raise WrongState("records", str(parts[-1].prepared.statement), "not as the store holds them", reason)


def _groups(parts: Sequence[_Part]) -> Iterator[list[_Part]]:
    """Those that can be one statement: none changes a table that another of them changes."""
    group: list[_Part] = []
    touched: set[str] = set()
    for part in parts:
        table = part.prepared.table.name
        if table in touched:
            yield group
            group, touched = [], set()
        touched.add(table)
        group.append(part)
    if group:
        yield group


def _check(part: _Part, matched: int) -> None:
    if part.must_match and matched != len(part.rows):
        reason = f"{matched} of {len(part.rows)} are there"
        raise WrongState("records", str(part.prepared.statement), "not as the store holds them", reason)


_TOGETHER: Final[dict[tuple[bool, tuple[Prepared, ...], tuple[bool, ...]], str]] = {}
"""The text of each combination that has been asked for. There are some dozens."""


def _run_together(connection: sa.Connection, parts: Sequence[_Part], *, demanding: bool = False) -> Sequence[int]:
    """Run the parts as one statement; gives how many rows each matched.

    `demanding`: gives nothing, and fails with UNMET where a part that must match all its rows does not.
    """
    key = demanding, tuple(part.prepared for part in parts), tuple(part.must_match for part in parts)
    calls = [part.prepared.call(connection.dialect, part.rows) for part in parts]
    values = [value for _, of_part in calls for value in of_part]
    if demanding:
        values += [len(part.rows) for part in parts if part.must_match]
    sql = _TOGETHER.get(key)
    if sql is None:
        demanded = [number for number, part in enumerate(parts) if part.must_match] if demanding else []
        sql = _TOGETHER[key] = _join([(text, len(of_part)) for text, of_part in calls], demanded)
    cursor = connection.connection.cursor()
    try:
        cursor.execute(sql, tuple(values))
        counts: Sequence[int] = cursor.fetchone() or ()
        return counts
    except connection.dialect.loaded_dbapi.IntegrityError as error:
        raise WrongState("records", sql, "not as the store holds them", str(error)) from error
    finally:
        cursor.close()


def _join(statements: Sequence[tuple[str, int]], demanded: Sequence[int]) -> str:
    """One statement of several, each given with the number of its values, which become those of one list.

    Behind them come the numbers of rows that the `demanded` ones must match.
    """
    parts: list[str] = []
    before = 0
    for number, (text, values) in enumerate(statements):
        moved = _PLACE.sub(lambda place, before=before: f"${int(place[1]) + before}", text)  # type: ignore[misc]  # a default binds it
        parts.append(f"part{number} AS ({moved} RETURNING 1)")
        before += values
    counts = [f"(SELECT count(*) FROM part{number})" for number in range(len(statements))]
    if demanded:
        met = (f"{counts[number]} = ${before + place}::bigint" for place, number in enumerate(demanded, 1))
        # There is no other way to fail within plain SQL.
        counts = [f"1 / CASE WHEN {' AND '.join(met)} THEN 1 ELSE 0 END"]
    return f"WITH {', '.join(parts)} SELECT {', '.join(counts)}"
