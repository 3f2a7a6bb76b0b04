"""The real commands on PostgreSQL."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from asterism.orchestrator.core.records import Record
from asterism.orchestrator.core.request import Request
from asterism.protocol.answers import StreamedText
from asterism.protocol.client import AsyncClient
from tests.e2e.conftest import LEASE_S
from tests.e2e.test_kill import chain, check_whole, watch
from tests.processes import Fleet, attached, fleet

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def stored(tmp_path: Path, postgres_url: str) -> Iterator[Fleet]:
    """An orchestrator whose store is PostgreSQL, and no workers yet."""
    with fleet(tmp_path, serve=["--lease-s", str(LEASE_S), "--store", postgres_url]) as made:
        yield made


async def test_an_orchestrator_killed_in_mid_run_goes_on_where_it_was(stored: Fleet) -> None:
    for name in ("ada", "bob"):
        stored.start_worker(name, "--model", "none", "--slots", "4")
    orchestrator = stored.children[0]
    async with AsyncClient(stored.address) as client:
        await attached(client, 2)
        submitted = await client.submit(Request("plan", chain(60)), request_id="the-one")
        seen: list[Record] = []
        async for record in client.watch(submitted.constellation, with_text=False):
            if isinstance(record, StreamedText):
                continue
            seen.append(record)
            if len(seen) == 40:
                orchestrator.kill()
                orchestrator = stored.start_orchestrator("serve-again")
        assert seen == await watch(client, submitted.constellation)
        check_whole(seen, 61)
        repeated = await client.submit(Request("plan", chain(60)), request_id="the-one")
        assert not repeated.is_new
    orchestrator.signal(signal.SIGTERM)
    assert orchestrator.wait(30) == 0


def test_serve_says_what_to_mend_and_no_password(tmp_path: Path) -> None:
    made = Fleet(tmp_path)
    try:
        for url, code, told in (
            ("postgresql://u:hidden@127.0.0.1:1/x", 3, "127.0.0.1:1"),
            ("postgresql://u:hidden@127.0.0.1/x?no=1", 2, "'no'"),
        ):
            child = made.start(f"serve-{code}", ["serve", "--data-dir", str(tmp_path), "--store", url])
            assert child.wait() == code, child.read()
            assert told in child.read()
            assert "hidden" not in child.read()
    finally:
        made.end()
