"""Artifacts to and from workers and clients: who may, how much, and how slowly; `artifacts.py` keeps the bytes."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, Protocol

import grpc.aio
import structlog

from asterism.orchestrator.artifacts import ArtifactFiles
from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.errors import InvalidField, NotFound, Overloaded, WrongState
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.inputs import needs_artifact
from asterism.orchestrator.core.star import TaskStar
from asterism.orchestrator.core.values import Artifact
from asterism.orchestrator.loop import Loop
from asterism.orchestrator.services.auth import CALLER, Gate, Identity
from asterism.orchestrator.services.rates import Places
from asterism.protocol.convert import artifact_from_proto, artifact_to_proto, checks, constellation_id
from asterism.protocol.limits import MAX_PART_BYTES
from asterism.protocol.v1 import artifact_pb2, artifact_pb2_grpc

log = structlog.get_logger(__name__)

EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs lack it

PART_S: Final = 20.0
"""Longest wait for a peer's next message, or for room for ours."""
LEAST_BYTES_PER_S: Final = 32 * 1024
"""A transfer that is slower than this on the whole is ended."""
MAX_TRANSFERS: Final = 64
"""Of one identity at one time."""
MAX_NAMED: Final = 4096
"""Attempts whose artifact is remembered before those that have ended are forgotten."""


class ResultFinder(Protocol):
    """What this needs of the store."""

    async def find_artifact(self, constellation: ConstellationId, star: StarId) -> tuple[str, Artifact] | None:
        """Who owns the request, and the star's result where that is an artifact."""


class ArtifactService(artifact_pb2_grpc.ArtifactServiceServicer):
    """Translates and checks rights."""

    def __init__(
        self, loop: Loop, results: ResultFinder, files: ArtifactFiles, gate: Gate, *, max_artifact_bytes: int
    ) -> None:
        self._loop = loop
        self._results = results
        self._files = files
        self._gate = gate
        self._max_artifact_bytes = max_artifact_bytes
        self._transfers = Places("transfers of artifacts", MAX_TRANSFERS)
        self._named: dict[FencingToken, Artifact] = {}
        """What each running attempt has begun to put."""

    async def Put(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # reads and writes by context
        """Keep what a running attempt gives as its result, if it is what it is said to be."""
        identity = CALLER.get()
        with self._transfers.hold(identity.name):
            async with _deadline(PART_S):
                first = await context.read()
            if first is EOF or first.WhichOneof("part") != "header":
                raise InvalidField("header", "the first message must be one")
            artifact = artifact_from_proto(first.header.artifact, "header.artifact")
            if artifact.size > self._max_artifact_bytes:
                reason = f"{artifact.size} bytes; at most {self._max_artifact_bytes}"
                raise InvalidField("header.artifact.size", reason)
            token = _token(first.header.fencing_token, "header.fencing_token")
            self._attempt(_worker(identity, first.header.worker, "header.worker"), token)
            self._name(token, artifact)
            if not await self._files.is_fresh(artifact):
                await context.write(artifact_pb2.PutResponse(is_kept=False))
                async with _deadline(_longest_s(artifact)), aclosing(self._parts(context, identity)) as parts:
                    await self._files.keep(artifact, parts)
                log.info("artifact kept", artifact=str(artifact), size=artifact.size)
            await context.write(artifact_pb2.PutResponse(is_kept=True))

    async def GetInput(self, request: artifact_pb2.GetInputRequest, context: Any) -> None:  # type: ignore[override]  # writes by context
        """Send what a running attempt is given."""
        identity = CALLER.get()
        artifact = artifact_from_proto(request.artifact)
        token = _token(request.fencing_token, "fencing_token")
        constellation, star = self._attempt(_worker(identity, request.worker, "worker"), token)
        if not needs_artifact(constellation, star, artifact):
            raise NotFound("artifact", str(artifact))
        await self._send(context, identity, artifact)

    async def GetResult(self, request: artifact_pb2.GetResultRequest, context: Any) -> None:  # type: ignore[override]  # writes by context
        """Send the result of a star of a request that the caller may see."""
        identity = CALLER.get()
        constellation = constellation_id(request.constellation)
        star = StarId(checks.name(request.star, "star"))
        found = await self._results.find_artifact(constellation, star)
        if found is None or not (identity.sees_all or found[0] == identity.name):
            raise NotFound("artifact", f"{constellation}/{star}")
        await self._send(context, identity, found[1])

    def _attempt(self, worker: WorkerId, token: FencingToken) -> tuple[TaskConstellation, TaskStar]:
        """The star that the worker runs under the token; an attempt of another does not exist for it."""
        known = self._loop.machine.workers.get(worker)
        lease = None if known is None else known.running.get(token)
        if lease is None or lease.is_stopping:
            raise NotFound("attempt", str(token))
        constellation = self._loop.machine.constellations[lease.constellation]
        return constellation, constellation.stars[lease.star]

    def _name(self, token: FencingToken, artifact: Artifact) -> None:
        """Note what the attempt puts: it has one result, and may not fill the disk with others."""
        if len(self._named) >= MAX_NAMED:
            live = {token for worker in self._loop.machine.workers.values() for token in worker.running}
            self._named = {token: named for token, named in self._named.items() if token in live}
        if self._named.setdefault(token, artifact) != artifact:
            raise WrongState("attempt", str(token), "putting another artifact", "it has one result")

    async def _parts(self, context: Any, identity: Identity) -> AsyncGenerator[bytes, None]:
        renewal = self._gate.renewal(identity)
        while True:
            async with _deadline(PART_S):
                message = await context.read()
            if message is EOF:
                return
            await renewal.check()
            if message.WhichOneof("part") != "data" or not 1 <= len(message.data) <= MAX_PART_BYTES:
                raise InvalidField("data", f"each message after the header has 1 to {MAX_PART_BYTES} bytes")
            yield message.data

    async def _send(self, context: Any, identity: Identity, artifact: Artifact) -> None:
        with self._transfers.hold(identity.name):
            renewal = self._gate.renewal(identity)
            async with _deadline(_longest_s(artifact)), aclosing(self._files.read(artifact)) as parts:
                await context.write(artifact_pb2.ArtifactPart(header=artifact_to_proto(artifact)))
                async for part in parts:
                    await renewal.check()
                    async with _deadline(PART_S):
                        await context.write(artifact_pb2.ArtifactPart(data=part))


@asynccontextmanager
async def _deadline(limit_s: float) -> AsyncIterator[None]:
    """An end in time, which is an error for the peer."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        raise Overloaded(f"the transfer did not go on within {limit_s:g} s", 1.0) from None


def _longest_s(artifact: Artifact) -> float:
    return PART_S + artifact.size / LEAST_BYTES_PER_S


def _token(value: int, field: str) -> FencingToken:
    return FencingToken(checks.integer(value, field))


def _worker(identity: Identity, said: str, field: str) -> WorkerId:
    """Who calls: what a message says counts only where no credential names the worker."""
    return WorkerId(checks.name(said, field) if identity.is_local else identity.name)
