"""A scripted orchestrator: a real gRPC server on loopback whose every word the test decides."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc.aio

from asterism.orchestrator.core.effects import Assign
from asterism.orchestrator.core.errors import AsterismError
from asterism.protocol.convert import assign_to_proto
from asterism.protocol.status import to_rpc_status
from asterism.protocol.v1 import worker_pb2, worker_pb2_grpc

UNKNOWN: Final = 1_000_000
"""A fencing token that no test gives out."""


class Stream:
    """One stream that a worker has opened."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._read: asyncio.Queue[worker_pb2.WorkerFrame | None] = asyncio.Queue()
        self.frames: list[worker_pb2.WorkerFrame] = []
        """Every frame but the Hello that was looked at."""
        self.end = asyncio.Event()
        self.error: AsterismError | None = None

    async def say(self, **fields: Any) -> None:
        """Send a frame."""
        await self._context.write(worker_pb2.OrchestratorFrame(**fields))

    async def welcome(self, lease_s: float = 10.0) -> worker_pb2.Hello:
        """Read the Hello and answer it."""
        frame = await self.hear()
        assert frame is not None
        await self.say(welcome=worker_pb2.Welcome(worker="w1", lease_s=lease_s, max_frame_bytes=1 << 20))
        return frame.hello

    async def assign(self, *assignments: Assign) -> None:
        """Send them in one frame."""
        await self.say(assignments=[assign_to_proto(assignment) for assignment in assignments])

    async def hear(self) -> worker_pb2.WorkerFrame | None:
        """The next frame; None when the worker has closed its side."""
        frame = await self._read.get()
        if frame is not None:
            self.frames.append(frame)
        return frame

    async def hear_finished(self, count: int) -> list[worker_pb2.Finished]:
        """The next reports, that many, over as many frames as it takes."""
        finished: list[worker_pb2.Finished] = []
        while len(finished) < count:
            frame = await self.hear()
            assert frame is not None
            finished.extend(frame.finished)
        return finished

    async def catch_up(self) -> None:
        """Until the worker has done all that was said so far."""
        await self.say(stops=[worker_pb2.StopAttempt(fencing_token=UNKNOWN)])
        while (frame := await self.hear()) is not None:
            if any(report.fencing_token == UNKNOWN for report in frame.finished):
                return
        raise AssertionError("the worker has left")

    def close(self, error: AsterismError | None = None) -> None:
        """End it from this side."""
        self.error = error
        self.end.set()

    def take(self, frame: worker_pb2.WorkerFrame | None) -> None:
        """For the server: what the worker sent."""
        self._read.put_nowait(frame)


class Peer(worker_pb2_grpc.WorkerServiceServicer):
    """The servicer; `next_stream` gives each stream as it is opened."""

    def __init__(self) -> None:
        self.address = ""
        self._streams: asyncio.Queue[Stream] = asyncio.Queue()

    async def next_stream(self) -> Stream:
        return await self._streams.get()

    async def Attach(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        stream = Stream(context)
        self._streams.put_nowait(stream)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(self._read(context, stream))
            await stream.end.wait()
            reading.cancel()
        if stream.error is not None:
            status = to_rpc_status(stream.error)
            await context.abort(status.code, status.details, status.trailing_metadata)

    async def _read(self, context: Any, stream: Stream) -> None:
        try:
            # A cancellation that meets an arriving frame is lost in gRPC's read: the flag is what ends the loop.
            while not stream.end.is_set() and isinstance(frame := await context.read(), worker_pb2.WorkerFrame):
                stream.take(frame)
        finally:
            stream.take(None)


@asynccontextmanager
async def serving(peer: Peer, port: int = 0) -> AsyncIterator[int]:
    """Serve on loopback; gives the port."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    worker_pb2_grpc.add_WorkerServiceServicer_to_server(peer, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    peer.address = f"127.0.0.1:{bound}"
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(None)
