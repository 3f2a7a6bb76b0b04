"""A small story, told again for every point of it at which a process can die: before and after each commit and send."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import pytest

from tests.sim.auditor import LEADER_LEASE_S
from tests.sim.disk import BlankStore
from tests.sim.invariants import Violation
from tests.sim.schedule import Item, Schedule
from tests.sim.virtual import run_virtually
from tests.sim.world import World, open_store, play

STORY: Final = (
    Item(0, 0.1, "submit"),
    Item(1, 0.6, "edit"),
    Item(2, 1.1, "cancel"),
    Item(3, 2.0, "retry"),
    Item(4, 3.0, "drain"),
    Item(5, 9.5, "forget"),
)
STORIES: Final = {
    "alone": Schedule(7, STORY, is_shared=False, is_tight=False, workers=1, plan_size=3, failing=0.2, hanging=0.1),
    "with a successor": Schedule(
        13, STORY, is_shared=True, is_tight=False, workers=1, plan_size=3, failing=0.2, hanging=0.1
    ),
}
MIDDLE: Final = 40
"""A point before which nobody has been told to leave."""
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


def leader_of(world: World) -> str:
    """The address of the one that led."""
    return max(world.orchestrators, key=lambda one: len(one.lives[0].passed)).address


def test_the_stories_have_everything_in_them(store: BlankStore) -> None:
    worlds = [play(story, store) for story in STORIES.values()]
    told = sum(map(kinds, worlds), Counter[str]())
    assert told.keys() >= KINDS
    assert all(world.auditor.ledger.forgotten for world in worlds)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("role", ["leader", "worker"])
def test_a_process_may_die_at_any_point(story: str, role: str, store: BlankStore) -> None:
    whole = play(STORIES[story], store)
    machine = "w0" if role == "worker" else leader_of(whole)
    points = whole.machines[machine].lives[0].passed
    assert {"before send", "after send"} <= set(points)
    assert role == "worker" or {"before commit", "after commit"} <= set(points)
    for number, point in enumerate(points):
        try:
            world = play(STORIES[story], store, crash=(machine, number))
        except Violation as violation:
            pytest.fail(f"after a death at point {number} of {machine}, {point}: {violation}")
        died = world.machines[machine].lives[0]
        assert (len(died.passed), died.passed[number]) == (number + 1, point)


@pytest.mark.timeout(300)
def test_a_leader_may_be_stopped_at_any_point_for_longer_than_its_lease(store: BlankStore) -> None:
    story = STORIES["with a successor"]
    whole = play(story, store)
    leader = leader_of(whole)
    (other,) = whole.machines.keys() - {leader, "w0"}
    for number in range(len(whole.machines[leader].lives[0].passed)):
        try:
            world = play(story, store, stop=(leader, number, 2.5 * LEADER_LEASE_S))
        except Violation as violation:
            pytest.fail(f"{leader} was stopped at point {number}: {violation}")
        if number < MIDDLE:
            assert world.machines[other].lives[0].passed, "the other one led"
