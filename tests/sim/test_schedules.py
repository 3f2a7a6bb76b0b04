"""Thousands of schedules of misfortune, on the real core, loop, store, services, protocol, client and worker."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.sim.disk import BlankStore
from tests.sim.invariants import Violation
from tests.sim.keeping import find_violation, keep, kept_schedules, shrink
from tests.sim.schedule import Schedule, draw_schedule, parse_schedule
from tests.sim.virtual import run_virtually
from tests.sim.world import open_store, play

SCHEDULES = int(os.environ.get("ASTERISM_SIM_SCHEDULES", "2000"))
"""`make soak` takes 20,000."""
FIRST = int(os.environ.get("ASTERISM_SIM_FIRST", "0"))
BLOCK = 50


@pytest.fixture(scope="module")
def store() -> Iterator[BlankStore]:
    opened = open_store()
    yield opened
    run_virtually(opened.close())


def check(schedule: Schedule, store: BlankStore, loads: float) -> None:
    """Play it; a failure is shrunk and kept."""
    try:
        play(schedule, store, loads=loads)
    except Violation as violation:
        pytest.fail(keep(*shrink(schedule, violation, store)))


@pytest.mark.parametrize("first", range(FIRST, FIRST + SCHEDULES, BLOCK))
def test_every_invariant_holds_after_every_event(first: int, store: BlankStore) -> None:
    for seed in range(first, min(first + BLOCK, FIRST + SCHEDULES)):
        check(draw_schedule(seed), store, loads=0.3)


@pytest.mark.parametrize("schedule", list(kept_schedules()), ids=lambda schedule: str(schedule.seed))
def test_what_failed_once_does_not_fail_again(schedule: Schedule, store: BlankStore) -> None:
    violation = find_violation(schedule, store)
    assert violation is None, violation


def test_a_schedule_does_the_same_every_time_in_every_process(store: BlankStore) -> None:
    seeds = ["3", "5", "8"]
    here = [play(draw_schedule(int(seed)), store).auditor.digest for seed in seeds]
    for seed, digest in zip(seeds, here, strict=True):
        printed = subprocess.run(
            [sys.executable, "-m", "tests.sim", seed],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        assert digest in printed.stdout


@pytest.mark.parametrize("seed", range(40))
def test_the_name_of_a_schedule_says_all_of_it(seed: int) -> None:
    whole = draw_schedule(seed)
    thin = replace(whole, items=whole.items[::2], plan_size=1, failing=0.0)
    assert parse_schedule(whole.name.split()) == whole
    assert parse_schedule(thin.name.split()) == thin
