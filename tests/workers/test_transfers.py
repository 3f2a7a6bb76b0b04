"""Artifacts on their way: connections that break, orchestrators that refuse, and bytes that are others."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeAlias

import grpc.aio
import pytest

from asterism.orchestrator.core.errors import AsterismError, DataLoss, NotFound, Overloaded, WrongState
from asterism.orchestrator.core.ids import FencingToken, WorkerId
from asterism.orchestrator.core.values import Artifact
from asterism.protocol.limits import MAX_PART_BYTES
from asterism.protocol.status import to_rpc_status
from asterism.protocol.v1 import artifact_pb2, artifact_pb2_grpc
from asterism.workers.artifacts import encode
from asterism.workers.session import Backoff
from asterism.workers.transfers import Transfers

DATA, ARTIFACT = encode("x" * (MAX_PART_BYTES * 2 + 1))
TOKEN = FencingToken(7)
Deed: TypeAlias = Callable[[Any], Coroutine[Any, Any, None]]


class Scripted(artifact_pb2_grpc.ArtifactServiceServicer):
    """Does one deed after the other, whatever is called."""

    def __init__(self) -> None:
        self.deeds: list[Deed] = []
        self.headers: list[artifact_pb2.PutHeader | artifact_pb2.GetInputRequest] = []
        self.came = b""

    async def Put(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        self.headers.append((await context.read()).header)
        await self.deeds.pop(0)(context)

    async def GetInput(self, request: Any, context: Any) -> None:  # type: ignore[override]
        self.headers.append(request)
        await self.deeds.pop(0)(context)

    async def GetResult(self, request: Any, context: Any) -> None:  # type: ignore[override]
        raise AssertionError("that is for clients")

    async def take(self, context: Any) -> None:
        """Take all of it."""
        await context.write(artifact_pb2.PutResponse(is_kept=False))
        self.came = b""
        while isinstance(message := await context.read(), artifact_pb2.PutRequest):
            assert len(message.data) <= MAX_PART_BYTES
            self.came += message.data
        await context.write(artifact_pb2.PutResponse(is_kept=True))

    async def have(self, context: Any) -> None:
        """Have it already."""
        await context.write(artifact_pb2.PutResponse(is_kept=True))

    async def forget(self, context: Any) -> None:
        """Take it, and end without a word."""
        await context.write(artifact_pb2.PutResponse(is_kept=False))
        while isinstance(await context.read(), artifact_pb2.PutRequest):
            pass


def fails(error: AsterismError, *, asks: bool = False) -> Deed:
    """Refuse, at once or after a first part."""

    async def fail(context: Any) -> None:
        if asks:
            await context.write(artifact_pb2.PutResponse(is_kept=False))
            await context.read()
        status = to_rpc_status(error)
        await context.abort(status.code, status.details, status.trailing_metadata)

    return fail


def gives(data: bytes) -> Deed:
    """Send these bytes."""

    async def give(context: Any) -> None:
        await context.write(artifact_pb2.ArtifactPart())
        for start in range(0, len(data), MAX_PART_BYTES):
            await context.write(artifact_pb2.ArtifactPart(data=data[start : start + MAX_PART_BYTES]))

    return give


BUSY = Overloaded("busy", 0.01)


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
async def address(scripted: Scripted) -> AsyncIterator[str]:
    server = grpc.aio.server()
    artifact_pb2_grpc.add_ArtifactServiceServicer_to_server(scripted, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
def transfers() -> Transfers:
    return Transfers(Backoff(first_s=0.01, max_s=0.02), lambda: 0.5)


def channel_to(address: str) -> Any:
    return grpc.aio.insecure_channel(address)


async def test_artifact_goes_in_parts_under_the_workers_name_and_token(
    scripted: Scripted, transfers: Transfers, address: str
) -> None:
    scripted.deeds = [scripted.take]
    async with channel_to(address) as channel:
        transfers.connect(channel, WorkerId("w1"), 5)
        await transfers.put(TOKEN, ARTIFACT, DATA)
    assert scripted.came == DATA
    (header,) = scripted.headers
    assert (header.worker, header.fencing_token, header.artifact.sha256.hex()) == ("w1", 7, ARTIFACT.sha256)
    assert transfers.max_artifact_bytes == 5


async def test_artifact_that_is_there_is_not_sent(scripted: Scripted, transfers: Transfers, address: str) -> None:
    scripted.deeds = [scripted.have]
    async with channel_to(address) as channel:
        transfers.connect(channel, WorkerId("w1"), 5)
        await transfers.put(TOKEN, ARTIFACT, DATA)
    assert scripted.came == b""


async def test_transfer_is_tried_again_until_it_is_done(scripted: Scripted, transfers: Transfers, address: str) -> None:
    scripted.deeds = [fails(BUSY), fails(BUSY, asks=True), scripted.forget, scripted.take, fails(BUSY), gives(DATA)]
    async with channel_to(address) as channel:
        transfers.connect(channel, WorkerId("w1"), 5)
        await transfers.put(TOKEN, ARTIFACT, DATA)
        assert await transfers.get(TOKEN, ARTIFACT) == DATA
    assert scripted.came == DATA
    assert scripted.deeds == []


@pytest.mark.parametrize("error", [NotFound("attempt", "7"), WrongState("attempt", "7", "ended", "it is over")])
async def test_what_another_try_would_not_mend_is_raised(
    scripted: Scripted, transfers: Transfers, address: str, error: AsterismError
) -> None:
    scripted.deeds = [fails(error), fails(error)]
    async with channel_to(address) as channel:
        transfers.connect(channel, WorkerId("w1"), 5)
        with pytest.raises(type(error)):
            await transfers.put(TOKEN, ARTIFACT, DATA)
        with pytest.raises(type(error)):
            await transfers.get(TOKEN, ARTIFACT)


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x", DATA[:-1] + b"y", b""])
async def test_other_bytes_are_never_taken_for_the_artifact(
    scripted: Scripted, transfers: Transfers, address: str, data: bytes
) -> None:
    scripted.deeds = [gives(data)]
    async with channel_to(address) as channel:
        transfers.connect(channel, WorkerId("w1"), 5)
        with pytest.raises(DataLoss):
            await transfers.get(TOKEN, ARTIFACT)


async def test_transfer_waits_for_a_connection_and_outlives_one_that_is_closed(
    scripted: Scripted, transfers: Transfers, address: str
) -> None:
    has_begun = asyncio.Event()

    async def hang(context: Any) -> None:
        has_begun.set()
        await asyncio.Event().wait()

    scripted.deeds = [hang, scripted.take]
    async with asyncio.TaskGroup() as group:
        putting = group.create_task(transfers.put(TOKEN, ARTIFACT, DATA))
        async with channel_to(address) as first:
            transfers.connect(first, WorkerId("w1"), 5)
            await has_begun.wait()
            transfers.disconnect()
        assert not putting.done()
        async with channel_to(address) as second:
            transfers.connect(second, WorkerId("w1"), 5)
            await putting
    assert scripted.came == DATA


async def test_who_is_cancelled_waits_no_more(transfers: Transfers) -> None:
    async with asyncio.TaskGroup() as group:
        getting = group.create_task(transfers.get(TOKEN, Artifact("a" * 64, 1)))
        await asyncio.sleep(0)
        getting.cancel()
    assert getting.cancelled()
