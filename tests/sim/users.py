"""Those who use the orchestrator: they submit, edit, cancel and watch with the real client, and never give up."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeVar, cast

import grpc.aio

from asterism.orchestrator.core.errors import AsterismError, NotFound, NotLeading, Overloaded, Unreachable
from asterism.orchestrator.core.ids import ConstellationId, WorkerId
from asterism.orchestrator.core.records import ConstellationEnded, Record
from asterism.orchestrator.core.request import Budget, Request
from asterism.protocol.answers import StreamedText
from asterism.protocol.client import AsyncClient
from tests.sim.auditor import Asked, Auditor
from tests.sim.invariants import Invariant
from tests.sim.network import Channel, Network
from tests.sim.plans import draw_edits
from tests.sim.processes import Process

T = TypeVar("T")
REQUEST: Final = '{"stars": [{"id": "a", "kind": "tool", "program": "quick"}]}'
REWRITTEN: Final = REQUEST[:-1] + ', "replan": {"model": "m", "program": "plan"}}'
"""What fails of it may be saved by edits, which are as random as any."""
"""What the door checks; the programs of the simulation plan as they please."""
PATIENCE_S: Final = 1e6


class SimClient(AsyncClient):
    """The real client on the network in memory."""

    def __init__(self, network: Network, addresses: str) -> None:
        super().__init__(addresses, deadline_s=6.0, patience_s=PATIENCE_S)
        self._network = network
        self._process = Process("user")

    async def _channel(self, address: str) -> grpc.aio.Channel:
        return cast(grpc.aio.Channel, Channel(self._network, self._process, address))


class Users:
    """Everybody at once."""

    def __init__(self, network: Network, addresses: str, auditor: Auditor) -> None:
        self.client = SimClient(network, addresses)
        self.submitted: dict[str, ConstellationId] = {}
        self.drained: set[str] = set()
        self._auditor = auditor
        self._group: asyncio.TaskGroup | None = None

    def work_in(self, group: asyncio.TaskGroup) -> None:
        """Whose tasks their doings are to be."""
        self._group = group

    async def submit(self, rng: random.Random, marker: str) -> None:
        """A request, submitted until it is answered, and once more."""
        request = Request("plan", rng.choice([REQUEST, REWRITTEN]), marker)
        budget = Budget(stars=60, attempts=rng.choice([400, 400, 6]), seconds=rng.choice([None, None, 25.0]))
        answer = await self._insist(lambda: self.client.submit(request, marker, budget))
        if answer is None:
            self._auditor.fail(Invariant.KEPT, f"{marker} was refused")
            return
        self.submitted[marker] = answer.constellation
        assert self._group is not None
        self._group.create_task(self._watch(answer.constellation))
        await asyncio.sleep(rng.uniform(0.0, 5.0))
        again = await self._insist(lambda: self.client.submit(request, marker, budget))
        if answer.constellation in self._auditor.ledger.forgotten:
            return  # then its name is free again
        if again is None or again.constellation != answer.constellation or again.is_new:
            self._auditor.fail(Invariant.KEPT, f"{marker} was accepted as {answer}, and then answered by {again}")

    async def edit(self, rng: random.Random, marker: str) -> None:
        """A storm of edits, each based on what somebody may have seen, repeated until it is answered."""
        for number in range(rng.randint(1, 4)):
            constellation = self._some(rng)
            if constellation is None:
                return
            await self._edit_once(rng, constellation, f"{marker}.{number}")
            await asyncio.sleep(rng.choice([0.0, 0.2]))

    async def _edit_once(self, rng: random.Random, constellation: ConstellationId, marker: str) -> None:
        graph = self._auditor.ledger.graphs[constellation]
        base = rng.choice([None, graph.revision, max(0, graph.revision - rng.randint(1, 4))])
        batch = replace(draw_edits(rng, marker=marker), base_revision=base)
        asked = self._auditor.asked[marker] = Asked(batch)
        tries = 0

        async def ask() -> int:
            nonlocal tries
            tries += 1
            return await self.client.edit(constellation, batch)

        revision = await self._insist(ask, of=constellation)
        if revision is None and tries == 1 and asked.applied:
            self._auditor.fail(Invariant.STALE, f"an edit was refused and applied: {batch}")
        if revision is not None:
            stored = graph.edits.get(revision)
            if stored is None or stored.edits != batch.edits:
                self._auditor.fail(Invariant.KEPT, f"an edit was answered with {revision}, which is {stored}")

    async def cancel(self, rng: random.Random, marker: str) -> None:
        """A request comes to an end."""
        constellation = self._some(rng)
        if constellation is None:
            return
        answer = await self._insist(lambda: _done(self.client.cancel(constellation, marker)), of=constellation)
        journal = self._auditor.ledger.graphs[constellation].journal
        if answer and not any(isinstance(record, ConstellationEnded) for record in journal):
            self._auditor.fail(Invariant.DURABLE, f"{constellation} is said to be cancelled and is not")

    async def replan(self, rng: random.Random, marker: str) -> None:
        """Somebody wants a rewrite, for no good reason."""
        constellation = self._some(rng)
        if constellation is not None:
            await self._insist(lambda: self.client.replan(constellation, marker), of=constellation)

    async def retry(self, rng: random.Random, marker: str) -> None:
        """What failed runs again."""
        constellation = self._some(rng)
        if constellation is not None:
            await self._insist(lambda: self.client.retry(constellation), of=constellation)

    async def drain(self, rng: random.Random, worker: str) -> None:
        """An operator takes a worker out, and later in again."""
        await self._insist(lambda: _done(self.client.drain(WorkerId(worker))), may_miss=True)
        self.drained.add(worker)
        await asyncio.sleep(rng.uniform(0.5, 4.0))
        await self._insist(lambda: _done(self.client.drain(WorkerId(worker), is_draining=False)), may_miss=True)

    async def label(self, rng: random.Random, worker: str) -> None:
        """An operator labels a worker."""
        labels = {"zone": rng.choice("abc")}
        await self._insist(lambda: self.client.label(WorkerId(worker), labels), may_miss=True)

    async def look(self, rng: random.Random, marker: str) -> None:
        """What `get` shows is on disk."""
        constellation = self._some(rng)
        if constellation is None:
            return
        picture = await self._insist(lambda: self.client.get(constellation), of=constellation)
        graph = self._auditor.ledger.graphs[constellation]
        for star in () if picture is None else picture.constellation.stars.values():
            end = graph.stars[star.spec.id].end if star.spec.id in graph.stars else None
            if star.state.is_terminal and (end is None or end.state is not star.state):
                self._auditor.fail(Invariant.TERMINAL, f"{star.spec.id} was shown as {star.state}, and is {end}")

    async def _watch(self, constellation: ConstellationId) -> None:
        journal = self._auditor.ledger.graphs[constellation].journal
        seen: list[Record] = []
        try:
            async for item in self.client.watch(constellation):
                if isinstance(item, StreamedText):
                    continue
                if len(seen) >= len(journal) or journal[len(seen)] != item:
                    self._auditor.fail(Invariant.WATCH, f"{item} was seen after {len(seen)} records")
                seen.append(item)
        except NotFound as error:
            if constellation not in self._auditor.ledger.forgotten:
                self._auditor.fail(Invariant.WATCH, f"what was accepted is not known: {error}")

    async def _insist(
        self, ask: Callable[[], Awaitable[T]], *, may_miss: bool = False, of: ConstellationId | None = None
    ) -> T | None:
        """The answer, whatever it takes; None where it is refused, or where what it is of was forgotten."""
        while True:
            try:
                return await ask()
            except (Unreachable, NotLeading, Overloaded):
                await asyncio.sleep(0.5)
            except NotFound as error:
                if not may_miss and of not in self._auditor.ledger.forgotten:
                    self._auditor.fail(Invariant.KEPT, f"what was accepted is not known: {error}")
                return None
            except AsterismError:
                return None

    def _some(self, rng: random.Random) -> ConstellationId | None:
        return rng.choice(list(self.submitted.values())) if self.submitted else None


async def _done(work: Awaitable[None]) -> bool:
    await work
    return True
