"""Figures of an orchestrator at work: an edit while it runs, many live constellations, many idle workers."""

import asyncio
import resource
import statistics
import time
from typing import Any, Final

import psutil

from asterism.orchestrator.core.edits import AddLine, AddStar, EditBatch
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.star import StarKind, StarSpec, Timeouts
from asterism.protocol.client import AsyncClient
from tests.bench.figures.peers import HOLD, holding
from tests.bench.graphs.product import batches, begun, serving
from tests.bench.graphs.shapes import layered

ROUNDS: Final = 15
NO_LIMITS: Final = ("--changes-per-s", "1000000", "--change-burst", "1000000")
RUNNING: Final = StarId("running")


def held(name: StarId = RUNNING) -> AddStar:
    """A star that runs for as long as the benchmark does."""
    return AddStar(StarSpec(name, StarKind.TOOL, HOLD, timeouts=Timeouts(start_to_close_s=None)))


async def live(client: AsyncClient) -> ConstellationId:
    """A constellation in which one star runs."""
    constellation = await begun(client)
    await client.edit(constellation, EditBatch((held(),)))
    return constellation


def behind(prefix: str, stars: int) -> EditBatch:
    """The layered graph, all of it behind the star that runs: it is checked and stored, and nothing more happens."""
    (batch,) = batches(layered(stars), prefix)
    first = stars // 20
    waits = [AddLine(TaskStarLine(RUNNING, StarId(f"{prefix}{n}"), LineKind.SUCCESS)) for n in range(first)]
    return EditBatch((*batch.edits, *waits))


async def edit(database: str, url: str | None) -> dict[str, Any]:
    """An edit of 1,000 stars and 2,900 lines while a star runs, from the call to the answer: it is on disk then."""
    async with serving(database, url, *NO_LIMITS) as (running, client), holding(running.address, ["holder"], 64):
        constellation = await live(client)
        spent = list[float]()
        for number in range(ROUNDS + 1):
            batch = behind(f"r{number}-", 1000)
            began = time.perf_counter()
            await client.edit(constellation, batch)
            spent.append(1e3 * (time.perf_counter() - began))
    spent = sorted(spent[1:])
    return {"edit_ms_p50": round(statistics.median(spent), 1), "edit_ms_min": round(spent[0], 1)}


async def many(database: str, url: str | None) -> dict[str, Any]:
    """One new star in one constellation, from the edit to its answer, with 1 and with 200 live; in turns."""
    if url is not None:
        return {"skipped": "two orchestrators would share the database"}
    async with (
        serving(database, url, *NO_LIMITS) as (few, of_few),
        serving(database, url, *NO_LIMITS) as (lots, of_lots),
        holding(few.address, ["holder"], 256),
        holding(lots.address, ["holder"], 256),
    ):
        one = await live(of_few)
        others = [await live(of_lots) for _ in range(200)]
        spent: dict[str, list[float]] = {"1": [], "200": []}
        cpu: dict[str, float] = {}
        fleets = {"1": few, "200": lots}
        for rounds in (20, 400):
            began = {name: _cpu_s(fleet.children[0].pid) for name, fleet in fleets.items()}
            for number in range(rounds):
                for name, client, target in (("1", of_few, one), ("200", of_lots, others[number % 7])):
                    spent[name].append(await _one_star(client, target, f"{rounds}-{number}"))
            cpu = {name: (_cpu_s(fleet.children[0].pid) - began[name]) / rounds * 1e3 for name, fleet in fleets.items()}
    medians = {name: statistics.median(times[20:]) for name, times in spent.items()}
    return {
        "star_ms_with_1": round(medians["1"], 3),
        "star_ms_with_200": round(medians["200"], 3),
        "ratio": round(medians["200"] / medians["1"], 3),
        "cpu_ratio": round(cpu["200"] / cpu["1"], 3),
    }


async def _one_star(client: AsyncClient, constellation: ConstellationId, name: str) -> float:
    """Milliseconds from the call to its answer: checked, on disk, and on its way to a worker."""
    star = StarId(f"n{name}")
    began = time.perf_counter()
    await client.edit(constellation, EditBatch((AddStar(StarSpec(star, StarKind.TOOL, "noop")),)))
    return 1e3 * (time.perf_counter() - began)


async def idle(database: str, url: str | None) -> dict[str, Any]:
    """500 workers that are attached and have nothing to do: the orchestrator's share of a core, over 20 s."""
    names = [f"w{number}" for number in range(500)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    async with (
        serving(database, url, workers=()) as (running, client),
        holding(running.address, names, 4, channels=50),
    ):
        await asyncio.sleep(5.0)
        pid = running.children[0].pid
        before, began, spent = await client.counters(), time.perf_counter(), _cpu_s(pid)
        await asyncio.sleep(20.0)
        seconds, spent = time.perf_counter() - began, _cpu_s(pid) - spent
        after = await client.counters()
    return {
        "workers": len(names),
        "share_of_a_core": round(spent / seconds, 4),
        "appends": after.appends - before.appends,
        "frames_per_s": round((after.frames_received - before.frames_received) / seconds, 1),
    }


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system
