"""Bars that are counted, not timed: appends a hop, messages for many ready stars, nothing for workers that rest."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from asterism.orchestrator.core.edits import AddLine, AddStar, Edit, EditBatch
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.request import Request
from asterism.orchestrator.core.star import StarKind, StarSpec
from asterism.protocol.client import AsyncClient
from asterism.protocol.v1 import worker_pb2
from tests.orchestrator.held_store import HeldStore
from tests.orchestrator.serving import PLAN, Peer, RawWorker, served

SLOTS = 128


def stars(count: int, *, in_a_chain: bool) -> EditBatch:
    """As many stars of no work."""
    edits: list[Edit] = []
    for number in range(count):
        star = StarId(f"s{number}")
        edits.append(AddStar(StarSpec(star, StarKind.TOOL, "noop")))
        if number and in_a_chain:
            edits.append(AddLine(TaskStarLine(StarId(f"s{number - 1}"), star, LineKind.SUCCESS)))
    return EditBatch(tuple(edits))


@asynccontextmanager
async def begun(folder: Path, store: HeldStore) -> AsyncIterator[tuple[AsyncClient, ConstellationId, list[RawWorker]]]:
    """A request whose plan has ended, and two workers that are idle."""
    async with served(folder, store) as running, AsyncClient(running.address) as client, Peer(running.address) as peer:
        workers = [RawWorker(peer.worker.Attach()) for _ in range(2)]
        for number, worker in enumerate(workers):
            await worker.hello(f"w{number}", slots=SLOTS)
            await worker.read()
        submitted = await client.submit(Request("plan", PLAN))
        plan = await workers[0].assignment()
        await workers[0].finish(plan.fencing_token)
        await client.wait(submitted.constellation)
        yield client, submitted.constellation, workers


async def test_a_hop_of_a_chain_is_one_append(tmp_path: Path) -> None:
    store = HeldStore()
    async with begun(tmp_path, store) as (client, constellation, workers):
        before = len(store.batches)
        await client.edit(constellation, stars(20, in_a_chain=True))
        for number in range(20):
            # Workers with equally many free slots take turns by name: the first one gets every star.
            assignment = await workers[0].assignment()
            assert assignment.star == f"s{number}"
            await workers[0].finish(assignment.fencing_token)
        await client.wait(constellation)
        # The edit leases the first star; each end leases the next one, and the last end is the request's.
        assert len(store.batches) - before == 1 + 20


async def test_a_thousand_ready_stars_take_few_messages(tmp_path: Path) -> None:
    async with begun(tmp_path, HeldStore()) as (client, constellation, workers):
        before = await client.counters()
        await client.edit(constellation, stars(1000, in_a_chain=False))
        left = 1000
        while left:
            # Both at once would only depend on who is first; each frame is answered by one.
            for worker in workers:
                taken = 0
                while not taken and left:
                    frame = await worker.read()
                    taken = len(frame.assignments)
                    if taken:
                        left -= taken
                        await worker.finish(*(assignment.fencing_token for assignment in frame.assignments))
        await client.wait(constellation)
        after = await client.counters()
    assert after.frames_sent - before.frames_sent <= 1000 // 16
    assert after.frames_received - before.frames_received <= 1000 // 16


async def test_workers_that_rest_cost_the_store_nothing(tmp_path: Path) -> None:
    store = HeldStore()
    async with begun(tmp_path, store) as (client, _, workers):
        before, appended = await client.counters(), len(store.batches)
        for _ in range(10):
            for worker in workers:
                await worker.call.write(worker_pb2.WorkerFrame())
        while (await client.counters()).frames_received - before.frames_received < 20:
            pass
        assert len(store.batches) == appended
