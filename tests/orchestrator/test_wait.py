"""Waiting for the end of a request, and what the orchestrator counts meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from asterism.orchestrator.app import Running
from asterism.orchestrator.core.errors import NotFound, Unreachable
from asterism.orchestrator.core.ids import ConstellationId
from asterism.orchestrator.core.request import ConstellationState, Request
from asterism.protocol.client import AsyncClient
from asterism.store.memory import MemoryStore
from tests.orchestrator.serving import PLAN, Peer, served
from tests.orchestrator.test_watch import run_plan


@pytest.fixture
async def orchestrator(tmp_path: Path) -> AsyncIterator[Running]:
    async with served(tmp_path) as running:
        yield running


@pytest.fixture
async def client(orchestrator: Running) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(orchestrator.address, patience_s=1.0) as client:
        yield client


async def test_wait_returns_with_the_end_and_again_after_it(orchestrator: Running, client: AsyncClient) -> None:
    submitted = await client.submit(Request("plan", PLAN))
    async with asyncio.TaskGroup() as group, Peer(orchestrator.address) as peer:
        waiting = group.create_task(client.wait(submitted.constellation))
        await run_plan(await peer.attach(), "a", "b")
        ended = await waiting  # before the connection closes: what it carries unread is lost with it
    on_disk = (await client.get(submitted.constellation)).constellation
    assert (ended.state, ended.reason, ended.ended_at) == (ConstellationState.SUCCEEDED, "", on_disk.ended_at)
    assert await client.wait(submitted.constellation) == ended


async def test_wait_for_what_memory_has_forgotten(tmp_path: Path) -> None:
    store = MemoryStore()
    async with served(tmp_path, store) as first, AsyncClient(first.address) as client:
        submitted = await client.submit(Request("plan", PLAN))
        await client.cancel(submitted.constellation, "enough")
    async with served(tmp_path, store) as second, AsyncClient(second.address) as client:
        assert submitted.constellation not in second.loop.machine.constellations
        ended = await client.wait(submitted.constellation)
    assert (ended.state, ended.reason) == (ConstellationState.CANCELLED, "enough")


async def test_wait_for_something_unknown_is_refused_at_once(client: AsyncClient) -> None:
    with pytest.raises(NotFound):
        await client.wait(ConstellationId("c0"))


async def test_wait_gives_up_when_nobody_answers_for_long(tmp_path: Path) -> None:
    async with served(tmp_path) as leaving, AsyncClient(leaving.address, patience_s=0.2) as client:
        submitted = await client.submit(Request("plan", PLAN))
    async with AsyncClient(leaving.address, patience_s=0.2) as client:
        with pytest.raises(Unreachable):
            await client.wait(submitted.constellation)


async def test_waiting_calls_end_when_the_orchestrator_leaves(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        async with served(tmp_path) as leaving:
            client = await stack.enter_async_context(AsyncClient(leaving.address, patience_s=0.2))
            submitted = await client.submit(Request("plan", PLAN))
            waiting = asyncio.ensure_future(client.wait(submitted.constellation))
            assert len(await client.workers()) == 0  # by then the other call, which came before, waits
        with pytest.raises(Unreachable):
            await waiting


async def test_counters_rise_with_what_is_done(orchestrator: Running, client: AsyncClient) -> None:
    async with Peer(orchestrator.address) as peer:
        submitted = await client.submit(Request("plan", PLAN))
        before = await client.counters()
        await run_plan(await peer.attach(), "a")
        await client.wait(submitted.constellation)
    after = await client.counters()
    # The worker's hello is no frame of the conversation; then a plan and a star come back, and go out.
    assert after.frames_received - before.frames_received == 2
    assert after.frames_sent - before.frames_sent >= 2
    assert before.records == 2
    assert after.records > before.records
    assert 1 <= after.appends - before.appends <= after.records - before.records
    assert after.dropped == 0
