"""Nothing waits in silence: each star that does not run names what it waits for."""

from asterism.orchestrator.core.events import DrainRequested, WorkerDetached
from asterism.orchestrator.core.ids import ConstellationId, WorkerId
from tests.core.making import ADA, BOB, C, Scene, add, graph, join


def reason(scene: Scene, star: str = "x") -> str:
    return {str(name): text for name, text in scene.machine.waiting_for(C).items()}[star]


def test_star_waits_for_its_parents_the_first_three_by_name() -> None:
    scene = graph(*(add(f"p{n}") for n in range(5)), add("x"), *(join(f"p{n}", "x") for n in range(5)))
    assert reason(scene) == "p0, p1, p2 and 2 more"
    scene.succeed("p1")
    assert reason(scene) == "p0, p2, p3 and 1 more"
    scene.succeed("p0")
    assert reason(scene) == "p2, p3, p4"
    scene.succeed("p2")
    scene.succeed("p3")
    assert reason(scene) == "p4"


def test_only_what_neither_runs_nor_has_ended_waits() -> None:
    scene = graph(add("x"), add("y"), join("y", "x"), add("z"))
    scene.succeed("z")
    assert scene.machine.waiting_for(C) == {"x": "y"}
    assert scene.machine.waiting_for(ConstellationId("other")) == {}


def test_star_waits_for_the_end_of_its_backoff_and_then_for_a_slot() -> None:
    scene = graph(add("x"), slots=2)
    scene.time(1.25)
    scene.fail("x")
    assert reason(scene) == "the backoff after attempt 1, until 11.250"
    scene.edit(add("y"))
    scene.time(12.0)
    assert reason(scene) == "a free slot"


def test_star_waits_for_a_free_slot_where_some_worker_could_run_it() -> None:
    scene = graph(add("x"), slots=1)
    assert reason(scene) == "a free slot"


def test_star_waits_for_any_worker_at_all() -> None:
    scene = graph()
    scene.tell(WorkerDetached(0.0, ADA, "one"))
    scene.edit(add("x"))
    assert reason(scene) == "a worker: none is attached"


def test_star_waits_for_the_end_of_a_drain() -> None:
    scene = graph()
    scene.attach(BOB)
    scene.tell(DrainRequested(0.0, ADA, True))
    scene.tell(DrainRequested(0.0, BOB, True))
    scene.attach(WorkerId("cyd"), tools=("t",), programs=())
    scene.tell(DrainRequested(0.0, WorkerId("cyd"), True))
    scene.tell(WorkerDetached(0.0, ADA, "one"))
    scene.tell(WorkerDetached(0.0, BOB, "one"))
    scene.edit(add("x"))
    assert reason(scene) == "a worker that takes stars: those that could run it are draining"


def test_star_waits_for_one_worker_with_all_that_it_needs() -> None:
    scene = graph()
    scene.attach(BOB, models=("m",), tools=("other",))
    scene.edit(add("x", requires=frozenset({"model:m"})))
    assert reason(scene) == "one worker with all of model:m, tool:t"


def test_star_waits_for_what_no_attached_worker_has() -> None:
    scene = graph()
    scene.attach(BOB, models=("m", "l"))
    scene.tell(WorkerDetached(0.0, BOB, "one"))
    scene.edit(add("x", requires=frozenset({"model:m", "model:l"})))
    assert reason(scene) == "a worker with model:l, model:m: none that is attached has it"
