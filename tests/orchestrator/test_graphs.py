"""Whole graphs are read for each identity in its turn, so that none holds up the others."""

import asyncio
from itertools import islice
from pathlib import Path

import grpc
import pytest

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.credential import Role
from asterism.orchestrator.core.ids import ConstellationId
from asterism.orchestrator.core.records import ConstellationEnded, RequestAccepted
from asterism.orchestrator.core.request import Budget, ConstellationState, Request
from asterism.orchestrator.services.client import GRAPHS_AT_ONCE, MAX_GRAPHS
from asterism.protocol.v1 import client_pb2
from asterism.store.memory import MemoryStore
from tests.orchestrator.serving import Peer, code_of, granted, served

OF_ANN = ConstellationId("c1")


class LargeGraph(MemoryStore):
    """A store with one graph that is large, ended and in nobody's memory: to read it takes until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.may_end = asyncio.Event()
        self.reading = 0
        self.most_reading = 0

    async def fill(self) -> None:
        """Make it."""
        accepted = RequestAccepted(1, 1.0, OF_ANN, "r", "ann", Request("boards", "1 2 3 4"), Budget())
        ended = ConstellationEnded(2, 1.0, OF_ANN, ConstellationState.CANCELLED, "enough")
        await self.append([accepted, ended], await self.acquire_epoch())

    async def find_constellation(self, constellation: ConstellationId) -> TaskConstellation | None:
        """Wait where it is that one."""
        if constellation == OF_ANN:
            self.reading += 1
            self.most_reading = max(self.most_reading, self.reading)
            await self.may_end.wait()
            self.reading -= 1
        return await super().find_constellation(constellation)


@pytest.mark.parametrize("method", ["GetConstellation", "Wait", "Edit", "Retry", "Watch"])
async def test_graphs_of_one_identity_are_read_a_few_at_a_time_and_too_many_are_refused(
    tmp_path: Path, method: str
) -> None:
    store = LargeGraph()
    await store.fill()
    ann, bob = [await granted(store, Role.CLIENT, name) for name in ("ann", "bob")]
    async with (
        served(tmp_path, store, max_watches=MAX_GRAPHS * 2) as orchestrator,
        Peer(orchestrator.address, ann) as anns,
        Peer(orchestrator.address, bob) as bobs,
        asyncio.TaskGroup() as group,
    ):
        request = getattr(client_pb2, f"{method}Request")(constellation=OF_ANN)
        ask = getattr(anns.client, method)
        calls = [group.create_task(code_of(ask(request, metadata=anns.metadata))) for _ in range(MAX_GRAPHS + 3)]
        refused = [await call for call in islice(asyncio.as_completed(calls), 3)]
        assert refused == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 3
        assert store.reading == GRAPHS_AT_ONCE

        other = client_pb2.GetConstellationRequest(constellation=await bobs.submit("r"))
        await bobs.client.GetConstellation(other, metadata=bobs.metadata)
        assert store.reading == GRAPHS_AT_ONCE

        store.may_end.set()
        codes = [await call for call in calls]
        assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 3
        assert store.most_reading == GRAPHS_AT_ONCE
