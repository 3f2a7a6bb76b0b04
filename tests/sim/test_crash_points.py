"""A small story, told again for every point of it at which a process can die: before and after each commit and send."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import pytest

from tests.sim.disk import BlankStore
from tests.sim.schedule import Item, Schedule
from tests.sim.virtual import run_virtually
from tests.sim.world import World, open_store, play

STORY: Final = (
    Item(0, 0.1, "submit"),
    Item(1, 0.7, "edit"),
    Item(2, 1.0, "look"),
    Item(3, 1.3, "submit"),
    Item(4, 1.6, "cancel"),
    Item(5, 3.0, "retry"),
    Item(6, 4.0, "edit"),
    Item(7, 5.0, "drain"),
)
STORIES: Final = {
    "alone": Schedule(2, STORY, is_shared=False, workers=2, plan_size=4, failing=0.2, hanging=0.1),
    "with a successor": Schedule(11, STORY, is_shared=True, workers=2, plan_size=4, failing=0.2, hanging=0.0),
}
KINDS: Final = {
    "AttemptEnded",
    "AttemptLeased",
    "ConstellationEnded",
    "EditsApplied",
    "EditsRefused",
    "RequestAccepted",
    "SlotReleased",
    "StarFinished",
    "WorkerDraining",
    "WorkerJoined",
    "WorkerLeft",
}


@pytest.fixture(scope="module")
def store() -> Iterator[BlankStore]:
    opened = open_store()
    yield opened
    run_virtually(opened.close())


def kinds(world: World) -> Counter[str]:
    return Counter(type(record).__name__ for record in world.auditor.ledger.records)


def test_the_stories_have_everything_in_them(store: BlankStore) -> None:
    told = Counter[str]()
    for story in STORIES.values():
        told += kinds(play(story, store))
    assert told.keys() >= KINDS


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("machine", ["one:1", "w0", "w1"])
def test_a_process_may_die_at_any_point(story: str, machine: str, store: BlankStore) -> None:
    whole = play(STORIES[story], store)
    points = whole.machines[machine].lives[0].passed
    assert {"before send", "after send"} <= set(points)
    assert machine != "one:1" or {"before commit", "after commit"} <= set(points)
    for number, point in enumerate(points):
        world = play(STORIES[story], store, crash=(machine, number))
        died = world.machines[machine].lives[0]
        assert (len(died.passed), died.passed[number]) == (number + 1, point)
        assert len(world.machines[machine].lives) > 1 or number > len(points) - 8, "it was started again"
