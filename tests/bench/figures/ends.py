"""Figures of beginnings and ends: memory, a restart with much that is live, a worker that falls silent."""

import gc
import json
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import psutil

from asterism.orchestrator.app import running
from asterism.orchestrator.clock import SystemClock
from asterism.orchestrator.config import Settings
from asterism.orchestrator.core.edits import AddStar, EditBatch
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.request import Request
from asterism.orchestrator.core.star import StarKind, StarSpec
from asterism.protocol.client import AsyncClient
from asterism.store.sql import SqlStore
from tests.bench.figures.live import NO_LIMITS, RUNNING, held, live
from tests.bench.figures.peers import HOLD, holding
from tests.bench.graphs.product import BUDGET, begun, serving
from tests.processes import attached

LIVE: Final = 100_000
PART: Final = 8_000
LEASE_S: Final = 2.0
HELD: Final = json.dumps({"stars": [{"id": "first", "kind": "tool", "program": HOLD}]})


async def memory(database: str, url: str | None) -> dict[str, Any]:
    """Of the orchestrator at rest, and a star more that waits behind another: each has one line."""
    async with serving(database, url, *NO_LIMITS) as (fleet, client), holding(fleet.address, ["holder"], 64):
        process = psutil.Process(fleet.children[0].pid)
        constellation = await live(client)
        at_rest = process.memory_info().rss
        for first in range(0, LIVE, PART):
            edits = tuple(
                AddStar(StarSpec(StarId(f"s{number}"), StarKind.TOOL, "noop"), (RUNNING,))
                for number in range(first, min(first + PART, LIVE))
            )
            await client.edit(constellation, EditBatch(edits))
        with_all = process.memory_info().rss
    return {
        "at_rest_mb": round(at_rest / 2**20, 1),
        "live_stars": LIVE,
        "kb_per_star": round((with_all - at_rest) / LIVE / 1024, 2),
    }


async def restart(database: str, url: str | None) -> dict[str, Any]:
    """10,000 live stars, 1,000 of them leased to a worker that does not come back: from a new start in this process,
    its modules loaded, to the first assignment of another worker that attaches at once."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            listen="127.0.0.1:0",
            data_dir=Path(folder),
            drain_s=1.0,
            synchronous="NORMAL" if database == "sqlite-normal" else "FULL",
            changes_per_s=1e6,
            change_burst=1_000_000,
        )
        location = url or Path(folder) / "asterism.db"
        store = SqlStore(location, synchronous=settings.synchronous)
        await store.open()
        async with (
            running(settings, store, SystemClock()) as first,
            AsyncClient(first.address, deadline_s=60.0) as client,
            holding(first.address, ["gone"], 1000, plans=True) as gone,
        ):
            submitted = await client.submit(Request("plan", HELD), budget=BUDGET)
            stars = [held(StarId(f"s{number}")) for number in range(9_999)]
            await client.edit(submitted.constellation, EditBatch(tuple(stars)))
            while len(gone[0].held) < 1000:
                gone[0].has_assignment.clear()
                await gone[0].has_assignment.wait()
        await store.close()
        gc.collect()
        began = time.perf_counter()
        store = SqlStore(location, synchronous=settings.synchronous)
        await store.open()
        async with running(settings, store, SystemClock()) as second:
            serves = time.perf_counter()
            machine = second.loop.machine
            leased = sum(len(worker.running) for worker in machine.workers.values())
            async with holding(second.address, ["new"], 100) as workers:
                await workers[0].has_assignment.wait()
                dispatched = time.perf_counter()
        await store.close()
    return {
        "leased": leased,
        "serves_s": round(serves - began, 3),
        "first_dispatch_s": round(dispatched - began, 3),
    }


async def lease(database: str, url: str | None) -> dict[str, Any]:
    """From the last that a worker was heard of to the assignment of its star to another one."""
    async with serving(database, url, "--lease-s", str(LEASE_S), workers=("ada",)) as (fleet, client):
        constellation = await begun(client)
        async with holding(fleet.address, ["silent"], 1, renews=False) as silent:
            heard = time.perf_counter()
            await client.edit(constellation, EditBatch((held(),)))
            await silent[0].has_assignment.wait()
            async with holding(fleet.address, ["other"], 1) as other:
                await attached(client, 3)
                await other[0].has_assignment.wait()
                again = time.perf_counter()
    return {"lease_s": LEASE_S, "beyond_the_lease_s": round(again - heard - LEASE_S, 3), "tool": HOLD}
