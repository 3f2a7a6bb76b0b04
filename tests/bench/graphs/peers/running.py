"""What the scripts of other systems share: how they are run, and the line that they print."""

import sys
import time
from collections.abc import Callable, Sequence

from tests.bench.graphs.measuring import Figures, Meter, hops
from tests.bench.graphs.shapes import Graph, named

Run = Callable[[Graph], Sequence[float]]
"""Runs a graph to its end; gives the times at which the stars started, as far as they are known."""


def measure(system: str, database: str, run: Run) -> None:
    """Run the graph that the command line names twice, the first time to warm up; print the figures of the second."""
    graph = named(sys.argv[1])
    run(graph)
    meter = Meter()
    began = time.perf_counter()
    starts = run(graph)
    seconds = time.perf_counter() - began
    p50, p99 = hops(starts) if sys.argv[1].startswith("chain") and len(starts) > 2 else (None, None)
    spent = 1e3 * sum(meter.cpu_s().values()) / len(graph)
    figures = Figures(system, sys.argv[1], database, len(graph), seconds, None, p50, p99, round(spent, 3))
    figures.peak_mb = meter.peak_mb()
    print(figures.line())


def sinks(graph: Graph) -> list[int]:
    """The stars that nothing depends on."""
    parents = {parent for of_one in graph.values() for parent in of_one}
    return [star for star in graph if star not in parents]
