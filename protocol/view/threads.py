"""The reasoning threads of one star, side by side."""

from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from asterism.protocol.view.progress import StarRow
from asterism.protocol.view.style import STATE_STYLES
from asterism.protocol.view.wording import count, one_line, seconds, tail

_COLUMN: Final = 36
"""Characters that a thread needs to be readable; a terminal of 120 shows three side by side."""
_NAME: Final = 16


def threads_frame(row: StarRow, now: float, *, width: int, height: int) -> RenderableType:
    """A head and a cell for each thread, in the order of their names; each cell shows the end of what it says.

    Cells get as many lines as the height allows, at least one; threads that find no room are counted below.
    """
    names = sorted(row.threads, key=_by_number)
    columns = max(1, min(len(names), width // _COLUMN))
    room = max(height - 2, 1)
    shown = names[: columns * room]
    lines = max(1, room // max(1, -(-len(shown) // columns)))
    cell = width // columns - 1
    grid = Table.grid(padding=(0, 1, 0, 0))
    for _ in range(columns):
        grid.add_column(width=cell, no_wrap=False, overflow="fold")
    cells = [_cell(name, row.threads[name], cell, lines) for name in shown]
    for start in range(0, len(cells), columns):
        grid.add_row(*cells[start : start + columns])
    parts: list[RenderableType] = [_head(row, now), grid]
    if len(shown) < len(names):
        parts.append(
            Text(
                f"… and {count(len(names) - len(shown), 'thread')} more", style="dim", no_wrap=True, overflow="ellipsis"
            )
        )
    return Group(*parts)


def _head(row: StarRow, now: float) -> Text:
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(row.id, style="bold")
    head.append(f"  {row.state.value}", style=STATE_STYLES[row.state])
    span = row.seconds(now)
    took = "" if span is None else f"  {seconds(span)}"
    head.append(f"  {one_line(row.worker, 24)}{took}  {count(len(row.threads), 'thread')}", style="dim")
    return head


def _cell(name: str, said: str, width: int, lines: int) -> Text:
    label = one_line(name, _NAME)
    cell = Text(overflow="fold")
    cell.append(f"{label} ", style="bold cyan")
    cell.append(tail(said, max(width * lines - len(label) - 2, 8)))
    return cell


def _by_number(name: str) -> tuple[object, ...]:
    """Sort key under which `t2` is before `t10`, and `t2.1` behind `t2`."""
    parts: list[tuple[str, int]] = []
    for part in name.split("."):
        digits = len(part) - len(part.rstrip("0123456789"))
        number = part[len(part) - digits :]
        # Longer than any real number of threads: a name made to be slow.
        parts.append((part[: len(part) - digits], int(number) if 0 < digits <= 9 else -1))
    return tuple(parts)
