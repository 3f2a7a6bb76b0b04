"""The real commands on PostgreSQL.

`ASTERISM_LOSSES` says how often a leader is stopped (2; `make soak` asks for 20).
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from asterism.orchestrator.core.edits import AddStar, EditBatch
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.records import Record, WorkerJoined, WorkerLeft
from asterism.orchestrator.core.request import Request
from asterism.orchestrator.core.star import StarKind, StarSpec
from asterism.protocol.answers import StreamedText
from asterism.protocol.client import AsyncClient
from asterism.store.codec import VERSION
from asterism.store.sql import SqlStore
from tests.e2e.conftest import LEASE_S
from tests.e2e.test_kill import chain, check_whole, watch
from tests.postgres import Server
from tests.processes import Fleet, attached, fleet, wait_for_line
from tests.store.test_contract import accepted

NONE = ["--model", "none", "--slots", "4"]
LOSSES = int(os.environ.get("ASTERISM_LOSSES", "2"))
pytestmark = pytest.mark.timeout(120 + 30 * LOSSES)


@pytest.fixture
def stored(tmp_path: Path, postgres_url: str) -> Iterator[Fleet]:
    """An orchestrator whose store is PostgreSQL, and no workers yet."""
    lease = ["--leader-lease-s", str(LEASE_S)]
    with fleet(tmp_path, serve=["--lease-s", str(LEASE_S), *lease, "--store", postgres_url]) as made:
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


async def journal(url: str) -> list[Record]:
    """Everything that was ever appended."""
    store = SqlStore(url)
    await store.open()
    records = await store.read_whole_journal(after_seq=0, limit=10**6)
    await store.close()
    return records


async def test_a_leader_that_was_stopped_for_twice_its_lease_does_nothing_more(
    stored: Fleet, postgres_url: str
) -> None:
    leader, leads_at = stored.children[0], stored.address
    standby, stands_at = stored.start_another("standby-0")
    wait_for_line(standby, f'"leader": "{leads_at}"')
    ada = stored.start("ada", ["work", "--join", f"{leads_at},{stands_at}", "--name", "ada", *NONE])
    for loss in range(1, LOSSES + 1):
        both = f"{leads_at},{stands_at}"
        async with AsyncClient(both) as client:
            await attached(client, loss)
            # In its middle: some stars run, some results are on their way.
            submitted = await client.submit(Request("plan", chain(60)), request_id=f"r{loss}")
            seen: list[Record] = []
            async for record in client.watch(submitted.constellation, with_text=False):
                if not isinstance(record, StreamedText):
                    seen.append(record)
                if len(seen) == 30:
                    break
            stopped_at = time.monotonic()
            leader.signal(signal.SIGSTOP)
            stored.start(f"bob-{loss}", ["work", "--join", f"{stands_at},{leads_at}", "--name", f"bob-{loss}", *NONE])
        wait_for_line(standby, '"event": "ready"')
        # Only the new leader is known to this one, and it finishes what the old one began.
        async with AsyncClient(stands_at) as client:
            seen += await watch(client, submitted.constellation, seen[-1].seq)
            check_whole(seen, 61)
            repeated = await client.submit(Request("plan", chain(60)), request_id=f"r{loss}")
            assert not repeated.is_new
        await asyncio.sleep(max(0.0, stopped_at + 2 * LEASE_S - time.monotonic()))
        before = await journal(postgres_url)
        leader.signal(signal.SIGCONT)
        assert leader.wait() == 70
        assert "the lead is lost" in leader.read()
        after = await journal(postgres_url)
        assert after[: len(before)] == before
        # What came since is of the new leader: workers whose streams to the old one have ended.
        assert all(isinstance(record, WorkerJoined | WorkerLeft) for record in after[len(before) :])
        leader, leads_at, stands_at = standby, stands_at, leads_at
        standby, _ = stored.start_another(f"standby-{loss}", stands_at)
        wait_for_line(standby, f'"leader": "{leads_at}"')
    async with AsyncClient(f"{stands_at},{leads_at}") as client:
        # Nobody dispatched a star that the journal does not know: else its worker would still hold a slot for it.
        await attached(client, LOSSES + 1)
        assert all(not worker.slots_held for worker in await client.workers())
        last = await client.submit(Request("plan", chain(5)))
        check_whole(await watch(client, last.constellation), 6)
    assert ada.is_alive


async def test_an_orderly_end_hands_the_lead_over_at_once(stored: Fleet) -> None:
    leader, leads_at = stored.children[0], stored.address
    standby, stands_at = stored.start_another("standby")
    wait_for_line(standby, f'"leader": "{leads_at}"')
    stored.start("ada", ["work", "--join", f"{leads_at},{stands_at}", "--name", "ada", *NONE])
    async with AsyncClient(stands_at) as client:
        # Asked of the one that stands by, answered by the one that leads.
        await attached(client, 1)
        assert client.address == leads_at
        submitted = await client.submit(Request("plan", chain(3)))
        check_whole(await watch(client, submitted.constellation), 4)
        leader.signal(signal.SIGTERM)
        assert leader.wait(30) == 0
        wait_for_line(standby, '"event": "ready"')
    async with AsyncClient(f"{leads_at},{stands_at}") as client:
        await attached(client, 1)
        submitted = await client.submit(Request("plan", chain(3)))
        check_whole(await watch(client, submitted.constellation), 4)
    standby.signal(signal.SIGTERM)
    assert standby.wait(30) == 0


async def test_change_that_must_not_be_made_twice_finds_the_leader_first(stored: Fleet) -> None:
    standby, stands_at = stored.start_another("standby")
    wait_for_line(standby, f'"leader": "{stored.address}"')
    edits = EditBatch((AddStar(StarSpec(StarId("late"), StarKind.TOOL, "noop")),))
    async with AsyncClient(stored.address) as client:
        submitted = await client.submit(Request("plan", chain(3)))
    async with AsyncClient(f"127.0.0.1:1,{stands_at},{stored.address}") as client:
        assert await client.edit(submitted.constellation, edits) > 1
        assert client.address == stored.address


def test_one_that_stands_by_ends_when_it_is_told_to(stored: Fleet) -> None:
    standby, _ = stored.start_another("standby")
    wait_for_line(standby, f'"leader": "{stored.address}"')
    standby.signal(signal.SIGTERM)
    assert standby.wait(30) == 0
    assert stored.children[0].is_alive


async def test_a_journal_that_cannot_be_read_is_said_and_the_lead_given_back(
    tmp_path: Path, postgres: Server, postgres_url: str
) -> None:
    store = SqlStore(postgres_url)
    await store.open()
    await store.append([accepted(1, "c1")], await store.acquire_epoch())
    await store.close()
    database = sa.make_url(postgres_url).database
    newer = sa.literal(f'{{"v": {VERSION + 1}, "records": []}}').compile(compile_kwargs={"literal_binds": True})
    postgres.run(f"UPDATE journal SET body = {newer}", database)
    made = Fleet(tmp_path)
    try:
        listen = ["--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data")]
        orchestrator = made.start("serve", ["serve", *listen, "--store", postgres_url])
        assert orchestrator.wait(30) == 2
    finally:
        made.end()
    told = f"error: setting store: the journal's page 1 (version {VERSION + 1}) was written by a newer asterism"
    assert f"\n{told}" in orchestrator.read()
    assert "Traceback" not in orchestrator.read()
    assert postgres.run("SELECT ends_at FROM leadership", database) == [(0.0,)]
