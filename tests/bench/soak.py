"""Many stars through one orchestrator that forgets what ended: does it stay as small and as quick as it was?

Run it with `python -m tests.bench.soak`. Requests of 50 stars come at a fixed rate, each planned and run by a real
worker. Every 20,000 stars it prints the largest memory of the orchestrator's process since the last line, how long
requests took, the CPU time a star, the size of the database, and the CPU time of a fixed piece of work beside it: a
shared machine is now faster and now slower. It ends with 1 where memory or the database at any later mark is more than
a tenth above the first, or where the times, in those of the fixed piece, rise by more than a tenth from the first mark
to the last.
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
PACE_STEPS: Final = 20_000
"""Of the fixed piece of work: about a millisecond."""


@dataclass
class Mark:
    """What was seen in one part, and at its end."""

    stars: int = 0
    memory_mb: float = 0.0
    seconds: list[float] = field(default_factory=list)
    """Of each request, from when it was due to be submitted until its end was known."""
    cpu_ms: float = 0.0
    """Of the orchestrator, a star."""
    database_mb: float = 0.0
    paces_ms: list[float] = field(default_factory=list)
    """CPU times of the fixed piece of work."""

    @property
    def pace_ms(self) -> float:
        return statistics.median(self.paces_ms)

    @property
    def ms_p50(self) -> float:
        return 1e3 * statistics.median(self.seconds)

    def line(self) -> str:
        """For people."""
        p99 = 1e3 * sorted(self.seconds)[int(0.99 * len(self.seconds))]
        return (
            f"{self.stars:>8,} stars  {self.memory_mb:7.1f} MB  p50 {self.ms_p50:6.1f} ms  p99 {p99:7.1f} ms"
            f"  CPU {self.cpu_ms:.3f} ms a star  database {self.database_mb:6.2f} MB  fixed piece {self.pace_ms:.3f} ms"
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
        ("the median of the times", [mark.ms_p50 / mark.pace_ms for mark in marks]),
        ("CPU time a star", [mark.cpu_ms / mark.pace_ms for mark in marks]),
    ):
        if rise(values) > ALLOWED:
            found.append(f"{name} rose by {rise(values) - 1:.0%}, in times of the fixed piece of work")
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
    async with serving("sqlite-full", None, *options, workers=["ada"], slots=32) as (fleet, client):
        of = psutil.Process(fleet.children[0].pid)
        folder = fleet.folder / "data"
        marks: list[Mark] = []
        began_at, sent, spent_s = time.perf_counter(), 0, _cpu_s(of)
        while sent * EACH < stars:
            mark = Mark()
            async with asyncio.TaskGroup() as group:
                for _ in range(MARK // EACH):
                    due_at = began_at + sent * EACH / rate
                    await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
                    group.create_task(_one(client, due_at, mark))
                    sent += 1
                    mark.memory_mb = max(mark.memory_mb, of.memory_info().rss / 2**20)
                    mark.paces_ms.append(_pace_ms())
            before, spent_s = spent_s, _cpu_s(of)
            mark.stars = sent * EACH
            mark.cpu_ms = 1e3 * (spent_s - before) / MARK
            mark.database_mb = sum(file.stat().st_size for file in _database(folder)) / 2**20
            print(mark.line(), flush=True)
            marks.append(mark)
    return marks


async def _one(client: AsyncClient, due_at: float, mark: Mark) -> None:
    submitted = await client.submit(Request("plan", PLAN))
    ended = await client.wait(submitted.constellation)
    assert ended.state is ConstellationState.SUCCEEDED, ended
    mark.seconds.append(time.perf_counter() - due_at)


def _pace_ms() -> float:
    began = time.thread_time()
    for number in range(PACE_STEPS):
        _ = number * number
    return 1e3 * (time.thread_time() - began)


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
