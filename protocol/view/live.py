"""The live view in a terminal: a head, a bar, a table of stars that fits, and the last news."""

import time
from collections.abc import Iterable
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from asterism.orchestrator.core.events import Chunk
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.records import ConstellationRecord
from asterism.orchestrator.core.star import StarState
from asterism.protocol.view.progress import Progress, StarRow
from asterism.protocol.view.style import REQUEST_STYLES, STATE_STYLES
from asterism.protocol.view.threads import threads_frame
from asterism.protocol.view.wording import count, one_line, seconds, tail

_NEWS: Final = 3
"""Lines of news under the table."""
_AROUND: Final = 7
"""Lines that are no rows of stars: head, bar, two of the table's head, the summary, and two to spare for the prompt."""


class LiveView:
    """Follows one request in a terminal. Use it as a context manager; `refresh` draws a frame."""

    def __init__(self, console: Console, progress: Progress, star: StarId | None = None) -> None:
        """With `star`, frames show the reasoning threads of that star side by side."""
        self._progress = progress
        self._star = star
        self._behind_s: float | None = None
        """This machine's clock minus the orchestrator's, at most: the smallest difference seen."""
        self._live = Live(self, console=console, auto_refresh=False, vertical_overflow="crop")

    def __enter__(self) -> "LiveView":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, record: ConstellationRecord) -> None:
        """Folds in a record."""
        difference = time.time() - record.at
        self._behind_s = difference if self._behind_s is None else min(self._behind_s, difference)
        self._progress.apply(record)

    def hear(self, star: StarId, attempt: int, chunks: Iterable[Chunk]) -> None:
        """Folds in streamed text."""
        self._progress.hear(star, attempt, chunks)

    def say(self, text: str) -> None:
        """Prints a line above the view."""
        self._live.console.print(Text(text))

    def refresh(self) -> None:
        """Draws the next frame."""
        self._live.refresh()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        now = time.time() - (self._behind_s or 0.0)
        row = None if self._star is None else self._progress.stars.get(self._star)
        if row is not None:
            yield threads_frame(row, now, width=console.width, height=console.height - 1)
        else:
            yield frame(self._progress, now, width=console.width, height=console.height)


def frame(progress: Progress, now: float, *, width: int, height: int) -> RenderableType:
    """One picture of the request, of at most `height` lines; `now` by the orchestrator's clock."""
    news = list(progress.changes)[-_NEWS:]
    room = max(height - _AROUND - len(news), 1)
    rows = list(progress.most_interesting())
    shown, rest = rows[:room], rows[room:]
    parts: list[RenderableType] = [_head(progress, now), _bar(progress, width), _table(shown, now, width)]
    if rest:
        parts.append(_rest(rest))
    start = progress.accepted_at or now
    parts.extend(
        Text(f"{seconds(change.at - start):>8} {change.text}", style="dim", no_wrap=True, overflow="ellipsis")
        for change in news
    )
    return Group(*parts)


def _head(progress: Progress, now: float) -> Text:
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(one_line(progress.name, 60) or "…", style="bold")
    head.append(f"  {progress.state.value}", style=REQUEST_STYLES[progress.state])
    head.append(f"  revision {progress.revision}  {seconds(progress.elapsed_s(now))}  {progress.id}", style="dim")
    return head


def _bar(progress: Progress, width: int) -> RenderableType:
    known, terminal = len(progress.stars), progress.stars_terminal
    grid = Table.grid(padding=(0, 1))
    words = [
        f"{terminal}/{count(known, 'star')}",
        *(f"{progress.count(state)} {state.value.lower()}" for state in StarState if progress.count(state)),
    ]
    bar = ProgressBar(total=max(known, 1), completed=terminal, width=max(min(width - 60, 40), 10))
    grid.add_row(bar, Text("  ".join(words), no_wrap=True, overflow="ellipsis"))
    return grid


def _table(rows: list[StarRow], now: float, width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=False)
    for name in ("star", "kind", "state", "worker"):
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    table.add_column("try", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("says", no_wrap=True, overflow="ellipsis")
    room = max(width - 80, 16)
    for row in rows:
        span = row.seconds(now)
        table.add_row(
            Text(row.id, style="bold" if row.state is StarState.RUNNING else ""),
            row.kind.value,
            Text(row.state.value, style=STATE_STYLES[row.state]),
            Text(one_line(row.worker, 24)),
            str(row.attempt) if row.attempt else "",
            "" if span is None else seconds(span),
            _says(row, room),
        )
    return table


def _says(row: StarRow, room: int) -> Text:
    """The last words of a running star, after the number of its reasoning threads; else its note or its title."""
    if row.state is StarState.RUNNING and row.threads:
        threads = f"[{count(len(row.threads), 'thread')}] " if len(row.threads) > 1 else ""
        return Text(threads + tail(row.said, max(room - len(threads), 8)), style="cyan")
    return Text(one_line(row.note or row.title, room), style="dim")


def _rest(rows: list[StarRow]) -> Text:
    counts = ", ".join(
        f"{number} {state.value.lower()}" for state in StarState if (number := sum(row.state is state for row in rows))
    )
    return Text(f"… and {count(len(rows), 'star')} more: {counts}", style="dim")
