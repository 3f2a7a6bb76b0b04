"""A batch of edits in the words that people read."""

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
from asterism.protocol.view.wording import count

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
            case AddStar(_, after):
                added += 1
                lines += len(after)
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


def _named(stars: list[StarId]) -> str:
    """Distinct names, or their number where there are many."""
    names = list(dict.fromkeys(stars))
    return ", ".join(names) if len(names) <= _MAX_NAMED else count(len(names), "star")
