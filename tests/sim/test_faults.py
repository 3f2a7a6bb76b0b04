"""Seeded faults against the real parts: cut streams, killed workers, a killed orchestrator, edits, cancels, time."""

import asyncio
import os
import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.credential import Role
from asterism.orchestrator.core.errors import AsterismError
from asterism.orchestrator.core.ids import ConstellationId
from asterism.orchestrator.core.records import AttemptEnded, AttemptLeased, Record, StarFinished
from asterism.orchestrator.core.state import State
from asterism.orchestrator.services.auth import CALLER, Identity
from asterism.protocol.v1 import client_pb2, types_pb2
from tests.core.picture import picture, replayed
from tests.sim.world import (
    LEASE_S,
    REQUEST,
    CuttingMemoryStore,
    CuttingSqlStore,
    CuttingStore,
    Incarnation,
    SimClock,
    SimWorker,
    Watcher,
)

SEEDS = int(os.environ.get("ASTERISM_SIM_SEEDS", "12"))
"""`make faults` takes hundreds."""
TURNS = 120
CALM_TURNS = 500


class World:
    """The orchestrator's lives, three workers, watchers, and the seed that plays fate."""

    def __init__(self, seed: int, store: CuttingStore) -> None:
        self.rng = random.Random(seed)
        self.clock = SimClock(self.rng)
        self.store = store
        self.incarnation = Incarnation(self.store, self.clock)
        self.living: asyncio.Task[None] | None = None
        self.workers = [SimWorker(name, self.rng) for name in ("ada", "bob", "cyd")]
        self.watchers: list[Watcher] = []
        self.accepted: dict[str, ConstellationId] = {}

    async def live(self) -> None:
        """A time of misfortune, then calm until every request has ended."""
        async with asyncio.TaskGroup() as group:
            await self.start(group)
            await self.submit()
            for _ in range(TURNS):
                await self.turn(group, is_kind=False)
            await self.bury_one(group)
            for _ in range(CALM_TURNS):
                await self.turn(group, is_kind=True)
                if self.is_over():
                    break
            await self.check_everything()
            assert self.living is not None
            self.living.cancel()

    async def bury_one(self, group: asyncio.TaskGroup) -> None:
        """One worker dies for good, while it holds a star if any comes: only the end of its lease frees that."""
        await self.crash(group)
        for _ in range(20):
            await self.submit()
            for worker in self.workers:
                if worker.stream is None:
                    worker.dial(self.incarnation)
            await self.settle()
            if any(worker.running for worker in self.workers):
                break
            self.clock.advance(1.0)
        buried = max(self.workers, key=lambda worker: len(worker.running))
        buried.die(self.clock.at)
        self.workers.remove(buried)

    async def start(self, group: asyncio.TaskGroup) -> None:
        self.incarnation = Incarnation(self.store, self.clock)
        self.clock.idle.clear()
        self.living = group.create_task(self.incarnation.live())
        await self.incarnation.ready.wait()

    async def settle(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(4):
            for _ in range(12):
                await asyncio.sleep(0)
            await self.clock.idle.wait()
            await self.store.settle()
            for worker in self.workers:
                worker.read(self.clock.at)
            for watcher in self.watchers:
                watcher.read()

    async def crash(self, group: asyncio.TaskGroup) -> None:
        """SIGKILL of the orchestrator, and its next start."""
        assert self.living is not None
        self.store.cut = None
        self.living.cancel()
        await asyncio.wait([self.living])
        for worker in self.workers:
            worker.hang_up(self.clock.at, loses=True)
        for watcher in self.watchers:
            watcher.stream = None
        await self.start(group)

    async def ask(self, call: Coroutine[Any, Any, Any]) -> Any:
        """What the orchestrator answers, or None when it refuses or dies over it."""
        CALLER.set(Identity("local", Role.ADMIN, None))
        assert self.living is not None
        asking = asyncio.ensure_future(call)
        await asyncio.wait([asking, self.living], return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            asking.cancel()
            return None
        try:
            return asking.result()
        except AsterismError:
            return None

    async def submit(self) -> None:
        """A client that repeats its submit until it is answered: the id makes that harmless."""
        assert self.incarnation.clients is not None
        request_id = f"r{self.rng.randrange(8)}"
        request = client_pb2.SubmitRequest(request_id=request_id, request=REQUEST)
        response = await self.ask(self.incarnation.clients.Submit(request, None))
        if response is not None:
            known = self.accepted.setdefault(request_id, ConstellationId(response.constellation))
            assert known == response.constellation
            if all(watcher.constellation != known for watcher in self.watchers):
                self.watchers.append(Watcher(known))

    async def turn(self, group: asyncio.TaskGroup, *, is_kind: bool) -> None:
        """Everybody does a little, then fate strikes, then time passes."""
        rng, at = self.rng, self.clock.at
        assert self.living is not None
        if self.living.done():
            await self.crash(group)
        for worker in self.workers:
            if worker.stream is None and (is_kind or rng.random() < 0.4):
                worker.dial(self.incarnation)
            if worker.detached_at is not None and at - worker.detached_at > LEASE_S:
                worker.lose_leases()
        for watcher in self.watchers:
            if watcher.stream is None and (is_kind or rng.random() < 0.5):
                watcher.dial(self.incarnation)
        await self.settle()
        for worker in self.workers:
            if is_kind or rng.random() < 0.8:
                worker.work(is_kind=is_kind)
            worker.send()
        if not is_kind:
            await self.misfortune(group)
        self.clock.advance(rng.choice([0.0, 0.05, 0.5, 2.0]))
        await self.settle()
        await self.check_durable_before_visible()

    async def misfortune(self, group: asyncio.TaskGroup) -> None:
        rng, worker = self.rng, self.rng.choice(self.workers)
        clients = self.incarnation.clients
        assert clients is not None
        some = rng.choice(list(self.accepted.values())) if self.accepted else "none"
        match rng.randrange(16):
            case 0 | 1 | 2:
                await self.submit()
            case 3 | 4:
                worker.hang_up(self.clock.at, loses=rng.random() < 0.5)
            case 5:
                worker.die(self.clock.at)
            case 6:
                self.clock.advance(rng.choice([3.0, 11.0]))
            case 7:
                await self.crash(group)
            case 8:
                self.store.cut = rng.choice(["before", "after"])
            case 9 if self.watchers:
                watcher = rng.choice(self.watchers)
                if watcher.stream is not None:
                    watcher.stream.cut(loses=True)
                    watcher.stream = None
            case 10 if rng.random() < 0.3:
                await self.ask(clients.Cancel(client_pb2.CancelRequest(constellation=some), None))
            case 11:
                await self.ask(clients.Retry(client_pb2.RetryRequest(constellation=some), None))
            case 12:
                spec = types_pb2.StarSpec(id=f"u{rng.randrange(30)}", kind=types_pb2.STAR_KIND_TOOL, program="t")
                spec.retry.max_attempts = 2
                batch = types_pb2.EditBatch(edits=[types_pb2.Edit(add_star=types_pb2.Edit.AddStar(spec=spec))])
                await self.ask(clients.Edit(client_pb2.EditRequest(constellation=some, batch=batch), None))
            case _:
                pass

    def is_over(self) -> bool:
        """Every request has ended, every slot is free, every watcher knows."""
        loop = self.incarnation.loop
        assert loop is not None
        return (
            all(constellation.state.is_terminal for constellation in loop.machine.constellations.values())
            and not any(worker.running for worker in loop.machine.workers.values())
            and all(worker.session.is_idle and worker.is_welcome for worker in self.workers)
            and all(watcher.stream is None for watcher in self.watchers)
        )

    async def journal(self) -> list[Record]:
        records: list[Record] = []
        while page := await self.store.read_whole_journal(after_seq=len(records), limit=1000):
            records.extend(page)
        return records

    async def check_durable_before_visible(self) -> None:
        """Whatever a worker was told, the journal holds the reason."""
        records = await self.journal()
        leased = {record.fencing_token: record for record in records if isinstance(record, AttemptLeased)}
        ended = {
            (record.constellation, record.star, record.attempt)
            for record in records
            if isinstance(record, AttemptEnded | StarFinished)
        }
        for worker in self.workers:
            assert all(leased[token].worker == worker.id for token in worker.assigned)
            for token in worker.acknowledged:
                lease = leased[token]
                assert (lease.constellation, lease.star, lease.attempt) in ended

    async def check_everything(self) -> None:
        loop = self.incarnation.loop
        assert loop is not None
        assert self.is_over(), {
            constellation.id: dict(loop.machine.waiting_for(constellation.id))
            for constellation in loop.machine.constellations.values()
        }
        records = await self.journal()
        assert [record.seq for record in records] == list(range(1, len(records) + 1))
        finished = [(r.constellation, r.star) for r in records if isinstance(r, StarFinished)]
        assert len(finished) == len(set(finished)), "a finished star ran again"
        for watcher in self.watchers:
            expected = await self.store.read_journal(watcher.constellation, after_seq=0, limit=100_000)
            assert watcher.seen == expected, "a watcher saw a gap or a repeat"
        from_journal = picture(replayed(records))
        for request_id, constellation in self.accepted.items():
            stored = await self.store.find_constellation(constellation)
            assert stored is not None, "an accepted request was lost"
            assert stored.request_id == request_id
            assert _without_waits(stored) == _without_waits(from_journal["constellations"][constellation])
        live = picture(State.from_snapshot(await self.store.load(), at=self.clock.at, lease_s=LEASE_S))
        assert live["workers"] == from_journal["workers"]
        assert live["held"] == from_journal["held"]
        assert live["last_seq"] == from_journal["last_seq"]


def _without_waits(constellation: TaskConstellation) -> TaskConstellation:
    """Since when a star has been ready is not stored: a restart may count it from later."""
    for star in constellation.stars.values():
        star.ready_at = None
    return constellation


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_every_request_ends_and_nothing_is_lost_in_memory(seed: int) -> None:
    await World(seed, CuttingMemoryStore()).live()


@pytest.mark.parametrize("seed", range(100, 103))
async def test_every_request_ends_and_nothing_is_lost_on_disk(seed: int, tmp_path: Path) -> None:
    store = CuttingSqlStore(tmp_path / "sim.db", synchronous="NORMAL")
    await store.open()
    try:
        await World(seed, store).live()
    finally:
        await store.close()
