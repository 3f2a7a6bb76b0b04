"""Reading a result that is an artifact: its bytes, or an error, and never other bytes."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import pytest

from asterism.orchestrator.core.errors import AsterismError, DataLoss, NotFound, Unreachable
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.protocol.blocking import Client
from asterism.protocol.client import AsyncClient
from asterism.protocol.limits import MAX_PART_BYTES
from asterism.protocol.status import to_rpc_status
from asterism.protocol.v1 import artifact_pb2, artifact_pb2_grpc, types_pb2

C, STAR = ConstellationId("c1"), StarId("a")
DATA = b'"' + b"x" * (MAX_PART_BYTES * 2) + b'"'


@dataclass
class Scripted(artifact_pb2_grpc.ArtifactServiceServicer):
    """Says that it has `named`, and sends `data`."""

    named: bytes = DATA
    data: bytes = DATA
    refuse: AsterismError | None = None
    hangs: bool = False
    requests: list[artifact_pb2.GetResultRequest] = field(default_factory=list)

    async def GetResult(self, request: Any, context: Any) -> None:  # type: ignore[override]
        self.requests.append(request)
        if self.refuse is not None:
            status = to_rpc_status(self.refuse)
            await context.abort(status.code, status.details, status.trailing_metadata)
        header = types_pb2.Artifact(sha256=hashlib.sha256(self.named).digest(), size=len(self.named))
        await context.write(artifact_pb2.ArtifactPart(header=header))
        for start in range(0, len(self.data), MAX_PART_BYTES):
            await context.write(artifact_pb2.ArtifactPart(data=self.data[start : start + MAX_PART_BYTES]))
        if self.hangs:
            await asyncio.Event().wait()

    async def Put(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        raise AssertionError("that is for workers")

    async def GetInput(self, request: Any, context: Any) -> None:  # type: ignore[override]
        raise AssertionError("that is for workers")


@asynccontextmanager
async def serving(scripted: Scripted) -> AsyncIterator[str]:
    server = grpc.aio.server()
    artifact_pb2_grpc.add_ArtifactServiceServicer_to_server(scripted, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def test_parts_and_value_are_those_of_the_artifact() -> None:
    scripted = Scripted()
    async with serving(scripted) as address, AsyncClient(address) as client:
        assert b"".join([part async for part in client.artifact_parts(C, STAR)]) == DATA
        assert await client.artifact_value(C, STAR) == "x" * (MAX_PART_BYTES * 2)
    assert [(request.constellation, request.star) for request in scripted.requests] == [("c1", "a")] * 2


async def test_blocking_client_reads_the_same() -> None:
    def use(address: str) -> tuple[bytes, object]:
        with Client(address) as client:
            return b"".join(client.artifact_parts(C, STAR)), client.artifact_value(C, STAR)

    async with serving(Scripted()) as address:
        assert await asyncio.to_thread(use, address) == (DATA, "x" * (MAX_PART_BYTES * 2))


@pytest.mark.parametrize("data", [DATA[:-1] + b"y", DATA + b"y"])
async def test_other_bytes_are_data_loss_before_their_end(data: bytes) -> None:
    came: list[bytes] = []

    async def read(client: AsyncClient) -> None:
        async for part in client.artifact_parts(C, STAR):
            came.append(part)  # noqa: PERF401  # what came before an error counts too

    async with serving(Scripted(data=data)) as address, AsyncClient(address) as client:
        with pytest.raises(DataLoss):
            await read(client)
    assert sum(map(len, came)) < len(DATA)


@pytest.mark.parametrize("hangs", [False, True])
async def test_transfer_that_stops_in_the_middle_is_unreachable(hangs: bool) -> None:
    scripted = Scripted(data=DATA[:1000], hangs=hangs)
    async with serving(scripted) as address, AsyncClient(address, deadline_s=0.3) as client:
        with pytest.raises(Unreachable):
            await client.artifact_value(C, STAR)


async def test_refusal_is_the_leaf_that_was_raised() -> None:
    async with (
        serving(Scripted(refuse=NotFound("artifact", "c1/a"))) as address,
        AsyncClient(address) as client,
    ):
        with pytest.raises(NotFound):
            await client.artifact_value(C, STAR)


async def test_text_that_is_no_json_is_data_loss() -> None:
    async with serving(Scripted(b"{", b"{")) as address, AsyncClient(address) as client:
        with pytest.raises(DataLoss, match="not JSON"):
            await client.artifact_value(C, STAR)
