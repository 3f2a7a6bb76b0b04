"""The stores that must keep the same contract."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import pytest_asyncio

from asterism.store.memory import MemoryStore
from asterism.store.sql import SqlStore

AnyStore: TypeAlias = MemoryStore | SqlStore


@pytest_asyncio.fixture(params=["memory", "sqlite-memory", "sqlite-file", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyStore]:
    """Each of them, open and empty."""
    of_kind: dict[str, Callable[[], AnyStore]] = {
        "memory": MemoryStore,
        "sqlite-memory": lambda: SqlStore(":memory:"),
        "sqlite-file": lambda: SqlStore(tmp_path / "asterism.db"),
        "postgresql": lambda: SqlStore(request.getfixturevalue("postgres_url")),
    }
    opened = of_kind[request.param]()
    await opened.open()
    yield opened
    await opened.close()
