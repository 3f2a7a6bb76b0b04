"""Real processes on loopback, in a folder of their own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Fleet, fleet

LEASE_S = 2.0


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Fleet]:
    """An orchestrator with short leases, and no workers yet."""
    with fleet(tmp_path, serve=["--lease-s", str(LEASE_S)]) as made:
        yield made
