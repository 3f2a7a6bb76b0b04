"""What is looked up by a key does not wait for whole graphs."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa

from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.store.sql import SqlStore
from tests.store.test_contract import accepted, credential

C1 = ConstellationId("c1")


@pytest_asyncio.fixture(params=["sqlite-file", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlStore]:
    """One that reads by connections of their own."""
    is_file = request.param == "sqlite-file"
    opened = SqlStore(tmp_path / "asterism.db" if is_file else request.getfixturevalue("postgres_url"))
    await opened.open()
    yield opened
    await opened.close()


async def test_look_ups_by_a_key_do_not_wait_for_a_whole_graph(store: SqlStore) -> None:
    await store.append([accepted(1, C1)], await store.acquire_epoch())
    known = credential("laptop", b"x" * 32)
    await store.add_credential(known)
    has_begun, may_end = threading.Event(), threading.Event()

    def linger(connection: sa.Connection) -> None:
        """As a large graph does."""
        has_begun.set()
        may_end.wait()

    async with asyncio.TaskGroup() as group:
        reading = group.create_task(store._database.read(linger))  # pyright: ignore[reportPrivateUsage]
        await asyncio.to_thread(has_begun.wait)
        whole = group.create_task(store.find_constellation(C1))
        try:
            assert await store.find_credential(b"x" * 32) == known
            assert await store.find_request("ann", f"request {C1}") == C1
            assert await store.find_artifact(C1, StarId("a")) is None
            listed = await store.list_constellations(owner="ann", states=(), before=None, limit=9)
            assert [row.id for row in listed] == [C1]
            assert not reading.done()
            assert not whole.done()
        finally:
            may_end.set()
