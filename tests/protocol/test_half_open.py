"""A connection that is dead and was never closed: a machine that lost its power, a NAT that forgot."""

import asyncio

import pytest

from asterism.orchestrator.core.records import EditsApplied
from asterism.protocol.client import AsyncClient, Watched
from asterism.protocol.limits import PING_INTERVAL_S, PING_TIMEOUT_S
from tests.protocol.peer import CONSTELLATION, Script, serving


class Wire:
    """A relay to `port` that can lose everything that its first connection carries, without closing it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connections = 0
        self.is_cut = False

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection both ways."""
        self._connections += 1
        is_first = self._connections == 1
        there, back = await asyncio.open_connection("127.0.0.1", self._port)

        async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                if not (is_first and self.is_cut):
                    target.write(data)
            target.close()

        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(carry(reader, back))
                tasks.create_task(carry(there, writer))
        finally:
            # The cut connection is never closed by its ends.
            back.transport.abort()
            writer.transport.abort()


@pytest.mark.slow
async def test_watch_notices_a_dead_connection_by_its_pings_and_resumes() -> None:
    script = Script(stays_open=True)
    whole, script.journal = script.journal, script.journal[:2]
    clock = asyncio.get_running_loop().time
    seen: list[Watched] = []
    async with serving(script) as port:
        wire = Wire(port)
        server = await asyncio.start_server(wire.relay, "127.0.0.1", 0)
        async with server, AsyncClient(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
            began_at = clock()
            async for item in client.watch(CONSTELLATION, with_text=False):
                seen.append(item)
                if isinstance(item, EditsApplied):
                    wire.is_cut, script.journal, script.stays_open = True, whole, False
    assert seen == whole
    assert script.watched_after == [0, 4]
    assert clock() - began_at < 2 * (PING_INTERVAL_S + PING_TIMEOUT_S)
