"""A worker's stream, over real gRPC, frame by frame."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from asterism.orchestrator.app import Running
from asterism.orchestrator.core.credential import Role
from asterism.orchestrator.core.edits import AddStar, EditBatch
from asterism.orchestrator.core.events import EditRequested
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.star import Constant, RetryPolicy, StarKind, StarSpec
from asterism.orchestrator.core.values import Json
from asterism.protocol.convert.checks import MAX_JSON_DEPTH
from asterism.protocol.limits import MAX_MESSAGE_BYTES
from asterism.protocol.v1 import client_pb2, fleet_pb2, types_pb2, worker_pb2, worker_pb2_grpc
from asterism.store.memory import MemoryStore
from tests.orchestrator.held_store import HeldStore
from tests.orchestrator.serving import EOF, Peer, RawWorker, code_of, granted, served


@pytest.fixture
async def orchestrator(tmp_path: Path) -> AsyncIterator[Running]:
    async with served(tmp_path) as running:
        yield running


@pytest.fixture
async def peer(orchestrator: Running) -> AsyncIterator[Peer]:
    async with Peer(orchestrator.address) as peer:
        yield peer


WIDE = types_pb2.WorkerProfile(slots=8, tools=["noop"], programs=["plan"])
"""One that takes all stars of a test at once."""


async def state_of(peer: Peer, constellation: str) -> types_pb2.Constellation:
    """The constellation as it is on disk."""
    return await peer.client.GetConstellation(client_pb2.GetConstellationRequest(constellation=constellation))


async def test_plan_runs_its_edits_are_answered_and_its_result_is_acknowledged(peer: Peer) -> None:
    worker = await peer.attach()
    constellation = await peer.submit("r")
    plan = await worker.assignment()
    assert (plan.constellation, plan.star, plan.program, plan.may_edit) == (constellation, "plan", "plan", True)
    spec = types_pb2.StarSpec(
        id="a",
        kind=types_pb2.STAR_KIND_TOOL,
        program="noop",
        retry=types_pb2.RetryPolicy(max_attempts=1, multiplier=2.0),
    )
    batch = types_pb2.EditBatch(edits=[types_pb2.Edit(add_star=types_pb2.Edit.AddStar(spec=spec))])
    proposed = worker_pb2.ProposedEdits(fencing_token=plan.fencing_token, proposal=1, batch=batch)
    await worker.call.write(worker_pb2.WorkerFrame(proposed=[proposed]))
    frame = await worker.read()
    assert [(answer.proposal, answer.is_accepted) for answer in frame.edits_answers] == [(1, True)]
    (noop,) = frame.assignments
    await worker.finish(plan.fencing_token, noop.fencing_token)
    acknowledged = list((await worker.read()).acknowledged)
    assert acknowledged == [plan.fencing_token, noop.fencing_token]
    assert (await state_of(peer, constellation)).state == types_pb2.CONSTELLATION_STATE_SUCCEEDED
    worker.call.cancel()


async def test_edits_that_cannot_be_read_are_answered_with_the_reason(peer: Peer) -> None:
    worker = await peer.attach()
    await peer.submit("r")
    plan = await worker.assignment()
    batch = types_pb2.EditBatch(edits=[types_pb2.Edit()])
    proposed = worker_pb2.ProposedEdits(fencing_token=plan.fencing_token, proposal=7, batch=batch)
    await worker.call.write(worker_pb2.WorkerFrame(proposed=[proposed]))
    (answer,) = (await worker.read()).edits_answers
    assert (answer.proposal, answer.is_accepted) == (7, False)
    assert "edits[0]" in answer.reasons[0]
    worker.call.cancel()


async def test_result_that_cannot_be_read_fails_its_attempt_and_is_acknowledged(peer: Peer) -> None:
    worker = await peer.attach()
    constellation = await peer.submit("r")
    plan = await worker.assignment()
    await worker.finish(plan.fencing_token, result="{not json")
    assert list((await worker.read()).acknowledged) == [plan.fencing_token]
    found = await state_of(peer, constellation)
    assert found.stars[0].attempts[0].error.code == "invalid_result"
    assert found.state == types_pb2.CONSTELLATION_STATE_FAILED
    worker.call.cancel()


async def test_result_that_is_too_long_once_written_again_is_refused_and_the_request_stays_readable(
    peer: Peer,
) -> None:
    worker = await peer.attach()
    constellation = await peer.submit("r")
    plan = await worker.assignment()
    await worker.finish(plan.fencing_token, result="[" + ",".join(["1e15"] * 40_000) + "]")
    assert list((await worker.read()).acknowledged) == [plan.fencing_token]
    found = await state_of(peer, constellation)
    assert found.stars[0].attempts[0].error.code == "invalid_result"
    assert await code_of(peer.watch(constellation)) is grpc.StatusCode.OK
    worker.call.cancel()


async def test_result_with_a_token_of_nobody_is_acknowledged_and_changes_nothing(peer: Peer) -> None:
    worker = await peer.attach()
    constellation = await peer.submit("r")
    plan = await worker.assignment()
    before = await state_of(peer, constellation)
    await worker.finish(plan.fencing_token + 1000)
    assert list((await worker.read()).acknowledged) == [plan.fencing_token + 1000]
    assert await state_of(peer, constellation) == before
    worker.call.cancel()


async def test_second_holder_of_a_name_is_refused_until_the_first_is_gone(peer: Peer) -> None:
    first = await peer.attach("w1", "i1")
    second = RawWorker(peer.worker.Attach())
    await second.hello("w1", "i2")
    assert await code_of(second.call) is grpc.StatusCode.ALREADY_EXISTS
    await first.call.write(worker_pb2.WorkerFrame(goodbye=True))
    assert await code_of(first.call) is grpc.StatusCode.OK
    third = await peer.attach("w1", "i3")
    third.call.cancel()


async def test_peer_that_is_gone_before_it_was_let_in_leaves_its_name_free(tmp_path: Path) -> None:
    store = HeldStore()
    async with served(tmp_path, store) as orchestrator, Peer(orchestrator.address) as peer:
        store.may_append.clear()
        gone = RawWorker(peer.worker.Attach())
        await gone.hello("w1", "i1")
        await store.is_appending.wait()
        gone.call.cancel()
        await peer.fleet.ListWorkers(fleet_pb2.ListWorkersRequest())  # on the same connection: the cancel came first
        store.may_append.set()
        back = await peer.attach("w1", "i2")
        back.call.cancel()


async def test_goodbye_takes_the_worker_out_of_the_fleet(peer: Peer) -> None:
    worker = await peer.attach()
    await worker.call.write(worker_pb2.WorkerFrame(goodbye=True))
    assert await code_of(worker.call) is grpc.StatusCode.OK
    # Ordered behind the goodbye by the mailbox.
    await peer.submit("r")
    assert not (await peer.fleet.ListWorkers(fleet_pb2.ListWorkersRequest())).workers


async def test_attempt_goes_on_when_its_worker_comes_back_with_it(peer: Peer) -> None:
    worker = await peer.attach()
    constellation = await peer.submit("r")
    plan = await worker.assignment()
    worker.call.cancel()
    back = await peer.attach(held=[plan.fencing_token])
    await back.finish(plan.fencing_token)
    assert list((await back.read()).acknowledged) == [plan.fencing_token]
    found = await state_of(peer, constellation)
    assert (found.state, found.attempts) == (types_pb2.CONSTELLATION_STATE_SUCCEEDED, 1)
    back.call.cancel()


async def test_draining_worker_gets_nothing_new(peer: Peer) -> None:
    worker = await peer.attach()
    await worker.call.write(worker_pb2.WorkerFrame(draining=True))
    await worker.call.write(worker_pb2.WorkerFrame(draining=True))
    other = await peer.attach("w2", "j1")
    constellation = await peer.submit("r")
    plan = await other.assignment()
    assert plan.constellation == constellation
    for one in (worker, other):
        one.call.cancel()


async def test_credential_names_the_worker_whatever_it_says(tmp_path: Path) -> None:
    store = MemoryStore()
    named = await granted(store, Role.WORKER, "gpu-1")
    async with served(tmp_path, store) as orchestrator, Peer(orchestrator.address, named) as peer:
        worker = RawWorker(peer.worker.Attach(metadata=peer.metadata))
        await worker.hello("somebody-else")
        assert (await worker.read()).welcome.worker == "gpu-1"
        worker.call.cancel()


HELLO = worker_pb2.Hello(worker="w1", instance="i1", profile=types_pb2.WorkerProfile(slots=1))


@pytest.mark.parametrize(
    "frame",
    [
        worker_pb2.WorkerFrame(),
        worker_pb2.WorkerFrame(finished=[worker_pb2.Finished(fencing_token=1, result_json="1")]),
        worker_pb2.WorkerFrame(hello=worker_pb2.Hello(worker="../etc", instance="i", profile=HELLO.profile)),
        worker_pb2.WorkerFrame(hello=worker_pb2.Hello(worker="w1", instance="i")),
        worker_pb2.WorkerFrame(hello=worker_pb2.Hello(worker="w1", profile=HELLO.profile)),
    ],
)
async def test_bad_first_frame_is_refused(peer: Peer, frame: worker_pb2.WorkerFrame) -> None:
    call = peer.worker.Attach()
    await call.write(frame)
    assert await code_of(call) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (worker_pb2.WorkerFrame(hello=HELLO), grpc.StatusCode.INVALID_ARGUMENT),
        (
            worker_pb2.WorkerFrame(progress=[worker_pb2.Progress(fencing_token=1)] * 4097),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            worker_pb2.WorkerFrame(
                progress=[worker_pb2.Progress(chunks=[types_pb2.Chunk(text="x" * (MAX_MESSAGE_BYTES + 1))])]
            ),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        ),
    ],
)
async def test_bad_later_frame_ends_the_stream_with_a_clear_status(
    orchestrator: Running, frame: worker_pb2.WorkerFrame, code: grpc.StatusCode
) -> None:
    # A channel without limits of its own, as a hostile peer would have.
    unlimited = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(orchestrator.address, options=unlimited) as channel:
        stub: Any = worker_pb2_grpc.WorkerServiceStub(channel)
        call = stub.Attach()
        await call.write(worker_pb2.WorkerFrame(hello=HELLO))
        assert await call.read() is not EOF
        await call.write(frame)
        assert await code_of(call) is code


async def test_orchestrator_that_leaves_says_so_and_lets_the_worker_go(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group:
        leave = asyncio.Event()
        address: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def serve() -> None:
            async with served(tmp_path) as orchestrator:
                address.set_result(orchestrator.address)
                await leave.wait()

        group.create_task(serve())
        async with Peer(await address) as peer:
            worker = await peer.attach()
            leave.set()
            assert (await worker.read()).going_away
            await worker.call.done_writing()
            assert await code_of(worker.call) is grpc.StatusCode.OK


async def test_star_whose_inputs_have_no_form_on_the_wire_fails_and_the_stream_goes_on(
    orchestrator: Running, peer: Peer
) -> None:
    constellation = await peer.submit("r")
    worker = await peer.attach(profile=WIDE)
    plan = await worker.assignment()
    deep: Json = 0
    for _ in range(MAX_JSON_DEPTH + 1):
        deep = [deep]
    specs = [
        StarSpec(StarId(name), StarKind.TOOL, "noop", inputs={"x": Constant(value)}, retry=RetryPolicy(1))
        for name, value in (("first", 1), ("deep", deep), ("last", 2))
    ]
    batch = EditBatch(tuple(AddStar(spec) for spec in specs))
    await orchestrator.loop.ask(EditRequested(time.time(), ConstellationId(constellation), "client:local", batch))
    given: list[worker_pb2.Assignment] = []
    while len(given) < 2:
        given.extend((await worker.read()).assignments)
    assert [one.star for one in given] == ["first", "last"]
    await worker.finish(plan.fencing_token, *(one.fencing_token for one in given))
    ended = await peer.client.Wait(client_pb2.WaitRequest(constellation=constellation))
    assert ended.reason == "star deep: inputs_json[x]: must not be nested more than 64 deep (inputs_unwritable)"
    worker.call.cancel()


async def test_result_leaves_room_for_what_is_put_around_it(peer: Peer) -> None:
    worker = await peer.attach(profile=WIDE)
    constellation = await peer.submit("r")
    plan = await worker.assignment()
    outcomes = types_pb2.Input(parent_outcomes=types_pb2.Input.ParentOutcomes())
    stars = [
        types_pb2.Edit.AddStar(spec=types_pb2.StarSpec(id="a", kind=types_pb2.STAR_KIND_TOOL, program="noop")),
        types_pb2.Edit.AddStar(spec=types_pb2.StarSpec(id="b", kind=types_pb2.STAR_KIND_TOOL, program="noop")),
        types_pb2.Edit.AddStar(
            spec=types_pb2.StarSpec(id="all", kind=types_pb2.STAR_KIND_TOOL, program="noop", inputs={"o": outcomes}),
            after=["a"],
        ),
    ]
    batch = types_pb2.EditBatch(edits=[types_pb2.Edit(add_star=star) for star in stars])
    await worker.finish(plan.fencing_token, edits=batch)
    a, b = (await worker.read()).assignments
    await worker.finish(b.fencing_token, result="[" * 61 + "]" * 61)
    await worker.finish(a.fencing_token, result="[" * 60 + "]" * 60)
    gathers = await worker.assignment()
    assert json.loads(gathers.inputs_json["o"])["a"]["state"] == "SUCCEEDED"
    found = {star.spec.id: star for star in (await state_of(peer, constellation)).stars}
    assert found["b"].error.message == "finished[0].result_json: must not be nested more than 60 deep"
    worker.call.cancel()
