"""Plays schedules: `python -m tests.sim 17 keep=0,3` one, by its name; `python -m tests.sim --count 100` many."""

import argparse
import sys
import time

from asterism.orchestrator.core.records import EditsApplied, EditsRefused
from tests.sim.invariants import Violation
from tests.sim.schedule import draw_schedule, parse_schedule
from tests.sim.world import open_store, play


def main() -> int:
    """Ends with 1 where an invariant did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="*", help="a seed, and what differs from its schedule")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    chosen = parser.parse_args()
    schedules = (
        [parse_schedule(chosen.name)]
        if chosen.name
        else [draw_schedule(seed) for seed in range(chosen.first, chosen.first + chosen.count)]
    )
    store = open_store()
    failed = 0
    began = time.process_time()
    commits = applied = refused = 0
    for schedule in schedules:
        if chosen.name:
            print(schedule)
        try:
            auditor = play(schedule, store).auditor
        except Violation as violation:
            failed += 1
            print(f"{schedule.name}: {violation}", flush=True)
        else:
            commits += auditor.commits
            applied += sum(isinstance(record, EditsApplied) for record in auditor.ledger.records)
            refused += sum(isinstance(record, EditsRefused) for record in auditor.ledger.records)
            if chosen.name:
                print(auditor.digest)
    took = time.process_time() - began
    each_ms = took / len(schedules) * 1000
    print(f"{len(schedules)} schedules, {failed} failed, {commits} commits, {each_ms:.1f} ms of CPU each")
    print(f"batches of edits: {applied} applied, {refused} of stars refused")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
