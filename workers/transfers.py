"""Artifacts to and from the orchestrator, over the connection that the link keeps open; tried again when it breaks."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, TypeVar

import grpc.aio
import structlog

from asterism.orchestrator.core.errors import AsterismError, DataLoss, NotLeading, Overloaded, Unreachable
from asterism.orchestrator.core.ids import FencingToken, WorkerId
from asterism.orchestrator.core.values import MAX_ARTIFACT_BYTES, Artifact
from asterism.protocol.convert import artifact_to_proto
from asterism.protocol.limits import MAX_PART_BYTES
from asterism.protocol.status import from_rpc_error
from asterism.protocol.v1 import artifact_pb2, artifact_pb2_grpc
from asterism.workers.session import Backoff

PART_S: Final = 30.0
"""Longest wait for the orchestrator's next message, or for room for ours."""

T = TypeVar("T")
PutCall: TypeAlias = "grpc.aio.StreamStreamCall[artifact_pb2.PutRequest, artifact_pb2.PutResponse]"
_log = structlog.get_logger(__name__)


class Transfers:
    """Waits while there is no connection; whoever waits is cancelled when its attempt is stopped or its lease lost."""

    def __init__(self, backoff: Backoff, chance: Callable[[], float]) -> None:
        self._backoff = backoff
        self._chance = chance
        self._online = asyncio.Event()
        self._channel: grpc.aio.Channel | None = None
        self._worker = WorkerId("")
        self.max_artifact_bytes = MAX_ARTIFACT_BYTES
        """Of one result, as the orchestrator last said."""

    def connect(self, channel: grpc.aio.Channel, worker: WorkerId, max_artifact_bytes: int) -> None:
        """The orchestrator has welcomed us on this channel."""
        self._channel = channel
        self._worker = worker
        self.max_artifact_bytes = max_artifact_bytes
        self._online.set()

    def disconnect(self) -> None:
        """The channel is used no more."""
        self._channel = None
        self._online.clear()

    async def put(self, fencing_token: FencingToken, artifact: Artifact, data: bytes) -> None:
        """Have the orchestrator keep the result of a running attempt. Raises what another try would not mend."""
        await self._try(lambda channel: self._put_once(channel, fencing_token, artifact, data))

    async def get(self, fencing_token: FencingToken, artifact: Artifact) -> bytes:
        """What a running attempt is given, found to be just that. Raises what another try would not mend."""
        return await self._try(lambda channel: self._get_once(channel, fencing_token, artifact))

    async def _try(self, transfer: Callable[[grpc.aio.Channel], Awaitable[T]]) -> T:
        failures = 0
        while True:
            await self._online.wait()
            channel = self._channel
            assert channel is not None, "it is online"
            trouble: AsterismError
            try:
                return await transfer(channel)
            except grpc.aio.AioRpcError as error:
                trouble = from_rpc_error(error, "the orchestrator")
            except TimeoutError:
                trouble = Unreachable("the orchestrator", f"a transfer did not go on within {PART_S:g} s")
            except Unreachable as error:
                trouble = error
            except asyncio.CancelledError:
                # That is also what gRPC raises in calls of a channel that is closed.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                trouble = Unreachable("the orchestrator", "the connection was closed")
            if not isinstance(trouble, Unreachable | NotLeading | Overloaded):
                raise trouble
            failures += 1
            delay_s = self._backoff.delay_s(failures, self._chance())
            if isinstance(trouble, Overloaded):
                delay_s = max(delay_s, trouble.retry_after_s)
            _log.warning("artifact not transferred", reason=trouble.message, again_in_s=round(delay_s, 2))
            await asyncio.sleep(delay_s)

    async def _put_once(
        self, channel: grpc.aio.Channel, fencing_token: FencingToken, artifact: Artifact, data: bytes
    ) -> None:
        call: PutCall = artifact_pb2_grpc.ArtifactServiceStub(channel).Put()  # type: ignore[call-arg]  # written one by one
        try:
            header = artifact_pb2.PutHeader(
                worker=self._worker, fencing_token=fencing_token, artifact=artifact_to_proto(artifact)
            )
            await _write(call, artifact_pb2.PutRequest(header=header))
            if await _is_kept(call):
                return
            view = memoryview(data)
            for start in range(0, len(data), MAX_PART_BYTES):
                part = bytes(view[start : start + MAX_PART_BYTES])
                if not await _write(call, artifact_pb2.PutRequest(data=part)):
                    break
            else:
                await call.done_writing()
            if not await _is_kept(call):
                raise Unreachable("the orchestrator", "it asked for the same artifact twice")
        finally:
            call.cancel()

    async def _get_once(self, channel: grpc.aio.Channel, fencing_token: FencingToken, artifact: Artifact) -> bytes:
        request = artifact_pb2.GetInputRequest(
            worker=self._worker, fencing_token=fencing_token, artifact=artifact_to_proto(artifact)
        )
        call = artifact_pb2_grpc.ArtifactServiceStub(channel).GetInput(request)
        data = bytearray()
        digest = hashlib.sha256()
        try:
            while True:
                async with asyncio.timeout(PART_S):
                    message = await call.read()
                if not isinstance(message, artifact_pb2.ArtifactPart):
                    break
                data += message.data
                if len(data) > artifact.size:
                    raise DataLoss("artifact", str(artifact), f"more than its {artifact.size} bytes came")
                digest.update(message.data)
        finally:
            call.cancel()
        if digest.hexdigest() != artifact.sha256:
            raise DataLoss("artifact", str(artifact), f"what came has the hash {digest.hexdigest()}")
        return bytes(data)


async def _write(call: PutCall, message: artifact_pb2.PutRequest) -> bool:
    """Whether it went out; if not the call has ended, and reading tells why."""
    try:
        async with asyncio.timeout(PART_S):
            await call.write(message)
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return False
    return True


async def _is_kept(call: PutCall) -> bool:
    """The next answer. Raises AioRpcError where there is none because the call failed."""
    async with asyncio.timeout(PART_S):
        answer = await call.read()
    if not isinstance(answer, artifact_pb2.PutResponse):
        raise Unreachable("the orchestrator", "it ended a transfer without an answer")
    return answer.is_kept
