"""What a second live leader could gain: `python -m tests.bench.leaders`.

Two orchestrators on one PostgreSQL server that share nothing else, each with a database, workers and a client of its
own, beside one of them alone, in turns: two leaders of one database, which have slots to agree about, cannot be more
than that. Then one leader that is handed stars at a steady rate. CPU is that of the named processes; the server's is
that of all its processes.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import psutil

from asterism.orchestrator.core.edits import AddStar, EditBatch
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.star import StarKind, StarSpec
from asterism.protocol.client import AsyncClient
from tests.bench.graphs.product import batches, begun, serving
from tests.bench.graphs.shapes import Graph, named
from tests.postgres import VARIABLE, NoPostgres, Server, server

GRAPHS: Final = ("layered:1000", "independent:5000")
WARM_ROUNDS: Final = 2
TICK_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Leader:
    """One that serves, and who hands it stars."""

    client: AsyncClient
    process: psutil.Process

    async def run(self, constellation: ConstellationId, edits: Sequence[EditBatch]) -> None:
        """Hand in a graph, and wait for its end."""
        for batch in edits:
            await self.client.edit(constellation, batch)
        await self.client.wait(constellation)


@asynccontextmanager
async def leading(postgres: Server) -> AsyncIterator[Leader]:
    """On a database of its own, with two workers."""
    with postgres.database() as url:
        async with serving("postgres", url) as (running, client):
            (serve,) = (child.pid for child in running.children if child.name == "serve")
            yield Leader(client, psutil.Process(serve))


async def seconds(leaders: Sequence[Leader], graph: Graph) -> float:
    """Until all of them have put the graph through, at the same time."""
    constellations = [await begun(leader.client) for leader in leaders]
    edits = list(batches(graph))
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for leader, constellation in zip(leaders, constellations, strict=True):
            group.create_task(leader.run(constellation, edits))
    return time.perf_counter() - began


def cpu_s(process: psutil.Process) -> float:
    """Of a process and its children that live."""
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


async def steady(leader: Leader, database: psutil.Process, rate: int, for_s: float) -> str:
    """One star after the other in small edits, as a fleet that is at work asks for them."""
    constellation = await begun(leader.client)
    each, number = max(1, round(rate * TICK_S)), 0
    before, began = (cpu_s(leader.process), cpu_s(database)), time.perf_counter()
    while number < rate * for_s:
        added = tuple(AddStar(StarSpec(StarId(f"s{number + n}"), StarKind.TOOL, "noop")) for n in range(each))
        number += each
        await leader.client.edit(constellation, EditBatch(added))
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
    await leader.client.wait(constellation)
    took = time.perf_counter() - began
    shares = [
        (cpu_s(process) - earlier) / took for process, earlier in zip((leader.process, database), before, strict=True)
    ]
    return (
        f"{number / took:.0f} stars/s in edits of {each}: the leader takes {shares[0]:.1%} of a core, "
        f"PostgreSQL {shares[1]:.1%}"
    )


async def compare(postgres: Server, pid: int, rounds: int, rate: int, for_s: float) -> None:
    """Print each line as it is known. `pid` is the server's."""
    database = psutil.Process(pid)
    async with AsyncExitStack() as stack:
        leaders = [await stack.enter_async_context(leading(postgres)) for _ in range(2)]
        for name in GRAPHS:
            graph = named(name)
            rates: dict[int, list[float]] = {1: [], 2: []}
            for number in range(rounds + WARM_ROUNDS):
                for count, found in rates.items():
                    took = await seconds(leaders[:count], graph)
                    if number >= WARM_ROUNDS:
                        found.append(count * len(graph) / took)
            one, two = (statistics.median(found) for found in rates.values())
            print(f"{name}: one {one:.0f} stars/s, two together {two:.0f}: {two / one:.2f} times", flush=True)
        print(await steady(leaders[0], database, rate, for_s), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rate", type=int, default=1000, help="stars a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the steady rate")
    options = parser.parse_args()
    try:
        with server("fsync=on") as postgres:
            if postgres.folder is None:
                parser.error(f"{VARIABLE} names a server whose processes are not to be seen from here: unset it")
            pid = int((postgres.folder / "data" / "postmaster.pid").read_text().split()[0])
            asyncio.run(compare(postgres, pid, options.rounds, options.rate, options.seconds))
    except NoPostgres as reason:
        parser.error(f"no PostgreSQL: {reason}")


if __name__ == "__main__":
    main()
