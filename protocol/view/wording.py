"""Edits and times in the words that people read; nothing here knows a terminal."""

from collections.abc import Iterable

from asterism.orchestrator.core.edits import (
    AddLine,
    AddStar,
    CancelStar,
    Edit,
    RebindInputs,
    RemoveLine,
    RemoveStar,
    UpdateStar,
)
from asterism.orchestrator.core.ids import StarId

_MAX_NAMED = 3
"""Names listed of one sort of edit; of more only the number is said."""


def describe_edits(edits: Iterable[Edit]) -> str:
    """A batch in one short line: `+2 stars, +4 lines, cancels b01-b`."""
    added = lines = unlined = 0
    removed: list[StarId] = []
    changed: list[StarId] = []
    cancelled: list[StarId] = []
    for edit in edits:
        match edit:
            case AddStar():
                added += 1
            case AddLine():
                lines += 1
            case RemoveLine():
                unlined += 1
            case RemoveStar(star):
                removed.append(star)
            case UpdateStar(star) | RebindInputs(star):
                changed.append(star)
            case CancelStar(star):
                cancelled.append(star)
    parts = [
        *([f"+{count(added, 'star')}"] if added else []),
        *([f"+{count(lines, 'line')}"] if lines else []),
        *([f"-{count(unlined, 'line')}"] if unlined else []),
        *([f"removes {_named(removed)}"] if removed else []),
        *([f"changes {_named(changed)}"] if changed else []),
        *([f"cancels {_named(cancelled)}"] if cancelled else []),
    ]
    return ", ".join(parts) or "no change"


def count(number: int, noun: str) -> str:
    """`1 star`, `2 stars`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def seconds(span_s: float) -> str:
    """A span as people say it: `0.4s`, `12.3s`, `3m 05s`, `2h 01m`."""
    span_s = max(span_s, 0.0)
    if span_s < 60:
        return f"{span_s:.1f}s"
    minutes, rest = divmod(int(span_s), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    return f"{minutes // 60}h {minutes % 60:02d}m"


def one_line(text: str, limit: int) -> str:
    """Text for one cell: control characters and line breaks become spaces, the end is cut.

    Streamed text and error messages come from other machines: none may move the cursor of this terminal.
    """
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return plain if len(plain) <= limit else plain[: max(limit - 1, 0)] + "…"


def tail(text: str, limit: int) -> str:
    """The end of a text for one cell, where `one_line` keeps the beginning."""
    plain = " ".join("".join(char if char.isprintable() else " " for char in text[-4 * limit :]).split())
    return plain if len(plain) <= limit else "…" + plain[len(plain) - max(limit - 1, 0) :]


def _named(stars: list[StarId]) -> str:
    """Distinct names, or their number where there are many."""
    names = list(dict.fromkeys(stars))
    return ", ".join(names) if len(names) <= _MAX_NAMED else count(len(names), "star")
