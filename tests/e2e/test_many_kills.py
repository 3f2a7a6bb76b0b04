"""SIGKILLs at random moments of a graph of 200 stars: of the orchestrator, of a worker, of both at once.

`ASTERISM_KILLS` says how many (10; `make soak` asks for 100), `ASTERISM_SEED` from which seed.
"""

import asyncio
import json
import os
import random
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from asterism.orchestrator.core.records import AttemptLeased, Record, StarFinished
from asterism.orchestrator.core.request import Request
from asterism.orchestrator.core.star import AttemptOutcome
from asterism.protocol.answers import StreamedText
from asterism.protocol.client import AsyncClient
from tests.e2e.test_kill import check_whole
from tests.processes import Fleet, Process, attached

KILLS = int(os.environ.get("ASTERISM_KILLS", "10"))
SEED = int(os.environ.get("ASTERISM_SEED", "20264"))
STARS = 200
LAYERS = 20
NONE = ("--model", "none", "--slots", "4")
WORKERS = ("ada", "bob")
ACCEPTED = """
    SELECT count(*), count(DISTINCT constellation || ' ' || (value ->> 'star'))
    FROM journal, json_each(body, '$.records')
    WHERE value ->> 'type' = 'StarFinished' AND value ->> 'state' = 'SUCCEEDED' AND value ->> 'outcome' = 'SUCCEEDED'
"""
"""How many results were accepted, and of how many stars."""

pytestmark = pytest.mark.timeout(60 + 15 * KILLS)


def layered(rng: random.Random) -> str:
    """Layers of ten stars, each star behind three of the layer before."""
    width = STARS // LAYERS
    stars = []
    for number in range(STARS):
        layer = number // width
        above = range((layer - 1) * width, layer * width) if layer else ()
        after = [f"s{parent}" for parent in sorted(rng.sample(above, 3))] if layer else []
        stars.append({"id": f"s{number}", "kind": "tool", "program": "noop", "after": after})
    return json.dumps({"stars": stars})


class Killer:
    """Kills what a seed says when it says so, and starts it again."""

    def __init__(self, running: Fleet, rng: random.Random) -> None:
        self._running = running
        self._rng = rng
        self._orchestrator = running.children[0]
        self._workers: dict[str, Process] = {}
        self.kills = 0
        for name in WORKERS:
            self._start_worker(name)

    def _start_worker(self, name: str) -> None:
        self._workers[name] = self._running.start_worker(name, *NONE)

    def kill(self) -> None:
        victims = self._rng.choice(("orchestrator", "worker", "both"))
        name = self._rng.choice(WORKERS)
        if victims != "worker":
            self._orchestrator.kill()
        if victims != "orchestrator":
            self._workers[name].kill()
            self._start_worker(name)
        if victims != "worker":
            self._orchestrator = self._running.start_orchestrator(f"serve-{self.kills}")
        self.kills += 1

    def end(self) -> None:
        """Let the orchestrator leave in order."""
        self._orchestrator.signal(signal.SIGTERM)
        assert self._orchestrator.wait(30) == 0


def check_results(records: list[Record]) -> None:
    """Each result is of the attempt that was leased last, under a token that no other attempt has."""
    leases = [record for record in records if isinstance(record, AttemptLeased)]
    tokens = [lease.fencing_token for lease in leases]
    assert tokens == sorted(set(tokens))
    latest = {(lease.star, lease.attempt) for lease in {lease.star: lease for lease in leases}.values()}
    finished = [record for record in records if isinstance(record, StarFinished)]
    assert all(record.outcome is AttemptOutcome.SUCCEEDED for record in finished)
    assert {(record.star, record.attempt) for record in finished} == latest


async def test_kills_at_random_moments_lose_nothing_and_repeat_nothing(running: Fleet, tmp_path: Path) -> None:
    print(f"seed {SEED}, {KILLS} kills")
    rng = random.Random(SEED)
    killer = Killer(running, rng)
    graphs = 0
    async with AsyncClient(running.address) as client:
        await attached(client, len(WORKERS))
        while killer.kills < KILLS:
            plan = layered(rng)
            submitted = await client.submit(Request("plan", plan), request_id=f"graph-{graphs}")
            graphs += 1
            seen: list[Record] = []
            # About 400 records are to come, and each kill adds some.
            moments = sorted(rng.randrange(400) for _ in range(3))
            async for record in client.watch(submitted.constellation, with_text=False):
                if isinstance(record, StreamedText):
                    continue
                seen.append(record)
                if moments and len(seen) > moments[0] and killer.kills < KILLS:
                    moments.pop(0)
                    await asyncio.to_thread(killer.kill)
            check_whole(seen, STARS + 1)
            check_results(seen)
            repeated = await client.submit(Request("plan", plan), request_id=f"graph-{graphs - 1}")
            assert repeated.constellation == submitted.constellation
    killer.end()
    database = next((tmp_path / "data").glob("*.db"))
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        counted = "SELECT sum(stars_terminal), sum(stars), sum(stopping), count(ended_at) FROM constellations"
        stars = graphs * (STARS + 1)
        assert connection.execute(counted).fetchone() == (stars, stars, 0, graphs)
        assert connection.execute(ACCEPTED).fetchone() == (stars, stars)
