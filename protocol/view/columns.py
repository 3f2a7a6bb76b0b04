"""Tables that fit a terminal without cutting what people copy from them: names, states, commands."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.text import Text

_GAP: Final = 2
"""Between two columns."""
_INDENT: Final = "    "
"""Before what stands beneath its row."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    least: int | None = None
    """Where there is no room even for so much of it, or for all of it if that is less, it is left out. None: always
    there, and never cut."""
    is_number: bool = False


WHOLE: Final = sys.maxsize
"""The least of a column that is there as a whole, or not at all."""


def print_table(out: Console, columns: Sequence[Column], rows: Sequence[Sequence[Text]]) -> None:
    """Prints a table as `table_lines` makes it, as wide as the terminal; nothing is cut where there is none."""
    for line in table_lines(columns, rows, out.width if out.is_terminal else sys.maxsize):
        out.print(line, soft_wrap=True)  # what is wider than the terminal is folded by it, and so is copied whole


def table_lines(columns: Sequence[Column], rows: Sequence[Sequence[Text]], room: int) -> Iterator[Text]:
    """The lines of a table in `room` columns of a terminal. A cell that is not to be cut (`overflow` is "fold") stands
    beneath its row where it does not fit."""
    all_rows = [[Text(column.name, style="dim") for column in columns], *rows]
    sizes = [max(row[place].cell_len for row in all_rows) for place in range(len(columns))]
    widths = fit(columns, sizes, room)
    for row in all_rows:
        beneath = [cell.overflow == "fold" and cell.cell_len > width for cell, width in zip(row, widths, strict=True)]
        cells = (
            _padded(Text() if is_beneath else cell, width, is_number=column.is_number)
            for column, cell, width, is_beneath in zip(columns, row, widths, beneath, strict=True)
            if width > 0
        )
        line = Text(" " * _GAP).join(cells)
        line.rstrip()
        yield line
        yield from (Text(_INDENT) + cell for cell, is_beneath in zip(row, beneath, strict=True) if is_beneath)


def fit(columns: Sequence[Column], sizes: Sequence[int], room: int) -> list[int]:
    """How wide each column becomes whose longest cell has that size; 0: it is left out. The last ones go first."""
    widths = [
        size if column.least is None else min(size, column.least) for column, size in zip(columns, sizes, strict=True)
    ]

    def spare() -> int:
        shown = [width for width in widths if width > 0]
        return room - sum(shown) - _GAP * (len(shown) - 1)

    for place in reversed(range(len(columns))):
        if spare() < 0 and columns[place].least is not None:
            widths[place] = 0
    for place, size in enumerate(sizes):
        if widths[place] > 0:
            widths[place] += max(min(size - widths[place], spare()), 0)
    return widths


def _padded(cell: Text, width: int, *, is_number: bool) -> Text:
    padded = cell.copy()
    padded.truncate(width, overflow="ellipsis")
    spaces = width - padded.cell_len
    if is_number:
        padded.pad_left(spaces)
    else:
        padded.pad_right(spaces)
    return padded
