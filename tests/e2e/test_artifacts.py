"""Results too large for the graph, between real processes, and an orchestrator that dies between put and report."""

import asyncio
import json
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.records import AttemptLeased
from asterism.orchestrator.core.request import ConstellationState, Request
from asterism.orchestrator.core.star import StarState
from asterism.orchestrator.core.values import Artifact, Json
from asterism.protocol.answers import StreamedText
from asterism.protocol.client import AsyncClient
from tests.processes import Fleet, attached, fleet

pytestmark = pytest.mark.timeout(180)

TEXT = "é" * 50_000
COPIES = 53
SEED: Json = {"text": TEXT, "n": 7}
BIG, LEFT, RIGHT = StarId("big"), StarId("left"), StarId("right")
ENDS_OF_BIG = """
    SELECT count(*) FROM journal, json_each(body, '$.records')
    WHERE value ->> 'type' = 'StarFinished' AND value ->> 'star' = 'big'
"""
FORGED: Json = {"artifact": "sha256:" + "0" * 64, "bytes": 5, "sha256": "0" * 64, "size": 5}


def plan(*, on: str) -> str:
    """A star gives 5 MiB on a worker of that zone, and two others are given parts of it."""
    noop = {"kind": "tool", "program": "noop"}
    return json.dumps(
        {
            "stars": {
                "seed": {**noop, "inputs": {"text": TEXT, "n": 7}, "requires": ["label:zone=a"]},
                "big": {
                    **noop,
                    "inputs": {f"p{n}": {"$from": "seed"} for n in range(COPIES)},
                    "requires": [f"label:zone={on}"],
                },
                "left": {**noop, "inputs": {"x": {"$from": "big", "$path": ["p3", "n"]}, "y": FORGED}},
                "right": {**noop, "inputs": {"x": {"$from": "big", "$path": [f"p{COPIES - 1}", "text"]}}},
            }
        },
        ensure_ascii=False,
    )


def artifact_files(running: Fleet) -> list[Path]:
    return [path for path in (running.folder / "data" / "artifacts" / "sha256").rglob("*") if path.is_file()]


async def big_file(running: Fleet) -> Path:
    """The artifact of 5 MiB, once it is there."""
    while True:
        for path in artifact_files(running):
            if path.stat().st_size > 5 * 1024 * 1024:
                return path
        await asyncio.sleep(0.01)


async def leased(client: AsyncClient, constellation: ConstellationId, star: StarId) -> None:
    """Return once the star has been given to a worker."""
    async for record in client.watch(constellation, with_text=False):
        if isinstance(record, AttemptLeased) and record.star == star:
            return


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Fleet]:
    """Leases that outlast a stop of some seconds."""
    with fleet(tmp_path, serve=["--lease-s", "20"]) as made:
        yield made


async def test_orchestrator_killed_between_put_and_report_loses_nothing_and_keeps_it_once(running: Fleet) -> None:
    # What may run on both goes to her, who has more room.
    running.start_worker("ada", "--model", "none", "--slots", "4", "--label", "zone=a")
    bob = running.start_worker("bob", "--model", "none", "--slots", "1", "--label", "zone=b")
    async with AsyncClient(running.address) as client:
        await attached(client, 2)
        bob.signal(signal.SIGSTOP)
        submitted = await client.submit(Request("plan", plan(on="b")))
        await leased(client, submitted.constellation, BIG)
        # From here on nothing can be appended, so that the result is put and cannot be taken.
        with closing(sqlite3.connect(running.folder / "data" / "asterism.db", isolation_level=None)) as held:
            held.execute("BEGIN IMMEDIATE")
            bob.signal(signal.SIGCONT)
            file = await big_file(running)
            running.children[0].kill()
            held.execute("ROLLBACK")
            (results,) = held.execute("SELECT count(*) FROM artifacts WHERE star = 'big'").fetchone()
            (ends,) = held.execute(ENDS_OF_BIG).fetchone()
        assert (results, ends) == (0, 0)
        running.start_orchestrator("serve-again")
        seen = [record async for record in client.watch(submitted.constellation, with_text=False)]
        assert not isinstance(seen[-1], StreamedText)
        of = (await client.get(submitted.constellation)).constellation
        assert of.state is ConstellationState.SUCCEEDED, of.reason
        big = of.stars[BIG]
        assert big.state is StarState.SUCCEEDED
        assert len(big.attempts) == 1, big.attempts
        assert big.result == Artifact(file.name, file.stat().st_size)
        assert of.stars[LEFT].result == {"x": 7, "y": FORGED}
        assert await client.artifact_value(of.id, RIGHT) == {"x": TEXT}
        assert await client.artifact_value(of.id, BIG) == {f"p{n}": SEED for n in range(COPIES)}
    sizes = sorted(path.stat().st_size for path in artifact_files(running))
    assert len(sizes) == 3  # seed, big, right
    assert [size for size in sizes if size > 1024 * 1024] == [file.stat().st_size]


async def test_commands_name_a_large_result_save_it_and_print_one_that_can_be_read(running: Fleet) -> None:
    running.start_worker("ada", "--model", "none", "--slots", "2", "--label", "zone=a")
    async with AsyncClient(running.address) as client:
        await attached(client, 1)
        (running.folder / "plan.json").write_text(plan(on="a"))
        run = running.start("run", ["run", "plan.json", "--quiet", "--address", running.address])
        assert await asyncio.to_thread(run.wait) == 0
        assert TEXT in run.read()
        (summary,) = [row async for row in client.list()]
        big = (await client.get(summary.id)).constellation.stars[BIG].result
    assert isinstance(big, Artifact)
    get = running.start("get", ["get", "--output", "json", "--address", running.address])
    assert await asyncio.to_thread(get.wait) == 0
    results = {star["id"]: star["result"] for star in json.loads(get.read())["stars"]}
    assert results["big"] == {"artifact": f"sha256:{big.sha256}", "bytes": big.size}
    text = running.start("get-text", ["get", "--address", running.address])
    assert await asyncio.to_thread(text.wait) == 0
    assert "`asterism fetch right ID --to FILE` saves them" in text.read()
    fetch = running.start("fetch", ["fetch", "big", summary.id, "--to", "big.json", "--address", running.address])
    assert await asyncio.to_thread(fetch.wait) == 0, fetch.read()
    saved = running.folder / "big.json"
    assert saved.stat().st_size == big.size
    assert json.loads(saved.read_text()) == {f"p{n}": SEED for n in range(COPIES)}
    # A damaged one is an error, and leaves what was there before.
    file = await big_file(running)
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    saved.write_text("before")
    again = running.start("fetch-again", ["fetch", "big", "--to", "big.json", "--address", running.address])
    assert await asyncio.to_thread(again.wait) == 1
    assert "damaged" in again.read()
    assert saved.read_text() == "before"
    assert list(running.folder.glob(".big.json*")) == []
