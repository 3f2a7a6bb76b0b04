"""What a star is told at dispatch of what is around it: its graph in rows, and what the fleet offers."""

from collections.abc import Mapping
from typing import assert_never

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.ids import WorkerId
from asterism.orchestrator.core.star import Telling
from asterism.orchestrator.core.state import Worker
from asterism.orchestrator.core.values import Json
from asterism.planner.graph_rows import describe
from asterism.planner.surroundings import Surroundings


def tell(what: Telling, constellation: TaskConstellation, workers: Mapping[WorkerId, Worker]) -> Json:
    """Bounded in size, whatever the graph and the fleet; 10 ms for a graph of 1,000."""
    match what:
        case Telling.GRAPH:
            return describe(constellation)
        case Telling.OFFERS:
            present = (worker for worker in workers.values() if not worker.has_left)
            return Surroundings.of_fleet((worker.profile, worker.labels) for worker in present).to_json()
        case Telling.REQUEST:
            return None
        case _:
            assert_never(what)
