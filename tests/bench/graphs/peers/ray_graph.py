"""Ray: two CPUs of this machine; nothing is on disk."""

import time
from collections.abc import Sequence
from typing import Any

import ray

from tests.bench.graphs.peers.running import measure
from tests.bench.graphs.shapes import Graph


@ray.remote(num_cpus=1)
def noop(*_: float) -> float:
    return time.time()


def main() -> None:
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)

    def run(graph: Graph) -> Sequence[float]:
        made: dict[int, Any] = {}
        for star, parents in graph.items():
            made[star] = noop.remote(*(made[parent] for parent in parents))
        return ray.get(list(made.values()))

    measure(f"ray {ray.__version__}", "none", run)
    ray.shutdown()


if __name__ == "__main__":
    main()
