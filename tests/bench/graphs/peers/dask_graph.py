"""dask.distributed: a scheduler and two worker processes on this machine; nothing is on disk."""

import time
import uuid
from collections.abc import Sequence
from typing import Any

from distributed import Client, __version__

from tests.bench.graphs.peers.running import measure
from tests.bench.graphs.shapes import Graph


def noop(*_: float) -> float:
    return time.time()


def main() -> None:
    with Client(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as client:

        def run(graph: Graph) -> Sequence[float]:
            futures: dict[int, Any] = {}
            name = uuid.uuid4().hex
            for star, parents in graph.items():
                futures[star] = client.submit(noop, *(futures[parent] for parent in parents), key=f"{name}-{star}")
            return client.gather(list(futures.values()))

        measure(f"dask {__version__}", "none", run)


if __name__ == "__main__":
    main()
