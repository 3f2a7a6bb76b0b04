"""What a step costs grows with what it is about, and no faster: a large graph that fails holds nobody up."""

import sys
from collections.abc import Callable
from types import FrameType

import pytest

from asterism.orchestrator.core.events import (
    AttemptFailed,
    AttemptSucceeded,
    Event,
    HeldAttempt,
    WorkerAttached,
    WorkerRenewed,
    WorkerSaid,
)
from asterism.orchestrator.core.ids import WorkerId
from asterism.orchestrator.core.line import LineKind
from asterism.orchestrator.core.request import Budget
from asterism.orchestrator.core.star import RetryPolicy, StarSpec, StarState
from asterism.orchestrator.core.state import KEEP_ENDED
from tests.core.making import ADA, FATAL, RULE, C, Scene, add, join
from tests.core.picture import replayed

ONCE = RetryPolicy(1)
SIZE = 400
rules = pytest.mark.parametrize("rule", [None, RULE], ids=["no rule", "a rule"])


def work(act: Callable[[], object]) -> int:
    """How often a function is called or a generator goes on meanwhile: the same on every machine."""
    count = 0

    def note(frame: FrameType, event: str, arg: object) -> None:
        nonlocal count
        count += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(before)
    return count


def is_linear(prepared: Callable[[int], Callable[[], object]]) -> bool:
    """Whether what is prepared for a size costs at most about twice as much at twice the size."""
    return work(prepared(2 * SIZE)) < 2.5 * work(prepared(SIZE))


def large(rule: StarSpec | None = None, slots: int = 2) -> Scene:
    scene = Scene(slots)
    scene.submit(budget=Budget(stars=100_000, seconds=None), replan=rule)
    return scene


@rules
def test_many_new_stars_behind_one_that_has_failed(rule: StarSpec | None) -> None:
    def prepared(size: int) -> Callable[[], object]:
        scene = large(rule)
        scene.edit(add("x", retry=ONCE))
        scene.fail("x", FATAL)
        new = [edit for number in range(size) for edit in (add(f"s{number}"), join("x", f"s{number}"))]
        return lambda: scene.edit(*new)

    assert is_linear(prepared)


@rules
@pytest.mark.parametrize("kind", [LineKind.SUCCESS, LineKind.STREAM])
def test_many_parents_of_one_star_that_fail(rule: StarSpec | None, kind: LineKind) -> None:
    def prepared(size: int) -> Callable[[], object]:
        scene = large(rule, slots=size + 1)
        scene.edit(*(add(f"s{number}", retry=ONCE) for number in range(size)))
        scene.edit(add("y"), add("held"), *(join(f"s{number}", "y", kind) for number in range(size)), join("y", "held"))
        tokens = [scene.live(f"s{number}").fencing_token for number in range(size)]
        said = WorkerSaid(0.0, ADA, tuple(AttemptFailed(0.0, ADA, token, FATAL) for token in tokens))
        return lambda: scene.tell(said)

    assert is_linear(prepared)


@rules
def test_a_quorum_that_is_out_of_reach_is_looked_at_once(rule: StarSpec | None) -> None:
    def prepared(size: int) -> Callable[[], object]:
        scene = large(rule, slots=size + 1)
        scene.edit(*(add(f"s{number}", retry=ONCE) for number in range(size)))
        scene.edit(add("y", quorum=size), *(join(f"s{number}", "y", LineKind.QUORUM) for number in range(size)))
        tokens = [scene.live(f"s{number}").fencing_token for number in range(size)]
        said = WorkerSaid(0.0, ADA, tuple(AttemptFailed(0.0, ADA, token, FATAL) for token in tokens))
        return lambda: scene.tell(said)

    assert is_linear(prepared)


@rules
def test_a_root_whose_children_all_lead_to_one_star_fails(rule: StarSpec | None) -> None:
    def prepared(size: int) -> Callable[[], object]:
        scene = large(rule)
        scene.edit(add("x", retry=ONCE))
        fan = [edit for number in range(size) for edit in (add(f"s{number}"), join("x", f"s{number}"))]
        scene.edit(*fan, add("y"), *(join(f"s{number}", "y") for number in range(size)))
        scene.succeed("plan")
        return lambda: scene.fail("x", FATAL)

    assert is_linear(prepared)


def test_a_rewrite_that_has_not_begun_takes_on_a_star_with_many_children_above_a_long_chain() -> None:
    def prepared(size: int) -> Callable[[], object]:
        scene = large(RULE, slots=3)
        scene.edit(add("w", retry=ONCE), add("x", retry=ONCE), add("end0"))
        for number in range(size):
            scene.edit(add(f"s{number}"), join("x", f"s{number}"), join(f"s{number}", "end0"))
            scene.edit(add(f"end{number + 1}"), join(f"end{number}", f"end{number + 1}"))
        scene.fail("w", FATAL)
        assert scene.star("replan.1").state is StarState.WAITING, "the plan is still being written"
        return lambda: scene.fail("x", FATAL)

    assert is_linear(prepared)


def waiting(size: int) -> Scene:
    """As many workers, whose slots are all taken, as stars that wait, each for another set of labels."""
    scene, labels = large(slots=1), {f"k{bit}": "v" for bit in range(10)}
    for number in range(size):
        scene.attach(WorkerId(f"w{number}"), 1, labels=labels)
    scene.edit(*(add(f"busy{number}") for number in range(size)))
    for number in range(1, size + 1):
        needed = frozenset(f"label:k{bit}=v" for bit in range(10) if number >> bit & 1)
        scene.edit(add(f"s{number}", requires=needed))
    assert len(scene.machine.waiting_for(C)) == size
    return scene


@pytest.mark.parametrize("event", [WorkerRenewed, AttemptSucceeded, WorkerAttached])
def test_a_worker_speaks_where_many_wait_for_many(event: type) -> None:
    def prepared(size: int) -> Callable[[], object]:
        scene = waiting(size)
        worker = scene.machine.workers[WorkerId("w0")]
        (token,) = worker.running
        said: dict[type, Event] = {
            WorkerRenewed: WorkerRenewed(0.0, worker.id),
            AttemptSucceeded: AttemptSucceeded(0.0, worker.id, token, None),
            WorkerAttached: WorkerAttached(0.0, worker.id, worker.instance, worker.profile, (HeldAttempt(token),)),
        }
        return lambda: scene.tell(said[event])

    assert is_linear(prepared)


def test_what_many_wait_for_beside_a_large_fleet() -> None:
    def prepared(size: int) -> Callable[[], object]:
        scene = waiting(size)
        return lambda: scene.machine.waiting_for(C)

    assert is_linear(prepared)


def test_what_has_ended_is_dropped_beside_a_large_fleet() -> None:
    def prepared(size: int) -> Callable[[], object]:
        scene = Scene()
        for number in range(size):
            scene.attach(WorkerId(f"w{number}"), 1)
        for number in range(KEEP_ENDED + 1):
            scene.whole_request(f"r{number}")
        state = replayed(scene.records)
        assert len(state.ended) == KEEP_ENDED + 1
        return state.evict_ended

    assert work(prepared(80)) < work(prepared(10)) + 10
