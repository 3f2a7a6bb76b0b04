"""Workers that a benchmark plays itself: they hold what they are given, and are silent when told to be."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc.aio

from asterism.protocol.limits import CHANNEL_OPTIONS
from asterism.protocol.v1 import types_pb2, worker_pb2, worker_pb2_grpc

HOLD: Final = "hold"
"""A tool that only workers of a benchmark have; nothing that they are given ever ends."""
EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs lack it


class HoldingWorker:
    """One stream of a worker with slots for `hold`, and (`plans`) for plans, which it holds as well."""

    def __init__(self, channel: Any, name: str, slots: int, *, plans: bool) -> None:
        stub: Any = worker_pb2_grpc.WorkerServiceStub(channel)  # Any: frames are written one by one
        self._call = stub.Attach()
        self._name = name
        self._slots = slots
        self._programs = ["plan"] if plans else []
        self.lease_s = 0.0
        self.held: list[int] = []
        self.arrived: dict[str, float] = {}
        """When each star's assignment came, on the monotonic clock."""
        self.has_assignment = asyncio.Event()

    async def attach(self) -> None:
        """Say hello, and be welcomed."""
        profile = types_pb2.WorkerProfile(slots=self._slots, tools=[HOLD], programs=self._programs, version="bench")
        hello = worker_pb2.Hello(worker=self._name, instance="bench", profile=profile)
        await self._call.write(worker_pb2.WorkerFrame(hello=hello))
        welcome = await self._call.read()
        assert welcome is not EOF, await self._call.details()
        assert welcome.HasField("welcome")
        self.lease_s = welcome.welcome.lease_s

    async def read(self) -> None:
        """Take assignments until the stream ends."""
        while (frame := await self._call.read()) is not EOF:
            now = time.monotonic()
            self.arrived.update((assignment.star, now) for assignment in frame.assignments)
            self.held += [assignment.fencing_token for assignment in frame.assignments]
            if frame.assignments:
                self.has_assignment.set()

    async def renew(self) -> None:
        """A sign of life, three times a lease."""
        while True:
            await asyncio.sleep(self.lease_s / 3)
            await self._call.write(worker_pb2.WorkerFrame())


@asynccontextmanager
async def holding(
    address: str, names: list[str], slots: int, *, renews: bool = True, channels: int = 1, plans: bool = False
) -> AsyncIterator[list[HoldingWorker]]:
    """Workers that are attached while the block runs, over as many connections."""
    opened = [
        grpc.aio.insecure_channel(address, options=(*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)))
        for _ in range(channels)
    ]
    workers = [HoldingWorker(opened[number % channels], name, slots, plans=plans) for number, name in enumerate(names)]
    for worker in workers:
        await worker.attach()
    tasks = [asyncio.ensure_future(worker.read()) for worker in workers]
    if renews:
        tasks += [asyncio.ensure_future(worker.renew()) for worker in workers]
    try:
        yield workers
    finally:
        for task in tasks:
            task.cancel()
        for channel in opened:
            await channel.close(None)
