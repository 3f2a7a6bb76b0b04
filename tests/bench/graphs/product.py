"""The same graphs through `asterism serve` and two `asterism work`."""

import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from asterism.orchestrator.core.edits import AddStar, Edit, EditBatch
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.records import AttemptLeased
from asterism.orchestrator.core.request import Budget, ConstellationState, Request
from asterism.orchestrator.core.star import StarKind, StarSpec
from asterism.protocol.client import AsyncClient
from tests.bench.graphs.measuring import Figures, Meter, hops
from tests.bench.graphs.shapes import Graph
from tests.processes import Fleet, attached, fleet

WORKERS: Final = ("ada", "bob")
SLOTS: Final = 128
"""Of each worker: what the sketch keeps in flight."""
MAX_EDITS: Final = 20_000
"""Of one batch: what an orchestrator takes."""
FIRST: Final = '{"stars": [{"id": "first", "kind": "tool", "program": "noop"}]}'
BUDGET: Final = Budget(stars=1_000_000, attempts=10_000_000, seconds=None)


def serve_options(database: str, url: str | None) -> list[str]:
    """What `asterism serve` is told for a database such as "sqlite-normal"."""
    if database == "postgres":
        assert url is not None
        return ["--store", url]
    return ["--synchronous", database.removeprefix("sqlite-").upper()]


@asynccontextmanager
async def serving(
    database: str, url: str | None = None, *options: str, workers: Sequence[str] = WORKERS, slots: int = SLOTS
) -> AsyncIterator[tuple[Fleet, AsyncClient]]:
    """A fleet and a client of it."""
    with tempfile.TemporaryDirectory() as folder:
        told = ["--log-level", "warning", *serve_options(database, url), *options]
        with fleet(Path(folder), serve=told) as running:
            for name in workers:
                running.start_worker(name, "--model", "none", "--slots", str(slots), "--log-level", "warning")
            async with AsyncClient(running.address, deadline_s=120.0) as client:
                await attached(client, len(workers))
                yield running, client


def batches(graph: Graph, prefix: str = "s") -> Iterator[EditBatch]:
    """Each star with its lines, in as few batches as may be."""
    edits: list[Edit] = []
    worth = 0
    for number, parents in graph.items():
        star = StarId(f"{prefix}{number}")
        after = tuple(StarId(f"{prefix}{parent}") for parent in parents)
        if worth + 1 + len(after) > MAX_EDITS:
            yield EditBatch(tuple(edits))
            edits, worth = [], 0
        edits.append(AddStar(StarSpec(star, StarKind.TOOL, "noop"), after))
        worth += 1 + len(after)
    yield EditBatch(tuple(edits))


async def begun(client: AsyncClient) -> ConstellationId:
    """A request whose only star has ended: an edit brings it back."""
    submitted = await client.submit(Request("plan", FIRST), budget=BUDGET)
    ended = await client.wait(submitted.constellation)
    assert ended.state is ConstellationState.SUCCEEDED, ended
    return submitted.constellation


async def run_graph(running: Fleet, client: AsyncClient, name: str, graph: Graph, database: str) -> Figures:
    """Hand the graph in by edits, and wait for its end."""
    constellation = await begun(client)
    edits = list(batches(graph))
    roots = [child.pid for child in running.children if child.is_alive]
    counted = await client.counters()
    meter = Meter(roots)
    began = time.perf_counter()
    for batch in edits:
        await client.edit(constellation, batch)
    submitted_s = time.perf_counter() - began
    ended = await client.wait(constellation)
    seconds = time.perf_counter() - began
    cpu_s, peak_mb, after = meter.cpu_s(), meter.peak_mb(), await client.counters()
    assert ended.state is ConstellationState.SUCCEEDED, ended
    p50, p99 = await _hops(client, constellation) if name.startswith("chain") else (None, None)
    names = ["client", *(child.name for child in running.children if child.is_alive)]
    return Figures(
        "asterism",
        name,
        database,
        len(graph),
        seconds,
        submitted_s,
        p50,
        p99,
        round(1e3 * sum(cpu_s.values()) / len(graph), 3),
        peak_mb,
        after.appends - counted.appends,
        after.frames_sent - counted.frames_sent,
        after.frames_received - counted.frames_received,
        parts={name: round(1e3 * spent / len(graph), 3) for name, spent in zip(names, cpu_s.values(), strict=True)},
    )


async def _hops(client: AsyncClient, constellation: ConstellationId) -> tuple[float, float]:
    leases = [item.at async for item in client.watch(constellation, 0, False) if isinstance(item, AttemptLeased)]
    return hops(leases[2:])  # not those of the plan and of the star that began the request
