"""What an empty star costs, through the real commands: `python -m tests.bench.overhead` (or `make bench`).

One `asterism serve` (SQLite, FULL unless told otherwise: every step on disk before it is visible) and two
`asterism work`, all on loopback, run a fan of 1,000 no-op stars and a chain of 200.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from asterism.orchestrator.core.records import AttemptLeased, ConstellationEnded, Record
from asterism.orchestrator.core.request import Budget, ConstellationState, Request
from asterism.protocol.answers import StreamedText
from asterism.protocol.client import AsyncClient
from tests.processes import Fleet, attached, fleet


def fan(stars: int) -> str:
    """A root, `stars` children of it, and one star behind them all."""
    names = [f"s{number}" for number in range(stars)]
    listed = [_noop("root", [])] + [_noop(name, ["root"]) for name in names] + [_noop("join", names)]
    return json.dumps({"stars": listed})


def chain(stars: int) -> str:
    """Each star behind the one before."""
    return json.dumps({"stars": [_noop(f"s{n}", [f"s{n - 1}"] if n else []) for n in range(stars)]})


def _noop(name: str, after: Sequence[str]) -> dict[str, object]:
    return {"id": name, "kind": "tool", "program": "noop", "after": list(after)}


async def run_plan(client: AsyncClient, plan: str) -> tuple[list[Record], float]:
    """Submit a plan and watch it to its end; gives its records, and the seconds from the submit to the last."""
    began = time.perf_counter()
    submitted = await client.submit(Request("plan", plan), budget=Budget())
    watched = client.watch(submitted.constellation, with_text=False)
    records: list[Record] = [record async for record in watched if not isinstance(record, StreamedText)]
    ended = records[-1]
    assert isinstance(ended, ConstellationEnded), ended
    assert ended.state is ConstellationState.SUCCEEDED, ended
    return records, time.perf_counter() - began


def cpu_seconds(running: Fleet) -> float:
    """CPU time of the orchestrator and the workers so far."""
    times = [psutil.Process(child.pid).cpu_times() for child in running.children if child.is_alive]
    return sum(each.user + each.system for each in times)


async def measure(running: Fleet, *, stars: int, hops: int, rounds: int) -> dict[str, float]:
    """Medians over `rounds`, after one round that is not counted."""
    rates, p50s, p99s, cpu_ms = list[float](), list[float](), list[float](), list[float]()
    async with AsyncClient(running.address) as client:
        await attached(client, 2)
        for number in range(rounds + 1):
            before = cpu_seconds(running)
            records, seconds = await run_plan(client, fan(stars))
            spent = cpu_seconds(running) - before
            chained, _ = await run_plan(client, chain(hops))
            leases = [record.at for record in chained if isinstance(record, AttemptLeased)]
            # The first lease is the plan star's; the hops are those between the stars of the chain.
            hop_ms = sorted(1e3 * (later - earlier) for earlier, later in itertools.pairwise(leases[1:]))
            if number:
                rates.append((stars + 2) / seconds)
                cpu_ms.append(1e3 * spent / (stars + 2))
                p50s.append(statistics.median(hop_ms))
                p99s.append(hop_ms[int(0.99 * len(hop_ms))])
            assert len(records) >= 2 * stars
    return {
        "fan_stars": stars,
        "stars_per_s": round(statistics.median(rates), 1),
        "cpu_ms_per_star": round(statistics.median(cpu_ms), 3),
        "chain_stars": hops,
        "hop_ms_p50": round(statistics.median(p50s), 3),
        "hop_ms_p99": round(statistics.median(p99s), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stars", type=int, default=1000)
    parser.add_argument("--hops", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--synchronous", choices=["FULL", "NORMAL"], default="FULL")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        fleet(Path(folder), serve=["--synchronous", options.synchronous, "--log-level", "warning"]) as running,
    ):
        for name in ("ada", "bob"):
            running.start_worker(name, "--model", "none", "--slots", "128", "--log-level", "warning")
        figures = asyncio.run(measure(running, stars=options.stars, hops=options.hops, rounds=options.rounds))
    print(json.dumps({"synchronous": options.synchronous, **figures}))


if __name__ == "__main__":
    main()
