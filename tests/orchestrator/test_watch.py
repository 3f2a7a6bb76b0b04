"""Watching: every record once and in order, from any point, until the end; a slow watcher is cut."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from asterism.orchestrator.app import Running
from asterism.orchestrator.core.effects import Broadcast
from asterism.orchestrator.core.events import Chunk
from asterism.orchestrator.core.ids import ConstellationId, StarId, WorkerId
from asterism.orchestrator.core.records import EditsRefused
from asterism.orchestrator.services.watch import MAX_FRAME_BYTES, frames
from asterism.protocol.v1 import client_pb2, types_pb2, worker_pb2
from tests.orchestrator.serving import EOF, Peer, RawWorker, code_of, served

CHAIN = 40


@pytest.fixture
async def orchestrator(tmp_path: Path) -> AsyncIterator[Running]:
    async with served(tmp_path, max_watches=3) as running:
        yield running


@pytest.fixture
async def peer(orchestrator: Running) -> AsyncIterator[Peer]:
    async with Peer(orchestrator.address) as peer:
        yield peer


def stars(*names: str) -> types_pb2.EditBatch:
    """A batch that adds stars of no work."""
    retry = types_pb2.RetryPolicy(max_attempts=1, multiplier=2.0)
    return types_pb2.EditBatch(
        edits=[
            types_pb2.Edit(
                add_star=types_pb2.Edit.AddStar(
                    spec=types_pb2.StarSpec(id=name, kind=types_pb2.STAR_KIND_TOOL, program="noop", retry=retry)
                )
            )
            for name in names
        ]
    )


async def run_plan(worker: RawWorker, *names: str) -> None:
    """Do the plan and every star of it, one after the other."""
    plan = await worker.assignment()
    await worker.finish(plan.fencing_token, edits=stars(*names))
    left = len(names)
    while left:
        frame = await worker.read()
        for assignment in frame.assignments:
            await worker.finish(assignment.fencing_token)
            left -= 1


async def seqs_of(call: Any) -> list[int]:
    """The sequence numbers that a watch gives until its end."""
    return [record.seq for response in await responses_of(call) for record in response.records]


async def responses_of(call: Any) -> list[client_pb2.WatchResponse]:
    """All that is left of a watch."""
    found = list[client_pb2.WatchResponse]()
    while (response := await call.read()) is not EOF:
        found.append(response)
    return found


async def test_watchers_from_any_point_see_the_same_records_once_and_in_order(peer: Peer) -> None:
    constellation = await peer.submit("r")
    async with asyncio.TaskGroup() as group:
        live = group.create_task(seqs_of(peer.watch(constellation)))
        worker = await peer.attach()
        middle = group.create_task(seqs_of(peer.watch(constellation, 2)))
        await run_plan(worker, *[f"s{number}" for number in range(CHAIN)])
    whole = live.result()
    assert whole == sorted(set(whole))
    assert len(whole) > 2 * CHAIN
    assert middle.result() == whole[2:]
    assert await seqs_of(peer.watch(constellation)) == whole
    for point in (0, 1, len(whole) // 2, len(whole) - 1):
        assert await seqs_of(peer.watch(constellation, whole[point])) == whole[point + 1 :]
    worker.call.cancel()


async def test_watch_that_breaks_off_goes_on_where_it_was(peer: Peer) -> None:
    constellation = await peer.submit("r")
    worker = await peer.attach()
    seen = list[int]()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_plan(worker, *[f"s{number}" for number in range(CHAIN)]))
        is_over = False
        while not is_over:
            call = peer.watch(constellation, seen[-1] if seen else 0)
            response = await call.read()  # one response, then the connection is gone
            if response is EOF:
                is_over = True
            else:
                seen += [record.seq for record in response.records]
                call.cancel()
    assert seen == await seqs_of(peer.watch(constellation))
    worker.call.cancel()


async def test_watch_of_what_was_reopened_goes_on_to_its_second_end(peer: Peer) -> None:
    worker = await peer.attach()
    constellation = await peer.submit("r")
    await run_plan(worker)
    first = await seqs_of(peer.watch(constellation))
    await peer.client.Edit(client_pb2.EditRequest(constellation=constellation, batch=stars("later")))
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(seqs_of(peer.watch(constellation)))
        later = await worker.assignment()
        await worker.finish(later.fencing_token)
    whole = watching.result()
    assert whole[: len(first)] == first
    assert len(whole) == len(first) + 4
    worker.call.cancel()


async def test_watch_ends_at_the_end_though_a_slot_is_released_after_it(peer: Peer) -> None:
    worker = await peer.attach()
    constellation = await peer.submit("r")
    plan = await worker.assignment()
    await peer.client.Cancel(client_pb2.CancelRequest(constellation=constellation))
    whole = await seqs_of(peer.watch(constellation))
    assert (await worker.read()).stops[0].fencing_token == plan.fencing_token
    error = types_pb2.StarError(code="stopped", message="as told")
    stopped = worker_pb2.Finished(fencing_token=plan.fencing_token, error=error, is_stopped=True)
    await worker.call.write(worker_pb2.WorkerFrame(finished=[stopped]))
    assert list((await worker.read()).acknowledged) == [plan.fencing_token]
    assert await seqs_of(peer.watch(constellation)) == [*whole, whole[-1] + 1]
    assert await seqs_of(peer.watch(constellation, whole[-1])) == [whole[-1] + 1]
    worker.call.cancel()


async def test_streamed_text_comes_only_to_those_who_want_it(peer: Peer) -> None:
    worker = await peer.attach()
    constellation = await peer.submit("r")
    plan = await worker.assignment()
    listening = peer.watch(constellation, with_text=True)
    watching = peer.watch(constellation)
    for call in (listening, watching):
        assert (await call.read()).records
    await worker.say(plan.fencing_token, "hello")
    (text,) = (await listening.read()).texts
    assert (text.star, text.attempt, text.worker, text.chunks[0].text) == ("plan", 1, "w1", "hello")
    await worker.finish(plan.fencing_token)
    assert not [response.texts for response in await responses_of(watching) if response.texts]
    listening.cancel()
    worker.call.cancel()


async def test_slow_watcher_is_cut_with_a_clear_status_and_costs_nobody_else(peer: Peer) -> None:
    worker = await peer.attach()
    constellation = await peer.submit("r")
    plan = await worker.assignment()
    async with Peer(peer.address) as slow:
        call = slow.watch(constellation, with_text=True)
        assert (await call.read()).records
        text = "x" * 60_000
        for _ in range(250):  # 15 MB: more than flow control and the outbox hold together
            await worker.say(plan.fencing_token, text)
        await worker.finish(plan.fencing_token)
        assert await seqs_of(peer.watch(constellation))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await seqs_of(call)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "resume with after_seq" in (caught.value.details() or "")
    worker.call.cancel()


async def test_watches_of_one_identity_are_bounded(peer: Peer) -> None:
    constellation = await peer.submit("r")
    calls = [peer.watch(constellation) for _ in range(3)]
    for call in calls:
        assert (await call.read()).records
    assert await code_of(peer.watch(constellation)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    for call in calls:
        call.cancel()


async def test_unknown_constellation_is_not_found(peer: Peer) -> None:
    assert await code_of(peer.watch("nobody")) is grpc.StatusCode.NOT_FOUND
    assert await code_of(peer.watch("../etc")) is grpc.StatusCode.INVALID_ARGUMENT


async def test_orchestrator_that_leaves_tells_watchers_to_resume(tmp_path: Path) -> None:
    async with served(tmp_path) as orchestrator:
        peer = Peer(orchestrator.address)
        call = peer.watch(await peer.submit("r"))
        assert (await call.read()).records
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await peer.channel.close()


def test_frames_hold_as_much_as_fits() -> None:
    reasons = ("x" * (MAX_FRAME_BYTES // 3),)
    records = [EditsRefused(seq, 1.0, ConstellationId("c"), "star:a", reasons) for seq in range(1, 8)]
    text = Broadcast(ConstellationId("c"), StarId("s"), 1, WorkerId("w"), (Chunk("main", "hi", 1),))
    made = list(frames([*records, text]))
    assert [record.seq for frame in made for record in frame.records] == list(range(1, 8))
    assert all(frame.ByteSize() <= MAX_FRAME_BYTES for frame in made)
    assert sum(len(frame.texts) for frame in made) == 1
