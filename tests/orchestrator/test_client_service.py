"""What a client may ask, over real gRPC."""

import json
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from asterism.orchestrator.app import Running
from asterism.orchestrator.core.credential import Role
from asterism.protocol.v1 import client_pb2, fleet_pb2, types_pb2
from asterism.store.memory import MemoryStore
from tests.orchestrator.serving import PLAN, Peer, granted, served


@pytest.fixture
async def orchestrator(tmp_path: Path) -> AsyncIterator[Running]:
    async with served(tmp_path) as running:
        yield running


@pytest.fixture
async def peer(orchestrator: Running) -> AsyncIterator[Peer]:
    async with Peer(orchestrator.address) as peer:
        yield peer


async def refusal(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    """Code and text of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def test_submit_is_idempotent_by_its_request_id(peer: Peer) -> None:
    first = await peer.submit("r1")
    assert await peer.submit("r1") == first
    assert await peer.submit("r2") != first
    other = PLAN.replace('"a"', '"b"')
    code, text = await refusal(peer.submit("r1", text=other))
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert "r1" in text


@pytest.mark.parametrize(
    ("request_id", "form", "text", "says"),
    [
        ("", "plan", PLAN, "request_id"),
        ("x" * 129, "plan", PLAN, "request_id"),
        ("line\nbreak", "plan", PLAN, "request_id"),
        ("r", "novel", PLAN, "novel"),
        ("r", "plan", '{"stars": [', "line 1, column"),
        ("r", "plan", '{"stars": [{"id": "a", "kind": "tool", "program": "noop", "after": ["a"]}]}', "a"),
        ("r", "boards", "1 2 x 4\n", "line 1"),
        ("r", "text", "write a poem", "no worker offers one: give a worker a model folder"),
        ("r", "plan", "x" * (1024 * 1024 + 1), "bytes"),
    ],
)
async def test_bad_request_is_refused_at_the_door_and_leaves_nothing(
    peer: Peer, request_id: str, form: str, text: str, says: str
) -> None:
    code, details = await refusal(peer.submit(request_id, text=text, form=form))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert says in details
    listed = await peer.client.ListConstellations(client_pb2.ListConstellationsRequest())
    assert not listed.constellations


async def test_unknown_tool_is_refused_once_workers_are_known_and_the_known_are_listed(peer: Peer) -> None:
    unknown = PLAN.replace("noop", "nope")
    worker = await peer.attach()
    code, details = await refusal(peer.submit("r", text=unknown))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "nope" in details
    assert "noop" in details
    worker.call.cancel()


async def test_request_in_words_goes_to_the_model_that_plans_which_is_told_what_there_is(peer: Peer) -> None:
    profile = types_pb2.WorkerProfile(
        slots=2, tools=["noop"], programs=["plan", "plan.text", "answer"], models=["big"], labels={"planner": "big"}
    )
    worker = await peer.attach(profile=profile)

    await peer.submit("r", text="write a poem", form="text")

    assigned = await worker.assignment()
    inputs = {name: json.loads(text) for name, text in assigned.inputs_json.items()}
    assert (assigned.program, assigned.model) == ("plan.text", "big")
    assert inputs["request"]["options"]["model"] == "big"
    assert inputs["surroundings"]["tools"] == [{"name": "noop"}]
    assert inputs["surroundings"]["programs"] == [{"name": "answer"}]
    worker.call.cancel()


async def test_get_shows_the_graph_and_what_it_waits_for(peer: Peer) -> None:
    constellation = await peer.submit("r")
    found = await peer.client.GetConstellation(client_pb2.GetConstellationRequest(constellation=constellation))
    assert found.state == types_pb2.CONSTELLATION_STATE_RUNNING
    assert [star.spec.id for star in found.stars] == ["plan"]
    assert found.stars[0].waiting_for == "a worker: none is attached"
    assert found.seq == 2


async def test_list_goes_page_by_page_newest_first(peer: Peer) -> None:
    made = [await peer.submit(f"r{number}") for number in range(5)]
    seen = list[str]()
    token = ""
    while True:
        page = await peer.client.ListConstellations(client_pb2.ListConstellationsRequest(page_size=2, page_token=token))
        assert len(page.constellations) <= 2
        seen += [row.id for row in page.constellations]
        token = page.next_page_token
        if not token:
            break
    assert seen == list(reversed(made))
    ended = client_pb2.ListConstellationsRequest(states=[types_pb2.CONSTELLATION_STATE_SUCCEEDED])
    assert not (await peer.client.ListConstellations(ended)).constellations


@pytest.mark.parametrize(
    "request_",
    [
        client_pb2.ListConstellationsRequest(page_size=501),
        client_pb2.ListConstellationsRequest(page_token="../etc"),
        client_pb2.ListConstellationsRequest(states=[types_pb2.CONSTELLATION_STATE_UNSPECIFIED]),
    ],
)
async def test_bad_page_is_refused(peer: Peer, request_: client_pb2.ListConstellationsRequest) -> None:
    code, _ = await refusal(peer.client.ListConstellations(request_))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_edit_cancel_and_retry(peer: Peer) -> None:
    constellation = await peer.submit("r")
    spec = types_pb2.StarSpec(
        id="extra",
        kind=types_pb2.STAR_KIND_TOOL,
        program="noop",
        retry=types_pb2.RetryPolicy(max_attempts=1, multiplier=2.0),
    )
    batch = types_pb2.EditBatch(edits=[types_pb2.Edit(add_star=types_pb2.Edit.AddStar(spec=spec))], base_revision=1)
    edited = await peer.client.Edit(client_pb2.EditRequest(constellation=constellation, batch=batch))
    assert edited.revision == 2
    code, _ = await refusal(peer.client.Edit(client_pb2.EditRequest(constellation=constellation, batch=batch)))
    assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ABORTED)
    for _ in range(2):
        await peer.client.Cancel(client_pb2.CancelRequest(constellation=constellation, reason="enough"))
    found = await peer.client.GetConstellation(client_pb2.GetConstellationRequest(constellation=constellation))
    assert (found.state, found.reason) == (types_pb2.CONSTELLATION_STATE_CANCELLED, "enough")
    retried = await peer.client.Retry(client_pb2.RetryRequest(constellation=constellation))
    assert retried.revision == 3
    found = await peer.client.GetConstellation(client_pb2.GetConstellationRequest(constellation=constellation))
    assert found.state == types_pb2.CONSTELLATION_STATE_RUNNING


async def test_clients_see_their_own_requests_only_and_an_admin_all(tmp_path: Path) -> None:
    store = MemoryStore()
    ann, bob = [await granted(store, Role.CLIENT, name) for name in ("ann", "bob")]
    admin = await granted(store, Role.ADMIN, "root")
    async with (
        served(tmp_path, store) as orchestrator,
        Peer(orchestrator.address, ann) as anns,
        Peer(orchestrator.address, bob) as bobs,
        Peer(orchestrator.address, admin) as admins,
    ):
        mine = await anns.submit("r")
        assert await bobs.submit("r") != mine
        for call in (
            bobs.client.GetConstellation(
                client_pb2.GetConstellationRequest(constellation=mine), metadata=bobs.metadata
            ),
            bobs.client.Cancel(client_pb2.CancelRequest(constellation=mine), metadata=bobs.metadata),
            bobs.client.Retry(client_pb2.RetryRequest(constellation=mine), metadata=bobs.metadata),
            bobs.client.Edit(client_pb2.EditRequest(constellation=mine), metadata=bobs.metadata),
            bobs.watch(mine).read(),
        ):
            assert (await refusal(call))[0] is grpc.StatusCode.NOT_FOUND
        everything = client_pb2.ListConstellationsRequest()
        counts = [
            len((await peer.client.ListConstellations(everything, metadata=peer.metadata)).constellations)
            for peer in (anns, bobs, admins)
        ]
        assert counts == [1, 1, 2]
        await admins.client.Cancel(client_pb2.CancelRequest(constellation=mine), metadata=admins.metadata)


async def test_too_many_submits_are_told_when_to_come_again(tmp_path: Path) -> None:
    async with (
        served(tmp_path, changes_per_s=0.01, change_burst=2) as orchestrator,
        Peer(orchestrator.address) as peer,
    ):
        for number in range(2):
            await peer.submit(f"r{number}")
        code, details = await refusal(peer.submit("r2"))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "try again in" in details


async def test_health_is_open_and_says_serving(peer: Peer) -> None:
    health: Any = health_pb2_grpc.HealthStub(peer.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_fleet_is_listed_drained_and_labelled(peer: Peer) -> None:
    worker = await peer.attach("w1")
    await peer.fleet.DrainWorker(fleet_pb2.DrainWorkerRequest(worker="w1", is_draining=True))
    labelled = await peer.fleet.LabelWorker(fleet_pb2.LabelWorkerRequest(worker="w1", set={"zone": "lab"}))
    assert dict(labelled.labels) == {"zone": "lab"}
    (listed,) = (await peer.fleet.ListWorkers(fleet_pb2.ListWorkersRequest())).workers
    assert (listed.id, listed.is_attached, listed.is_draining, dict(listed.labels)) == (
        "w1",
        True,
        True,
        {"zone": "lab"},
    )
    assert not (await peer.fleet.LabelWorker(fleet_pb2.LabelWorkerRequest(worker="w1", remove=["zone"]))).labels
    both = fleet_pb2.LabelWorkerRequest(worker="w1", set={"a": "b"}, remove=["a"])
    assert (await refusal(peer.fleet.LabelWorker(both)))[0] is grpc.StatusCode.INVALID_ARGUMENT
    unknown = fleet_pb2.DrainWorkerRequest(worker="w9")
    assert (await refusal(peer.fleet.DrainWorker(unknown)))[0] is grpc.StatusCode.NOT_FOUND
    worker.call.cancel()
