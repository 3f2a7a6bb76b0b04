"""SIGKILL, SIGSTOP and restarts of real processes: nothing accepted is lost, nothing finished runs again."""

import json
import signal
from collections.abc import Sequence

import pytest

from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.records import AttemptEnded, AttemptLeased, ConstellationEnded, Record, StarFinished
from asterism.orchestrator.core.request import ConstellationState, Request
from asterism.orchestrator.core.star import AttemptOutcome, StarState
from asterism.protocol.answers import StreamedText
from asterism.protocol.client import AsyncClient
from tests.processes import Fleet, attached

pytestmark = pytest.mark.timeout(120)
ONE_STAR = json.dumps({"stars": [{"id": "only", "kind": "tool", "program": "noop", "inputs": {"x": 1}}]})


def chain(stars: int) -> str:
    return json.dumps(
        {
            "stars": [
                {"id": f"s{n}", "kind": "tool", "program": "noop", "after": [f"s{n - 1}"] if n else []}
                for n in range(stars)
            ]
        }
    )


async def watch_until(client: AsyncClient, constellation: ConstellationId, wanted: type[Record]) -> list[Record]:
    """The records up to the first of a kind."""
    seen: list[Record] = []
    async for record in client.watch(constellation, with_text=False):
        if not isinstance(record, StreamedText):
            seen.append(record)
            if isinstance(record, wanted):
                break
    return seen


async def watch(client: AsyncClient, constellation: ConstellationId, after_seq: int = 0) -> list[Record]:
    watched = client.watch(constellation, after_seq=after_seq, with_text=False)
    return [record async for record in watched if not isinstance(record, StreamedText)]


def check_whole(records: Sequence[Record], stars: int) -> None:
    """Every star finished once, and the request succeeded."""
    finished = [record.star for record in records if isinstance(record, StarFinished)]
    assert len(finished) == len(set(finished)) == stars
    ended = records[-1]
    assert isinstance(ended, ConstellationEnded)
    assert ended.state is ConstellationState.SUCCEEDED, ended.reason


async def test_a_worker_killed_in_mid_star_costs_an_attempt_and_no_result(running: Fleet) -> None:
    ada = running.start_worker("ada", "--model", "none", "--slots", "4")
    async with AsyncClient(running.address) as client:
        await attached(client, 1)
        # Stopped, so that it certainly holds its stars when it is killed.
        ada.signal(signal.SIGSTOP)
        submitted = await client.submit(Request("plan", ONE_STAR))
        await watch_until(client, submitted.constellation, AttemptLeased)
        ada.kill()
        running.start_worker("bob", "--model", "none", "--slots", "4")
        records = await watch(client, submitted.constellation)
    check_whole(records, 2)
    lost = [record for record in records if isinstance(record, AttemptEnded)]
    assert [record.outcome for record in lost] == [AttemptOutcome.LOST]
    workers = {record.worker for record in records if isinstance(record, AttemptLeased)}
    assert workers == {"ada", "bob"}


async def test_a_worker_cut_off_for_longer_than_its_lease_changes_nothing_when_it_is_back(running: Fleet) -> None:
    ada = running.start_worker("ada", "--model", "none", "--slots", "4")
    async with AsyncClient(running.address) as client:
        await attached(client, 1)
        ada.signal(signal.SIGSTOP)
        submitted = await client.submit(Request("plan", ONE_STAR))
        await watch_until(client, submitted.constellation, AttemptLeased)
        running.start_worker("bob", "--model", "none", "--slots", "4")
        records = await watch(client, submitted.constellation)
        check_whole(records, 2)
        before = await client.get(submitted.constellation)
        ada.signal(signal.SIGCONT)
        await attached(client, 2)
        again = await client.submit(Request("plan", chain(20)))
        check_whole(await watch(client, again.constellation), 21)
        assert (await client.get(submitted.constellation)).constellation == before.constellation
        assert all(not worker.slots_held for worker in await client.workers())


@pytest.mark.parametrize("killed_after", [1, 40, 200])
async def test_an_orchestrator_killed_in_mid_run_goes_on_where_it_was(running: Fleet, killed_after: int) -> None:
    stars = 120
    for name in ("ada", "bob"):
        running.start_worker(name, "--model", "none", "--slots", "4")
    orchestrator = running.children[0]
    async with AsyncClient(running.address) as client:
        await attached(client, 2)
        submitted = await client.submit(Request("plan", chain(stars)), request_id="the-one")
        seen: list[Record] = []
        async for record in client.watch(submitted.constellation, with_text=False):
            if isinstance(record, StreamedText):
                continue
            seen.append(record)
            if len(seen) == killed_after:
                orchestrator.kill()
                orchestrator = running.start_orchestrator("serve-again")
        # The one watch, through the kill, saw what another sees that begins anew.
        assert seen == await watch(client, submitted.constellation)
        check_whole(seen, stars + 1)
        repeated = await client.submit(Request("plan", chain(stars)), request_id="the-one")
        assert repeated.constellation == submitted.constellation
        assert not repeated.is_new


async def test_sigterm_drains_a_worker_and_an_orchestrator(running: Fleet) -> None:
    ada = running.start_worker("ada", "--model", "none")
    async with AsyncClient(running.address) as client:
        await attached(client, 1)
        submitted = await client.submit(Request("plan", ONE_STAR))
        check_whole(await watch(client, submitted.constellation), 2)
        ada.signal(signal.SIGTERM)
        assert ada.wait(30) == 0
        assert await client.workers() == ()
        waiting = await client.submit(Request("plan", ONE_STAR))
        picture = await client.get(waiting.constellation)
        assert picture.constellation.stars[StarId("plan")].state is StarState.READY
        assert "none is attached" in picture.waiting_for[StarId("plan")]
    running.children[0].signal(signal.SIGTERM)
    assert running.children[0].wait(30) == 0
