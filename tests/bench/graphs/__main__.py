"""`python -m tests.bench.graphs [GRAPH ...]`: the four graphs on each database, beside the sketch, in one run.

Every round runs the sketch and then the product, so that what else a machine does meets both; the median run counts,
after a round that does not. With --peers, the systems that `make bench-peers` has installed run too.
"""

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.bench.graphs.measuring import Figures, from_line, median
from tests.bench.graphs.product import run_graph, serving
from tests.bench.graphs.report import table
from tests.bench.graphs.shapes import named
from tests.postgres import NoPostgres, Server, server

GRAPHS: Final = ("chain:200", "fan:1000", "layered:1000", "layered:10000", "layered:100000", "independent:5000")
DATABASES: Final = ("sqlite-full", "sqlite-normal", "postgres")
LARGE: Final = 20_000
"""Graphs with more stars run once: their time is long enough to be no matter of chance."""
PEERS: Final = ("dask", "ray", "langgraph", "dbos")
PEER_GRAPHS: Final = ("chain:200", "layered:1000")
PEER_S: Final = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph", nargs="*", default=GRAPHS, help="such as layered:1000  [default: all]")
    parser.add_argument("--database", action="append", choices=DATABASES, help="repeat it  [default: all]")
    parser.add_argument("--rounds", type=int, default=5, help="an odd number, after one that does not count")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--peer-python", type=Path, default=Path("build/graph-peers/bin/python"))
    parser.add_argument("--uvloop", action="store_true", help="the sketch on uvloop too")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    options = parser.parse_args()
    found: list[Figures] = []
    for database in options.database or DATABASES:
        for graph in options.graph:
            rounds = options.rounds if named_size(graph) <= LARGE else 1
            try:
                medians = measure(graph, database, rounds, with_uvloop=options.uvloop)
            except NoPostgres as reason:
                print(f"no PostgreSQL: {reason}", file=sys.stderr)
                break
            show(medians, options.output)
            found += medians
    if options.peers:
        for graph in [graph for graph in options.graph if graph in PEER_GRAPHS]:
            peers = list(run_peers(graph, options.peer_python))
            show(peers, options.output)
            found += peers
    if options.output == "text":
        print(table(found))


def named_size(graph: str) -> int:
    """How many stars a name promises."""
    return int(graph.partition(":")[2])


def show(figures: list[Figures], output: str) -> None:
    """Each as it is known, for whoever waits."""
    for each in figures:
        if output == "json":
            print(each.line(), flush=True)
        else:
            print(f"{each.system:18} {each.graph:18} {each.database:14} {each.stars_per_s:9.0f}/s", file=sys.stderr)


def measure(graph: str, database: str, rounds: int, *, with_uvloop: bool) -> list[Figures]:
    """The medians of the sketch and of the product."""
    with ExitStack() as stack:
        postgres = stack.enter_context(server("fsync=on")) if database == "postgres" else None
        return asyncio.run(_alternate(graph, database, rounds, postgres, with_uvloop=with_uvloop))


async def _alternate(
    graph: str, database: str, rounds: int, postgres: Server | None, *, with_uvloop: bool
) -> list[Figures]:
    shape = named(graph)
    runs: dict[str, list[Figures]] = {}
    with _database(postgres) as url:
        async with serving(database, url) as (running, client):
            for number in range(rounds + 1 if rounds > 1 else 1):
                one = [run_sketch(graph, database, postgres)]
                if with_uvloop:
                    one.append(run_sketch(graph, database, postgres, "--uvloop"))
                one.append(await run_graph(running, client, graph, shape, database))
                for figures in one:
                    if number or rounds == 1:
                        runs.setdefault(figures.system, []).append(figures)
    return [median(of_one) for of_one in runs.values()]


def run_sketch(graph: str, database: str, postgres: Server | None, *options: str) -> Figures:
    """One run, in a process of its own."""
    with _database(postgres) as url:
        command = [sys.executable, "-m", "tests.bench.graphs.sketch", graph, "--database", database, *options]
        if url is not None:
            command += ["--url", url]
        return from_line(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


@contextmanager
def _database(postgres: Server | None) -> Iterator[str | None]:
    if postgres is None:
        yield None
    else:
        with postgres.database() as url:
            yield url


def run_peers(graph: str, python: Path) -> Iterator[Figures]:
    """One run of each other system that is installed."""
    for peer in PEERS:
        script = Path(__file__).parent / "peers" / f"{peer}_graph.py"
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        try:
            done = subprocess.run(
                [python.absolute(), script, graph], stdout=subprocess.PIPE, text=True, env=environment, timeout=PEER_S
            )
        except (FileNotFoundError, subprocess.TimeoutExpired) as error:
            print(f"{peer}: {error}", file=sys.stderr)
            continue
        if done.returncode == 0:
            yield from_line(done.stdout.splitlines()[-1])
        else:
            print(f"{peer} is not installed, or failed; make bench-peers installs it", file=sys.stderr)


if __name__ == "__main__":
    main()
