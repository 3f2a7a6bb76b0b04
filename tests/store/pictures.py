"""What two states must have in common to count as equal."""

from collections.abc import Iterable

from asterism.orchestrator.core.apply import apply
from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.records import Record
from asterism.orchestrator.core.state import State


def folded(records: Iterable[Record]) -> State:
    """The state that the records lead to, by the core's own fold."""
    state = State()
    for record in records:
        apply(state, record)
    return state


def assert_same(read: TaskConstellation, known: TaskConstellation) -> None:
    """Equal, and in the same order: dicts compare without, but the core goes through stars and lines in theirs."""
    assert list(read.stars) == list(known.stars)
    assert _lists(read) == _lists(known)
    assert read == known


def _lists(constellation: TaskConstellation) -> list[list[list[str]]]:
    """The order of the lines under each star."""
    return [
        [list(lines.get(star, ())) for star in constellation.stars]
        for lines in (constellation.children, constellation.parents)
    ]
