"""Artifacts over real gRPC, from peers that do it right, and from those that do not."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from asterism.orchestrator.app import Running
from asterism.orchestrator.core.credential import Role
from asterism.orchestrator.services import artifacts as service
from asterism.protocol.limits import MAX_PART_BYTES
from asterism.protocol.v1 import artifact_pb2, artifact_pb2_grpc, client_pb2, types_pb2, worker_pb2
from asterism.store.memory import MemoryStore
from tests.orchestrator.serving import EOF, Peer, RawWorker, code_of, granted, served

DATA = b'{"text":"' + b"a" * 600_000 + b'"}'
MAX_BYTES = 1024 * 1024


def named(data: bytes) -> types_pb2.Artifact:
    return types_pb2.Artifact(sha256=hashlib.sha256(data).digest(), size=len(data))


def header(token: int, artifact: types_pb2.Artifact, worker: str = "w1") -> artifact_pb2.PutRequest:
    return artifact_pb2.PutRequest(header=artifact_pb2.PutHeader(worker=worker, fencing_token=token, artifact=artifact))


def cut(data: bytes) -> list[bytes]:
    return [data[start : start + MAX_PART_BYTES] for start in range(0, len(data), MAX_PART_BYTES)]


def stub_of(peer: Peer) -> Any:
    return artifact_pb2_grpc.ArtifactServiceStub(peer.channel)


async def put(
    peer: Peer,
    token: int,
    data: bytes = DATA,
    *,
    parts: Sequence[bytes] | None = None,
    artifact: types_pb2.Artifact | None = None,
    worker: str = "w1",
) -> list[bool]:
    """Put as the protocol has it, whatever the parts are; gives the answers. Raises AioRpcError."""
    call = stub_of(peer).Put(metadata=peer.metadata)
    await call.write(header(token, named(data) if artifact is None else artifact, worker))
    answers: list[bool] = []
    while (answer := await call.read()) is not EOF:
        answers.append(answer.is_kept)
        if not answer.is_kept:
            for part in cut(data) if parts is None else parts:
                await call.write(artifact_pb2.PutRequest(data=part))
            await call.done_writing()
    code = await call.code()
    if code is not grpc.StatusCode.OK:
        raise grpc.aio.AioRpcError(code, await call.initial_metadata(), await call.trailing_metadata(), None, None)
    return answers


async def got(call: Any) -> bytes:
    """What a download brings, its header checked."""
    first = await call.read()
    assert first is not EOF, await call.details()
    data = b""
    while (part := await call.read()) is not EOF:
        assert 1 <= len(part.data) <= MAX_PART_BYTES
        data += part.data
    if await call.code() is grpc.StatusCode.OK:
        assert first.header == named(data)
    return data


def kept_files(folder: Path) -> list[Path]:
    return [path for path in (folder / "artifacts").rglob("*") if path.is_file()]


async def finish_with(worker: RawWorker, token: int, artifact: types_pb2.Artifact) -> worker_pb2.OrchestratorFrame:
    """Report an artifact; gives the frame that follows."""
    finished = [worker_pb2.Finished(fencing_token=token, artifact=artifact)]
    await worker.call.write(worker_pb2.WorkerFrame(finished=finished))
    return await worker.read()


@pytest.fixture
async def orchestrator(tmp_path: Path) -> AsyncIterator[Running]:
    async with served(tmp_path, max_artifact_bytes=MAX_BYTES) as running:
        yield running


@pytest.fixture
async def peer(orchestrator: Running) -> AsyncIterator[Peer]:
    async with Peer(orchestrator.address) as peer:
        yield peer


async def planned(peer: Peer, worker: RawWorker, request_id: str = "r") -> tuple[str, int]:
    """A request that runs: its id, and the fencing token of its plan star."""
    constellation = await peer.submit(request_id)
    return constellation, (await worker.assignment()).fencing_token


async def test_result_is_put_reported_given_to_its_child_and_read_by_the_client(peer: Peer, tmp_path: Path) -> None:
    worker = await peer.attach()
    constellation, token = await planned(peer, worker)
    assert await put(peer, token) == [False, True]
    output = types_pb2.Input.OutputOf(star="plan", path=[types_pb2.PathStep(key="text")])
    spec = types_pb2.StarSpec(
        id="b",
        kind=types_pb2.STAR_KIND_TOOL,
        program="noop",
        inputs={"x": types_pb2.Input(output_of=output)},
    )
    line = types_pb2.Line(parent="plan", child="b", kind=types_pb2.LINE_KIND_SUCCESS)
    edits = types_pb2.EditBatch(
        edits=[
            types_pb2.Edit(add_star=types_pb2.Edit.AddStar(spec=spec)),
            types_pb2.Edit(add_line=types_pb2.Edit.AddLine(line=line)),
        ]
    )
    finished = [worker_pb2.Finished(fencing_token=token, artifact=named(DATA), edits=edits)]
    await worker.call.write(worker_pb2.WorkerFrame(finished=finished))
    child = await worker.assignment()
    (place,) = child.places
    assert (child.inputs_json["x"], place.input, place.artifact) == ("null", "x", named(DATA))
    assert [step.key for step in place.path] == ["text"]
    request = artifact_pb2.GetInputRequest(worker="w1", fencing_token=child.fencing_token, artifact=named(DATA))
    assert await got(stub_of(peer).GetInput(request)) == DATA
    picture = await peer.client.GetConstellation(client_pb2.GetConstellationRequest(constellation=constellation))
    assert {star.spec.id: star.artifact for star in picture.stars if star.HasField("artifact")} == {"plan": named(DATA)}
    result = artifact_pb2.GetResultRequest(constellation=constellation, star="plan")
    assert await got(stub_of(peer).GetResult(result)) == DATA
    assert len(kept_files(tmp_path)) == 1


async def test_putting_it_again_sends_nothing(peer: Peer, tmp_path: Path) -> None:
    worker = await peer.attach()
    _, token = await planned(peer, worker)
    assert await put(peer, token) == [False, True]
    assert await put(peer, token) == [True]
    assert len(kept_files(tmp_path)) == 1


@pytest.mark.parametrize(
    ("parts", "artifact"),
    [
        (cut(DATA)[:-1], None),
        ([*cut(DATA), b"x"], None),
        (cut(DATA[:-1] + b"!"), None),
        ([DATA], None),
        ([b""], None),
        ([], None),
        (None, types_pb2.Artifact(sha256=b"short", size=5)),
        (None, types_pb2.Artifact(sha256=b"0" * 32, size=MAX_BYTES + 1)),
    ],
    ids=["too short", "too long", "wrong hash", "part too large", "empty part", "nothing", "no hash", "over the limit"],
)
async def test_what_is_not_as_announced_is_refused_and_leaves_nothing(
    orchestrator: Running,
    peer: Peer,
    tmp_path: Path,
    parts: Sequence[bytes] | None,
    artifact: types_pb2.Artifact | None,
) -> None:
    worker = await peer.attach()
    _, token = await planned(peer, worker)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await put(peer, token, parts=parts, artifact=artifact)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not [path for path in kept_files(tmp_path) if "sha256" in path.parts]
    # And the attempt goes on: it may do it right now.
    if artifact is None:
        assert await put(peer, token) == [False, True]


async def test_first_message_must_be_a_header(peer: Peer) -> None:
    call = stub_of(peer).Put()
    await call.write(artifact_pb2.PutRequest(data=b"1"))
    assert await code_of(call) is grpc.StatusCode.INVALID_ARGUMENT


async def test_peer_that_stops_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "PART_S", 0.2)
    async with served(tmp_path) as running, Peer(running.address) as peer:
        worker = await peer.attach()
        _, token = await planned(peer, worker)
        for is_silent in (True, False):
            call = stub_of(peer).Put()
            await call.write(header(token, named(DATA)))
            assert not (await call.read()).is_kept
            await call.write(artifact_pb2.PutRequest(data=DATA[:1000]))
            if is_silent:
                assert await code_of(call) is grpc.StatusCode.RESOURCE_EXHAUSTED
            else:
                call.cancel()
        assert await put(peer, token) == [False, True]
    assert len(kept_files(tmp_path)) == 1


@pytest.mark.parametrize("token", [7, 10_000])
async def test_only_who_holds_the_live_attempt_may_put(peer: Peer, tmp_path: Path, token: int) -> None:
    worker = await peer.attach()
    await planned(peer, worker)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await put(peer, token)
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
    assert kept_files(tmp_path) == []


async def test_attempt_that_has_ended_may_not_put(peer: Peer) -> None:
    worker = await peer.attach()
    _, token = await planned(peer, worker)
    await worker.finish(token)
    await worker.read()
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await put(peer, token)
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND


async def test_attempt_has_one_result_and_may_not_fill_the_disk_with_others(peer: Peer, tmp_path: Path) -> None:
    worker = await peer.attach()
    _, token = await planned(peer, worker)
    await put(peer, token)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await put(peer, token, DATA + b" ")
    assert refusal.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert len(kept_files(tmp_path)) == 1


async def test_result_that_was_not_put_is_a_failed_attempt_and_is_tried_again(peer: Peer) -> None:
    worker = await peer.attach()
    constellation, token = await planned(peer, worker)
    await put(peer, token)
    other = named(DATA)
    other.size += 1
    assert list((await finish_with(worker, token, other)).acknowledged) == [token]
    picture = await peer.client.GetConstellation(client_pb2.GetConstellationRequest(constellation=constellation))
    (star,) = picture.stars
    (attempt,) = star.attempts
    assert (attempt.error.code, attempt.error.retryable) == ("artifact_missing", True)
    assert star.state == types_pb2.STAR_STATE_WAITING


async def test_worker_reads_only_what_its_attempt_is_given(peer: Peer) -> None:
    worker = await peer.attach()
    _, token = await planned(peer, worker)
    await put(peer, token)
    request = artifact_pb2.GetInputRequest(worker="w1", fencing_token=token, artifact=named(DATA))
    assert await code_of(stub_of(peer).GetInput(request)) is grpc.StatusCode.NOT_FOUND


async def test_damaged_artifact_is_data_loss_and_never_wrong_data(peer: Peer, tmp_path: Path) -> None:
    worker = await peer.attach()
    constellation, token = await planned(peer, worker)
    await put(peer, token)
    await finish_with(worker, token, named(DATA))
    (file,) = kept_files(tmp_path)
    file.write_bytes(DATA[:-1] + b"!")
    call = stub_of(peer).GetResult(artifact_pb2.GetResultRequest(constellation=constellation, star="plan"))
    with pytest.raises(grpc.aio.AioRpcError) as loss:
        await got(call)
    assert loss.value.code() is grpc.StatusCode.DATA_LOSS


async def test_identities_see_their_own_only(tmp_path: Path) -> None:
    store = MemoryStore()
    w1, w2 = await granted(store, Role.WORKER, "w1"), await granted(store, Role.WORKER, "w2")
    ann, bob = await granted(store, Role.CLIENT, "ann"), await granted(store, Role.CLIENT, "bob")
    async with (
        served(tmp_path, store) as running,
        Peer(running.address, w1) as first,
        Peer(running.address, w2) as second,
        Peer(running.address, ann) as owner,
        Peer(running.address, bob) as other,
    ):
        worker = await first.attach()
        constellation, token = await planned(owner, worker)
        # What a header says about the worker does not count beside a credential.
        for thief in (second, owner):
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await put(thief, token, worker="w1")
            assert refusal.value.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED)
        await put(first, token, worker="somebody")
        await finish_with(worker, token, named(DATA))
        request = artifact_pb2.GetResultRequest(constellation=constellation, star="plan")
        assert await got(stub_of(owner).GetResult(request, metadata=owner.metadata)) == DATA
        call = stub_of(other).GetResult(request, metadata=other.metadata)
        assert await code_of(call) is grpc.StatusCode.NOT_FOUND
        call = stub_of(first).GetResult(request, metadata=first.metadata)
        assert await code_of(call) is grpc.StatusCode.PERMISSION_DENIED


async def test_star_without_an_artifact_has_none(peer: Peer) -> None:
    worker = await peer.attach()
    constellation, token = await planned(peer, worker)
    await worker.finish(token)
    for star in ("plan", "nobody"):
        call = stub_of(peer).GetResult(artifact_pb2.GetResultRequest(constellation=constellation, star=star))
        assert await code_of(call) is grpc.StatusCode.NOT_FOUND
