"""Many stars through one orchestrator that forgets what ended: does it stay as small and as quick as it was?

Run it with `python -m tests.bench.soak`. Requests of 50 stars come at a fixed rate, each planned and run by a real
worker. Every 20,000 stars it prints the largest memory of the orchestrator's process since the last line, the size of
the database, how long requests took and the CPU time a star; and then, since a shared machine is now faster and now
slower, both times once more as multiples of those of a twin: an orchestrator that has had nothing else to do gets the
same requests in turns with the old one. It ends with 1 where memory or the database at any later mark is more than a
tenth above the first, or where a multiple rises by more than a tenth from the first mark to the last.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from asterism.orchestrator.core.request import ConstellationState, Request
from asterism.protocol.client import AsyncClient
from tests.bench.figures.live import NO_LIMITS
from tests.bench.graphs.product import serving

MARK: Final = 20_000
"""Stars between two lines; the first such part is what the others are compared with."""
WIDTH: Final = 7
"""Stars of a layer, and layers: with the star that plans them, a request has 50 and takes 8 hops."""
EACH: Final = WIDTH * WIDTH + 1
RETENTION_S: Final = 5.0
ALLOWED: Final = 1.10
TURNS: Final = 40
"""Requests to the old one and to its twin at each mark: in the end the twin has had as many as make the first mark."""


@dataclass
class Mark:
    """What was seen in one part, and at its end."""

    stars: int
    memory_mb: float = 0.0
    seconds: list[float] = field(default_factory=list)
    """Of each request, from when it was due to be submitted until its end was known."""
    cpu_ms: float = 0.0
    """Of the orchestrator, a star."""
    database_mb: float = 0.0
    times_twin: float = 0.0
    """The median time of a request as a multiple of the twin's, in turns."""
    times_twin_cpu: float = 0.0
    """The same of the CPU time."""

    def line(self) -> str:
        """For people."""
        p50, p99 = (1e3 * sorted(self.seconds)[int(share * len(self.seconds))] for share in (0.5, 0.99))
        return (
            f"{self.stars:>8,} stars  {self.memory_mb:7.1f} MB  database {self.database_mb:6.2f} MB"
            f"  p50 {p50:6.1f} ms  p99 {p99:7.1f} ms  CPU {self.cpu_ms:.3f} ms a star"
            f"  of a twin's: p50 {self.times_twin:.2f}x  CPU {self.times_twin_cpu:.2f}x"
        )


def rise(values: Sequence[float]) -> float:
    """The last over the first of values at equal distances, along the median of all slopes between two of them (Theil
    1950, Sen 1968): a minute in which the machine had other work to do does not move it."""
    slope = statistics.median(
        (later - earlier) / (j - i) for (i, earlier), (j, later) in itertools.combinations(enumerate(values), 2)
    )
    middle = statistics.median(value - slope * index for index, value in enumerate(values))
    return (middle + slope * (len(values) - 1)) / middle


def faults(marks: Sequence[Mark]) -> list[str]:
    """What is past the bounds; needs two marks or more."""
    first, *later = marks
    found: list[str] = []
    for name, before, after in (
        ("memory", first.memory_mb, [mark.memory_mb for mark in later]),
        ("the database", first.database_mb, [mark.database_mb for mark in later]),
    ):
        if max(after) > ALLOWED * before:
            found.append(f"{name} went from {before:.1f} to {max(after):.1f} MB")
    for name, values in (
        ("the median of the times", [mark.times_twin for mark in marks]),
        ("the CPU time", [mark.times_twin_cpu for mark in marks]),
    ):
        if rise(values) > ALLOWED:
            found.append(f"{name} rose by {rise(values) - 1:.0%}, in multiples of the twin's")
    return found


def plan() -> str:
    """No-op tools, each behind three of the layer before."""
    stars: list[dict[str, Any]] = [
        {
            "id": f"s{layer}-{place}",
            "kind": "tool",
            "program": "noop",
            "after": [f"s{layer - 1}-{(place + step) % WIDTH}" for step in range(3)] if layer else [],
        }
        for layer, place in itertools.product(range(WIDTH), repeat=2)
    ]
    return json.dumps({"stars": stars})


async def soak(stars: int, rate: float) -> list[Mark]:
    """Put so many stars through, `rate` of them a second."""
    options = ("--retention-s", str(RETENTION_S), *NO_LIMITS)
    async with (
        serving("sqlite-full", None, *options, workers=["ada"], slots=32) as (fleet, client),
        serving("sqlite-full", None, *options, workers=["ada"], slots=32) as (of_twin, twin),
    ):
        process, process_of_twin = (psutil.Process(one.children[0].pid) for one in (fleet, of_twin))
        marks: list[Mark] = []
        for last in range(MARK, stars + 1, MARK):
            mark = Mark(last)
            began_at, spent_s = time.perf_counter(), _cpu_s(process)
            async with asyncio.TaskGroup() as group:
                for number in range(MARK // EACH):
                    due_at = began_at + number * EACH / rate
                    await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
                    group.create_task(_one(client, due_at, mark.seconds))
                    mark.memory_mb = max(mark.memory_mb, process.memory_info().rss / 2**20)
            mark.cpu_ms = 1e3 * (_cpu_s(process) - spent_s) / MARK
            mark.database_mb = sum(file.stat().st_size for file in _database(fleet.folder / "data")) / 2**20
            await _compare(mark, (client, process), (twin, process_of_twin))
            print(mark.line(), flush=True)
            marks.append(mark)
    return marks


async def _compare(mark: Mark, *both: tuple[AsyncClient, psutil.Process]) -> None:
    """Have the old one and its twin do the same, one request at a time."""
    seconds: tuple[list[float], list[float]] = [], []
    spent_s = [-_cpu_s(process) for _, process in both]
    for turn in range(2 * TURNS):
        which = turn % 2
        await _one(both[which][0], time.perf_counter(), seconds[which])
    old, young = (statistics.median(of_one) for of_one in seconds)
    old_cpu, young_cpu = (before + _cpu_s(process) for before, (_, process) in zip(spent_s, both, strict=True))
    mark.times_twin, mark.times_twin_cpu = old / young, old_cpu / young_cpu


async def _one(client: AsyncClient, due_at: float, seconds: list[float]) -> None:
    submitted = await client.submit(Request("plan", PLAN))
    ended = await client.wait(submitted.constellation)
    assert ended.state is ConstellationState.SUCCEEDED, ended
    seconds.append(time.perf_counter() - due_at)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _database(folder: Path) -> list[Path]:
    return [file for file in folder.glob("asterism.db*") if file.is_file()]


PLAN: Final = plan()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stars", type=int, default=200_000, help="in all, a multiple of 20,000  [default: 200,000]")
    parser.add_argument("--rate", type=float, default=600.0, help="stars a second  [default: 600]")
    options = parser.parse_args()
    found = faults(asyncio.run(soak(options.stars, options.rate)))
    print("\n".join(found) or "flat")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
