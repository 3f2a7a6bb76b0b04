"""What becomes of a schedule that failed: it is made as small as it goes, printed, and kept for ever."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.sim.disk import BlankStore
from tests.sim.invariants import Violation
from tests.sim.schedule import Schedule, parse_schedule, thinner
from tests.sim.world import play

KEPT: Final = Path(__file__).with_name("seeds.txt")
MAX_TRIES: Final = 200
"""Plays that one failure may cost: some 10 s."""


def find_violation(schedule: Schedule, store: BlankStore) -> Violation | None:
    """What the schedule breaks."""
    try:
        play(schedule, store, loads=1.0)
    except Violation as violation:
        return violation
    return None


def shrink(schedule: Schedule, violation: Violation, store: BlankStore) -> tuple[Schedule, Violation]:
    """The smallest schedule found that breaks the same invariant, and how."""
    tries = 0
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for candidate in thinner(schedule):
            tries += 1
            if tries > MAX_TRIES:
                return schedule, violation
            found = find_violation(candidate, store)
            if found is not None and found.invariant is violation.invariant:
                schedule, violation, is_smaller = candidate, found, True
                break
    return schedule, violation


def keep(schedule: Schedule, violation: Violation) -> str:
    """Add it to those that are always played; gives what to tell people."""
    line = f"{schedule.text}  # {violation.invariant.name}"
    if line not in KEPT.read_text(encoding="utf-8").splitlines():
        with KEPT.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    return f"{violation}\nrepeat it with: python -m tests.sim {schedule.name}\nkept in {KEPT.name}"


def kept_schedules() -> Iterator[Schedule]:
    """All that ever failed, in the order in which they were found."""
    for line in KEPT.read_text(encoding="utf-8").splitlines():
        words = line.partition("#")[0].split()
        if words:
            yield parse_schedule(words)
