"""The program, and an orchestrator that it talks to."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.peer import Peer, serving
from tests.cli.shell import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with serving(Peer()) as one:
        yield one
