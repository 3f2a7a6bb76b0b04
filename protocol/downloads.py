"""The bytes of a star's result that is an artifact, from an orchestrator to a client: never others than it names."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from typing import TypeAlias

import grpc.aio

from asterism.orchestrator.core.errors import DataLoss, Unreachable
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.values import Artifact
from asterism.protocol.convert import artifact_from_proto
from asterism.protocol.status import from_rpc_error
from asterism.protocol.v1 import artifact_pb2, artifact_pb2_grpc

DownloadCall: TypeAlias = "grpc.aio.UnaryStreamCall[artifact_pb2.GetResultRequest, artifact_pb2.ArtifactPart]"


class Download:
    """One that has begun; `parts` is to be read to its end, or `cancel` called."""

    def __init__(self, call: DownloadCall, artifact: Artifact, address: str, part_s: float) -> None:
        self.artifact = artifact
        self._call = call
        self._address = address
        self._part_s = part_s

    async def parts(self) -> AsyncGenerator[bytes, None]:
        """The bytes in order; raises DataLoss before the last of them where they are not those of the artifact."""
        digest = hashlib.sha256()
        left = self.artifact.size
        while left:
            try:
                async with asyncio.timeout(self._part_s):
                    message = await self._call.read()
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error, self._address) from None
            except TimeoutError:
                raise Unreachable(self._address, f"the transfer did not go on within {self._part_s:g} s") from None
            if not isinstance(message, artifact_pb2.ArtifactPart):
                raise Unreachable(self._address, f"the transfer ended {left} bytes early")
            digest.update(message.data)
            left -= len(message.data)
            if left < 0 or (left == 0 and digest.hexdigest() != self.artifact.sha256):
                raise DataLoss("artifact", str(self.artifact), "the bytes that came are not its own")
            yield message.data

    def cancel(self) -> None:
        """Want no more of it."""
        self._call.cancel()


async def begin_download(
    channel: grpc.aio.Channel, constellation: ConstellationId, star: StarId, address: str, part_s: float
) -> Download:
    """Ask for it, and read what comes. Raises AioRpcError for a refusal, InvalidField for what is no header."""
    request = artifact_pb2.GetResultRequest(constellation=constellation, star=star)
    call: DownloadCall = artifact_pb2_grpc.ArtifactServiceStub(channel).GetResult(request)
    try:
        async with asyncio.timeout(part_s):
            first = await call.read()
        if not isinstance(first, artifact_pb2.ArtifactPart):
            raise Unreachable(address, "it sent nothing")
        return Download(call, artifact_from_proto(first.header, "header"), address, part_s)
    except TimeoutError:
        call.cancel()
        raise Unreachable(address, "no answer before the deadline") from None
    except BaseException:
        call.cancel()
        raise
