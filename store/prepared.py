"""Statements of SQLAlchemy Core, compiled once: running one then costs little more than the driver takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, TypeAlias, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql import visitors

from asterism.orchestrator.core.errors import WrongState

Row: TypeAlias = dict[str, Any]

ROWS: Final = "given"
"""Name, in a statement for PostgreSQL, of the rows that it runs for."""


@dataclass(frozen=True, slots=True)
class _Compiled:
    sql: str
    constants: dict[str, Any]
    """Values that the statement itself brings."""
    names: tuple[str, ...]
    """Of the values that a row brings."""
    in_order: Callable[[dict[str, Any]], tuple[Any, ...]]


class Prepared:
    """A statement that runs once for each of many rows.

    It goes to the driver's cursor, inside SQLAlchemy's transaction. Executed by SQLAlchemy, an append of one lease and
    one finish took 560 us of CPU, so 290 us; in batches of 128, 71 us and 48 us (tests/bench/store_append.py).

    PostgreSQL gets all rows in one statement, as arrays that it makes a table of again: one round trip a statement,
    whatever the number of rows. There an update must not be given two rows for one of the table.
    """

    def __init__(self, statement: sa.Insert | sa.Update | sa.Delete) -> None:
        assert isinstance(statement.table, sa.Table)
        self.statement = statement
        self.table: sa.Table = statement.table
        self._compiled: dict[str, _Compiled] = {}
        """By the dialect's name."""

    def run(self, connection: sa.Connection, rows: Sequence[Row]) -> int:
        """Run it for each row, in order; gives how many rows of the table were matched in all.

        Raises WrongState where a row is there already, or what it refers to is not.
        """
        if not rows:
            return 0
        dialect = connection.dialect
        compiled = self._compiled_for(dialect)
        cursor = connection.connection.cursor()
        try:
            if dialect.name == "postgresql":
                cursor.execute(*self.call(dialect, rows))
                return cursor.rowcount
            if compiled.constants:
                rows = [{**compiled.constants, **row} for row in rows]
            cursor.executemany(compiled.sql, [compiled.in_order(row) for row in rows])
            return cursor.rowcount
        except dialect.loaded_dbapi.IntegrityError as error:
            raise WrongState("records", compiled.sql, "not as the store holds them", str(error)) from error
        finally:
            cursor.close()

    def call(self, dialect: sa.Dialect, rows: Sequence[Row]) -> tuple[str, tuple[Any, ...]]:
        """The text for all rows at once, and its values in order: for PostgreSQL."""
        compiled = self._compiled_for(dialect)
        arrays = {name: [row[name] for row in rows] for name in compiled.names}
        return compiled.sql, compiled.in_order({**compiled.constants, **arrays})

    def _compiled_for(self, dialect: sa.Dialect) -> _Compiled:
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = self._compiled[dialect.name] = self._compile(dialect)
        return compiled

    def _compile(self, dialect: sa.Dialect) -> _Compiled:
        statement = over_rows(self.statement) if dialect.name == "postgresql" else self.statement
        compiled = statement.compile(dialect=dialect)
        order = compiled.positiontup
        assert order is not None, "the drivers in use take their values by position"
        assert len(order) > 1, "itemgetter gives a tuple only from two names on"
        constants = {name: value for name, value in compiled.params.items() if value is not None}
        names = tuple(name for name in compiled.params if name not in constants)
        return _Compiled(str(compiled), constants, names, itemgetter(*order))


def over_rows(statement: sa.Insert | sa.Update | sa.Delete) -> sa.Insert | sa.Update | sa.Delete:
    """The statement that does for all rows at once what `statement` does for one.

    Each value of a row becomes an array of that name, and their elements the columns of a table to join with.
    """
    types: dict[str, sa.types.TypeEngine[Any]] = {}

    def note(bind: sa.BindParameter[Any]) -> None:
        if bind.value is None and not bind.unique:
            is_typed = not isinstance(bind.type, sa.types.NullType)
            types[bind.key] = bind.type if is_typed else statement.table.c[bind.key].type

    visitors.traverse(statement, {}, {"bindparam": note})
    arrays = [sa.bindparam(name, type_=ARRAY(_element(kind))) for name, kind in types.items()]
    rows = sa.func.unnest(*arrays).table_valued(*types).render_derived(name=ROWS)
    if isinstance(statement, sa.Insert):
        return sa.insert(statement.table).from_select(list(types), sa.select(*(rows.c[name] for name in types)))

    def replace(element: Any, **_: Any) -> Any:
        if isinstance(element, sa.BindParameter) and element.key in types:
            return sa.type_coerce(rows.c[element.key], types[element.key])
        return None

    # It gives back what it was given; its type only says that this can be walked.
    return cast("sa.Update | sa.Delete", visitors.replacement_traverse(statement, {}, replace))


def _element(kind: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    """The type of an array's element: one that is spelled the same in every database, and without a collation."""
    for plain in (sa.Text, sa.BigInteger, sa.Float, sa.Boolean):
        if isinstance(kind, plain):
            return plain()
    raise TypeError(f"no array of {kind!r}")
