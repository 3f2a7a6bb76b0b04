"""LangGraph: a node a star, a checkpoint in SQLite after every step (`durability="sync"`).

Building and compiling its graph is a part of the run: that is how a graph is handed in to it.
"""

import operator
import tempfile
import time
import uuid
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph

from tests.bench.graphs.peers.running import measure, sinks
from tests.bench.graphs.shapes import Graph


class State(TypedDict):
    starts: Annotated[list[float], operator.add]


def noop(_: State) -> dict[str, list[float]]:
    return {"starts": [time.time()]}


def built(graph: Graph, saver: SqliteSaver) -> Any:
    builder = StateGraph(State)
    for star, parents in graph.items():
        builder.add_node(f"s{star}", noop)
        builder.add_edge([f"s{parent}" for parent in parents] if parents else START, f"s{star}")
    for star in sinks(graph):
        builder.add_edge(f"s{star}", END)
    return builder.compile(checkpointer=saver)


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        SqliteSaver.from_conn_string(str(Path(folder) / "checkpoints.db")) as saver,
    ):

        def run(graph: Graph) -> Sequence[float]:
            compiled = built(graph, saver)
            config = {"configurable": {"thread_id": uuid.uuid4().hex}, "recursion_limit": len(graph) + 10}
            found: State = compiled.invoke({"starts": []}, config, durability="sync")
            assert len(found["starts"]) == len(graph)
            return found["starts"]

        measure(f"langgraph {version('langgraph')}", "sqlite", run)


if __name__ == "__main__":
    main()
