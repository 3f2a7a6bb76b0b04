"""A graph as text for a model, in a bounded number of characters however many stars there are.

What went wrong comes first, then what may be edited or runs, in full as long as there is room, then finished stars, one
a line. What does not fit is counted by program and state, with the first and last of its names. Names are handles: the
model may ask for more of any star.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from asterism.agents.data import as_text, shortened
from asterism.orchestrator.core.star import StarState
from asterism.planner.document import format_path
from asterism.planner.graph_rows import Graph, Parent, Row

CHARACTERS_A_TOKEN: Final = 4
"""English text and JSON in the vocabularies of today's models have 3 to 5; no tokenizer is asked."""
DEFAULT_CHARACTERS: Final = 20_000
"""Of a view: 5,000 tokens, which leave 3,000 of 8,000 for the request, the rules and the tools."""
_GROUPS: Final = 24
"""Most lines that count what did not fit."""
_SHORT_RESULT: Final = 160
_LONG_RESULT: Final = 1_500
_ENDS: Final = {"completion": " however it ended", "stream": " while it runs", "quorum": " (quorum)"}


def view(graph: Graph, most: int = DEFAULT_CHARACTERS) -> str:
    """The graph in at most so many characters."""
    counts = ", ".join(f"{count} {state}" for state, count in sorted(graph.counts.items()))
    head = f"revision {graph.revision}; {counts}"
    failed = [row for row in graph.stars if row.state == StarState.FAILED]
    pending = _by_need([row for row in graph.stars if row.is_pending or row.state == StarState.RUNNING], failed)
    skipped = [row for row in graph.stars if row.state == StarState.CANCELLED]
    succeeded = [row for row in graph.stars if row.state == StarState.SUCCEEDED]
    left = most - len(head)
    parts = [head]
    for title, rows, share, show in (
        ("FAILED (ended; cannot be edited)", failed, 0.3, _full),
        ("PENDING AND RUNNING (WAITING and READY may be edited, RUNNING may be cancelled)", pending, 0.55, _full),
        ("CANCELLED (ended; they never ran to their end)", skipped, 0.4, _full),
        ("SUCCEEDED (ended; their results may be used)", succeeded, 1.0, _finished),
    ):
        if rows:
            section = _section(title, rows, int(left * share), show)
            left -= len(section) + 1
            parts.append(section)
    if graph.left_out:
        parts.append(f"and {graph.left_out} more stars")
    return shortened("\n".join(parts), most)


def details(graph: Graph, names: Iterable[str], most: int) -> str:
    """More of the stars that were asked for."""
    rows = {row.id: row for row in graph.stars}
    lines = [_whole(rows[name]) if name in rows else f"{name}: there is no more of it" for name in dict.fromkeys(names)]
    share = max(200, most // max(1, len(lines)))
    return shortened("\n".join(shortened(line, share) for line in lines), most)


def _by_need(rows: Sequence[Row], failed: Sequence[Row]) -> list[Row]:
    """Those first that depend on something that failed, else as they were added."""
    gone = {row.id for row in failed}
    return sorted(rows, key=lambda row: not any(parent.star in gone for parent in row.after))


def _section(title: str, rows: Sequence[Row], most: int, show: Callable[[Row], str]) -> str:
    """As many rows as fit in half of the room at least, and the rest as groups."""
    lines = [f"{title}:"]
    room = most - len(lines[0]) - (_GROUPS * 40 if len(rows) > 20 else 0)
    for index, row in enumerate(rows):
        line = show(row)
        if len(line) + 1 > room:
            lines.extend(_grouped(rows[index:], most - sum(len(line) + 1 for line in lines)))
            break
        room -= len(line) + 1
        lines.append(line)
    return "\n".join(lines)


def _grouped(rows: Sequence[Row], most: int) -> list[str]:
    groups: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        groups.setdefault((row.state, f"{row.kind}.{row.program}", row.error.partition(":")[0]), []).append(row.id)
    lines: list[str] = []
    for (state, program, error), names in sorted(groups.items(), key=lambda group: -len(group[1])):
        shown = ", ".join(names[:2]) + (f", ... {names[-1]}" if len(names) > 2 else "")
        line = f"and {len(names)} {state} of {program}{f' ({error})' if error else ''}: {shown}"
        most -= len(line) + 1
        if most < 0 or len(lines) >= _GROUPS:
            lines.append(f"and {len(groups) - len(lines)} more groups")
            break
        lines.append(line)
    return lines


def _full(row: Row) -> str:
    """A star that has no result: what it is, what it waits for, and what went wrong with it."""
    uses = [f"{name}={format_path((use.star, *use.path))}" for name, use in row.uses.items()]
    constants = [f"{name}={_json(value)}" for name, value in row.inputs.items()]
    text = f"{row.id} {row.state} {row.kind}.{row.program}({', '.join((*uses, *constants))})"
    if row.after:
        text += f" after {', '.join(_after(parent) for parent in row.after)}"
    if row.more:
        text += f"; {_json(row.more)}"
    for attempt in row.attempts:
        text += f"\n    attempt {one_line(attempt)}"
    if row.error:
        text += f"\n    error {one_line(row.error)}"
    return text


def _after(parent: Parent) -> str:
    return f"{parent.star} if {parent.when}" if parent.when else f"{parent.star}{_ENDS.get(parent.on, '')}"


def _finished(row: Row, most: int = _SHORT_RESULT) -> str:
    size = f" ({row.size} bytes)" if row.size else ""
    return f"{row.id} {row.kind}.{row.program}{size}: {one_line(shortened(row.result, most))}"


def _whole(row: Row) -> str:
    return _finished(row, _LONG_RESULT) if row.state == StarState.SUCCEEDED else _full(row)


def one_line(text: str) -> str:
    """Line breaks of others could forge a line of the view."""
    return " ".join(text.split())


def _json(value: object) -> str:
    return as_text(json.dumps(value, ensure_ascii=False))
