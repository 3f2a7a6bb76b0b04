"""A real orchestrator on loopback, and raw peers that speak the protocol by hand."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import grpc
import grpc.aio

from asterism.orchestrator.app import Running, running
from asterism.orchestrator.clock import SystemClock
from asterism.orchestrator.config import Settings
from asterism.orchestrator.core.credential import Role, StoredCredential
from asterism.protocol.credentials import Credential, new_credential
from asterism.protocol.limits import CHANNEL_OPTIONS
from asterism.protocol.v1 import client_pb2, client_pb2_grpc, fleet_pb2_grpc, types_pb2, worker_pb2, worker_pb2_grpc
from asterism.store.memory import MemoryStore
from asterism.store.sql import SqlStore

PLAN: Final = '{"stars": [{"id": "a", "kind": "tool", "program": "noop"}]}'
FAR: Final = 4_000_000_000.0


@asynccontextmanager
async def served(folder: Path, store: MemoryStore | None = None, **settings: Any) -> AsyncIterator[Running]:
    """An orchestrator that serves while the block runs."""
    chosen = Settings(**{"listen": "127.0.0.1:0", "data_dir": folder, "drain_s": 2.0, **settings})
    async with running(chosen, store or MemoryStore(), SystemClock()) as orchestrator:
        yield orchestrator


async def granted(store: MemoryStore | SqlStore, role: Role, name: str = "", *, ends_at: float = FAR) -> Credential:
    """A credential that the store knows."""
    made = new_credential(role)
    await store.add_credential(StoredCredential(name or role.value, role, made.secret_sha256, 0.0, ends_at))
    return made


class Peer:
    """A connection, and the stubs that use it under one credential."""

    def __init__(self, address: str, credential: Credential | None = None) -> None:
        self.address = address
        channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self.channel: Any = channel  # Any: the stubs of grpc ask for arguments that have defaults
        self.metadata = () if credential is None else credential.metadata
        self.client = client_pb2_grpc.ClientServiceStub(channel)
        self.fleet = fleet_pb2_grpc.FleetServiceStub(channel)
        self.worker: Any = worker_pb2_grpc.WorkerServiceStub(channel)

    async def __aenter__(self) -> "Peer":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.channel.close()

    async def submit(self, request_id: str, *, text: str = PLAN, form: str = "plan") -> str:
        """Submit a plan; gives the constellation."""
        request = client_pb2.SubmitRequest(request_id=request_id, request=types_pb2.Request(form=form, text=text))
        answer = await self.client.Submit(request, metadata=self.metadata)
        return answer.constellation

    def watch(self, constellation: str, after_seq: int = 0, *, with_text: bool = False) -> Any:
        """A stream of responses."""
        request = client_pb2.WatchRequest(constellation=constellation, after_seq=after_seq, with_text=with_text)
        return self.client.Watch(request, metadata=self.metadata)

    async def attach(
        self,
        name: str = "w1",
        instance: str = "i1",
        *,
        held: Sequence[int] = (),
        profile: types_pb2.WorkerProfile | None = None,
    ) -> "RawWorker":
        """A worker that has been welcomed."""
        worker = RawWorker(self.worker.Attach(metadata=self.metadata))
        await worker.hello(name, instance, held=held, profile=profile)
        welcome = await worker.read()
        assert welcome.HasField("welcome")
        return worker


class RawWorker:
    """One Attach stream, frame by frame."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def hello(
        self,
        name: str,
        instance: str = "i1",
        *,
        held: Sequence[int] = (),
        slots: int = 2,
        profile: types_pb2.WorkerProfile | None = None,
    ) -> None:
        """The first frame."""
        profile = profile or types_pb2.WorkerProfile(slots=slots, tools=["noop"], programs=["plan"])
        hello = worker_pb2.Hello(worker=name, instance=instance, profile=profile, held=held)
        await self.call.write(worker_pb2.WorkerFrame(hello=hello))

    async def read(self) -> worker_pb2.OrchestratorFrame:
        """The next frame; fails at the end of the stream."""
        frame = await self.call.read()
        assert frame is not EOF, await self.call.code()
        assert isinstance(frame, worker_pb2.OrchestratorFrame)
        return frame

    async def assignment(self) -> worker_pb2.Assignment:
        """The next assignment, whatever comes before it."""
        while True:
            frame = await self.read()
            if frame.assignments:
                return frame.assignments[0]

    async def finish(self, *tokens: int, result: str = '"ok"', edits: types_pb2.EditBatch | None = None) -> None:
        """Report results."""
        finished = [worker_pb2.Finished(fencing_token=token, result_json=result, edits=edits) for token in tokens]
        await self.call.write(worker_pb2.WorkerFrame(finished=finished))

    async def say(self, token: int, text: str) -> None:
        """Stream text."""
        chunk = types_pb2.Chunk(thread="main", text=text, tokens=1)
        progress = worker_pb2.Progress(fencing_token=token, chunks=[chunk])
        await self.call.write(worker_pb2.WorkerFrame(progress=[progress]))


EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs lack it


async def code_of(call: Any) -> grpc.StatusCode:
    """How a call ends, read to its end."""
    try:
        if hasattr(call, "read"):
            while await call.read() is not EOF:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    code = await call.code()
    assert isinstance(code, grpc.StatusCode)
    return code
