"""How many appends a second the store takes: a finish and a lease each, in batches, durable in each way.

Run it with `python -m tests.bench.store_append [FOLDER]`; FOLDER (a temporary one without it) chooses SQLite's disk.
PostgreSQL is the server of `tests/postgres.py`, with fsync, or is left out where there is none.
"""

import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from asterism.orchestrator.core.edits import AddStar
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.records import (
    AttemptLeased,
    EditsApplied,
    Record,
    RequestAccepted,
    StarFinished,
    WorkerJoined,
)
from asterism.orchestrator.core.request import Budget, Request
from asterism.orchestrator.core.star import AttemptOutcome, StarKind, StarSpec, StarState
from asterism.store.database import Synchronous
from asterism.store.sql import SqlStore
from tests.postgres import NoPostgres, server

CONSTELLATION = ConstellationId("c1")
WORKER = WorkerId("w1")
BATCHES = (1, 16, 128)
SECONDS = 2.0
MAX_STARS = 60_000


def beginning(stars: int = MAX_STARS) -> list[Record]:
    """One request with more stars than the measurement ends, of which the first runs."""
    added = tuple(AddStar(StarSpec(StarId(f"s{index}"), StarKind.TOOL, "noop")) for index in range(stars))
    return [
        WorkerJoined(1, 1.0, WORKER, "i1", WorkerProfile(64)),
        RequestAccepted(2, 1.0, CONSTELLATION, "r1", "ann", Request("plan", ""), Budget()),
        EditsApplied(3, 1.0, CONSTELLATION, 1, "client:ann", added),
        leased(0, 4),
    ]


def pairs() -> Iterator[list[Record]]:
    """The finish of one star and the lease of the next, as in a chain."""
    for index in range(MAX_STARS - 1):
        seq, outcome = 5 + 2 * index, AttemptOutcome.SUCCEEDED
        star = StarId(f"s{index}")
        yield [
            StarFinished(seq, 3.0, CONSTELLATION, star, StarState.SUCCEEDED, {"ok": True}, None, 1, outcome, True),
            leased(index + 1, seq + 1),
        ]


def leased(index: int, seq: int) -> AttemptLeased:
    """The lease of a star."""
    return AttemptLeased(seq, 2.0, CONSTELLATION, StarId(f"s{index}"), 1, WORKER, FencingToken(index + 1))


async def measure(name: str, store: SqlStore, batch: int) -> None:
    """Print one line."""
    await store.open()
    epoch = await store.acquire_epoch()
    await store.append(beginning(), epoch)
    source, appends, spent = pairs(), 0, 0.0
    while spent < SECONDS:
        records = [record for pair in itertools.islice(source, batch) for record in pair]
        if len(records) < 2 * batch:
            break
        began = time.perf_counter()
        await store.append(records, epoch)
        spent += time.perf_counter() - began
        appends += 1
    await store.close()
    pair_us = spent / (appends * batch) * 1e6
    print(
        f"{name:10} batch {batch:3}: {appends / spent:8.0f} appends/s {appends * batch / spent:8.0f} pairs/s",
        end="",
    )
    print(f" {spent / appends * 1e3:7.2f} ms/append {pair_us:7.1f} us/pair")


async def measure_sqlite(folder: Path) -> None:
    """Each size of batch, each way."""
    modes: tuple[Synchronous, ...] = ("FULL", "NORMAL")
    for synchronous in modes:
        for batch in BATCHES:
            await measure(synchronous, SqlStore(folder / f"{batch}-{synchronous}.db", synchronous=synchronous), batch)


def measure_postgres() -> None:
    """Each size of batch, in a database of its own."""
    try:
        with server("fsync=on") as running:
            for batch in BATCHES:
                with running.database() as url:
                    asyncio.run(measure("PostgreSQL", SqlStore(url), batch))
    except NoPostgres as error:
        print(error)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as made:
        asyncio.run(measure_sqlite(Path(made)))
    measure_postgres()
