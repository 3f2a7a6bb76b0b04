"""DBOS: a workflow a star, started by one that waits for its parents first; all of it in SQLite."""

import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dbos import DBOS

from tests.bench.graphs.peers.running import measure
from tests.bench.graphs.shapes import Graph


@DBOS.workflow()
def noop(star: int) -> float:
    return time.time()


@DBOS.workflow()
def whole(graph: dict[int, list[int]]) -> list[float]:
    handles: dict[int, Any] = {}
    ended: dict[int, float] = {}
    for star, parents in graph.items():
        for parent in parents:
            if parent not in ended:
                ended[parent] = handles[parent].get_result()
        handles[star] = DBOS.start_workflow(noop, star)
    for star, handle in handles.items():
        if star not in ended:
            ended[star] = handle.get_result()
    return list(ended.values())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        config: Any = {
            "name": "graphs",
            "system_database_url": f"sqlite:///{Path(folder) / 'dbos.db'}",
            "log_level": "ERROR",
            "run_admin_server": False,
        }
        DBOS(config=config)
        DBOS.launch()

        def run(graph: Graph) -> Sequence[float]:
            return whole({star: list(parents) for star, parents in graph.items()})

        measure(f"dbos {version('dbos')}", "sqlite", run)
        DBOS.destroy()


if __name__ == "__main__":
    main()
