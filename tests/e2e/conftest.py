"""Real processes on loopback, in a folder of their own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Fleet, fleet

LEASE_S = 2.0


@pytest.fixture
def lease_s() -> float:
    """Of a worker, in seconds: short, for what is to be lost; a test that is to lose nothing says a longer one."""
    return LEASE_S


@pytest.fixture
def running(tmp_path: Path, lease_s: float) -> Iterator[Fleet]:
    """An orchestrator, and no workers yet."""
    with fleet(tmp_path, serve=["--lease-s", str(lease_s)]) as made:
        yield made
