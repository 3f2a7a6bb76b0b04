"""What two states must have in common to count as equal."""

from collections.abc import Iterable

from asterism.orchestrator.core.apply import apply
from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.records import Record
from asterism.orchestrator.core.star import StarState
from asterism.orchestrator.core.state import State


def folded(records: Iterable[Record]) -> State:
    """The state that the records lead to, by the core's own fold."""
    state = State()
    for record in records:
        apply(state, record)
    return state


def assert_same(read: TaskConstellation, known: TaskConstellation) -> None:
    """Equal in all but `ready_at`, which a store may give later than it was, and then only for a star that waits on.

    Dicts compare without order, but the core goes through stars and lines in theirs.
    """
    assert list(read.stars) == list(known.stars)
    assert _lists(read) == _lists(known)
    for star_id, star in read.stars.items():
        other = known.stars[star_id]
        if star.state is StarState.READY:
            assert star.ready_at is not None
            assert other.ready_at is not None
            assert star.ready_at >= other.ready_at
        star.ready_at = other.ready_at = None
    assert read == known


def _lists(constellation: TaskConstellation) -> list[list[list[str]]]:
    """The order of the lines under each star."""
    return [
        [list(lines.get(star, ())) for star in constellation.stars]
        for lines in (constellation.children, constellation.parents)
    ]
