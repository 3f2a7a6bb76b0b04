"""What a client may ask: submit, look, change, cancel, retry. It sees its own requests only; an admin sees all."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from asterism.orchestrator.clock import Clock
from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.errors import AlreadyExists, InvalidField, NotFound, Unreachable
from asterism.orchestrator.core.events import (
    CancelRequested,
    Decided,
    EditRequested,
    Event,
    PauseRequested,
    ReplanRequested,
    RequestSubmitted,
    RetryRequested,
)
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.records import ConstellationEnded
from asterism.orchestrator.core.request import Budget, Request
from asterism.orchestrator.core.star import StarInput, StarSpec
from asterism.orchestrator.loop import Loop
from asterism.orchestrator.naming import ConstellationIds
from asterism.orchestrator.outbox import WatcherOutbox
from asterism.orchestrator.services.auth import CALLER, Gate, Identity
from asterism.orchestrator.services.rates import Places, TokenBuckets, Turns
from asterism.orchestrator.services.watch import stream_to
from asterism.orchestrator.store import Store
from asterism.planner.check import check, plan_star
from asterism.planner.rule import default_rule, replan_rule
from asterism.planner.surroundings import Surroundings
from asterism.planner.text_form import TEXT_FORM
from asterism.protocol.answers import Ending
from asterism.protocol.convert import (
    budget_from_proto,
    checks,
    constellation_id,
    constellation_state_from_proto,
    constellation_to_proto,
    edit_batch_from_proto,
    ending_to_proto,
    request_from_proto,
    request_id_from_proto,
    star_id,
    star_inputs_from_proto,
    summary_to_proto,
)
from asterism.protocol.v1 import client_pb2, client_pb2_grpc, types_pb2

DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 500
MAX_RETRIED: Final = 1000
"""Stars that one retry names."""
MAX_REASON_CHARS: Final = 1000
MAX_READING: Final = 16
"""Requests of one identity that are being checked at one time; each takes up to a second."""
GRAPHS_AT_ONCE: Final = 2
"""Whole graphs of one identity that are read from the store at one time: one is read while the other becomes a message.
More would wait for the same reader, in front of those of others: one of 9,900 stars takes it 0.3 s."""
MAX_GRAPHS: Final = 64
"""That are read or wait. They wait, and are not refused, because whoever asks for several, or shares an identity as on
a loopback address without credentials, does no harm and would only ask again."""


class ClientService(client_pb2_grpc.ClientServiceServicer):
    """Translates and checks rights; the machine decides."""

    def __init__(
        self,
        loop: Loop,
        store: Store,
        clock: Clock,
        gate: Gate,
        *,
        changes: TokenBuckets,
        watches: Places,
        retention_s: float | None = None,
    ) -> None:
        self._loop = loop
        self._store = store
        self._clock = clock
        self._gate = gate
        self._ids = ConstellationIds(clock)
        self._changes = changes
        self._watches = watches
        self._retention_s = retention_s
        self._reading = Places("submits", MAX_READING)
        self._graphs = Turns("whole graphs that are being read", GRAPHS_AT_ONCE, MAX_GRAPHS)
        # One at a time: the check is pure Python, so that a second thread would only take turns with it and the loop.
        self._checking = asyncio.Semaphore(1)

    async def Submit(self, request: client_pb2.SubmitRequest, context: Any) -> client_pb2.SubmitResponse:
        """Accept a request that can be planned; a repeat of a known one is answered without a second look."""
        identity = CALLER.get()
        self._changes.take(identity.name)
        request_id = request_id_from_proto(request.request_id)
        asked = request_from_proto(request.request)
        budget = budget_from_proto(request.budget) if request.HasField("budget") else Budget()
        earlier = await self._find_request(identity.name, request_id)
        rule: StarSpec | None = None
        if earlier is None:
            with self._reading.hold(identity.name):
                async with self._checking:
                    offered = self._loop.machine.known_capabilities
                    await asyncio.to_thread(check, asked, known_capabilities=offered or None, budget=budget)
                    rule = await asyncio.to_thread(replan_rule, asked, offered)
            # Again: while it was checked, the same request may have been accepted, have ended and left memory.
            earlier = await self._find_request(identity.name, request_id)
        if earlier is not None:
            if (earlier.request, earlier.budget) != (asked, budget):
                raise AlreadyExists("request_id", request_id, "it named another request")
            return client_pb2.SubmitResponse(constellation=earlier.id, is_new=False)
        star = self._plan_star(asked)
        reply = await self._loop.ask(
            RequestSubmitted(self._clock.now(), self._ids.new(), request_id, identity.name, asked, budget, star, rule)
        )
        assert reply is not None, "a submit is answered with its constellation"
        return client_pb2.SubmitResponse(constellation=reply.constellation, is_new=reply.is_new)

    def _plan_star(self, asked: Request) -> StarSpec:
        """The first star; a model that plans is told what the fleet offers now."""
        if asked.form != TEXT_FORM:
            return plan_star(asked)
        machine = self._loop.machine
        workers = [worker for worker in machine.workers.values() if not worker.has_left]
        told = Surroundings.of_fleet((worker.profile, worker.labels) for worker in workers)
        return plan_star(asked, known_capabilities=machine.known_capabilities, surroundings=told)

    async def GetConstellation(
        self, request: client_pb2.GetConstellationRequest, context: Any
    ) -> types_pb2.Constellation:
        """The whole graph as it is on disk, and what its stars wait for."""
        identity = CALLER.get()
        wanted = constellation_id(request.constellation)
        async with self._graphs.take(identity.name):
            found = self._visible(await self._store.find_constellation(wanted), wanted, identity)
            waiting_for = self._loop.machine.waiting_for(wanted)
            # A copy that nobody else has; a graph of ten thousand stars takes some 200 ms.
            return await asyncio.to_thread(constellation_to_proto, found, waiting_for, found.seq)

    async def ListConstellations(
        self, request: client_pb2.ListConstellationsRequest, context: Any
    ) -> client_pb2.ListConstellationsResponse:
        """One page, newest first; a page token is the id of the last row seen."""
        identity = CALLER.get()
        if request.page_size > MAX_PAGE:
            raise InvalidField("page_size", f"{request.page_size} is outside 1 to {MAX_PAGE}; 0 means {DEFAULT_PAGE}")
        limit = request.page_size or DEFAULT_PAGE
        rows = await self._store.list_constellations(
            owner=None if identity.sees_all else identity.name,
            states={
                constellation_state_from_proto(state, f"states[{index}]") for index, state in enumerate(request.states)
            },
            before=constellation_id(request.page_token, "page_token") if request.page_token else None,
            limit=limit + 1,
        )
        return client_pb2.ListConstellationsResponse(
            constellations=[summary_to_proto(row) for row in rows[:limit]],
            next_page_token=rows[limit - 1].id if len(rows) > limit else "",
        )

    async def Watch(self, request: client_pb2.WatchRequest, context: Any) -> None:  # type: ignore[override]  # writes by context
        """Records after a sequence number without gap or repeat, until the constellation has ended."""
        identity = CALLER.get()
        wanted = constellation_id(request.constellation)
        after_seq = checks.integer(request.after_seq, "after_seq")
        renewal = self._gate.renewal(identity)
        with (
            self._watches.hold(identity.name),
            self._loop.watching(wanted, with_text=request.with_text) as outbox,
        ):
            # What is watched is spared from here on; but the store may be forgetting a part of it just now.
            async with self._loop.kept(wanted):
                await self._find(wanted, identity)
            read = partial(self._read, wanted, identity.name)
            await outbox.serve(stream_to(context, self._loop, self._store, read, outbox, after_seq, renewal))

    async def Wait(self, request: client_pb2.WaitRequest, context: Any) -> client_pb2.WaitResponse:
        """Answer once the constellation has ended, and that is on disk."""
        identity = CALLER.get()
        wanted = constellation_id(request.constellation)
        found = await self._find(wanted, identity)
        with (
            self._watches.hold(identity.name),
            self._loop.watching(wanted, with_text=False, only_endings=True) as outbox,
        ):
            in_memory = self._loop.machine.constellations.get(wanted)
            if in_memory is not None and in_memory.state.is_terminal:
                # What ended in the append that is under way is told by the outbox too, and what ended before is not.
                await self._loop.settle()
            if in_memory is None or in_memory.state.is_terminal:
                ended = in_memory or found
                return ending_to_proto(Ending(ended.state, ended.reason, ended.ended_at or 0.0))
            return ending_to_proto(await _next_ending(outbox))

    async def Edit(self, request: client_pb2.EditRequest, context: Any) -> client_pb2.EditResponse:
        """Apply a batch of edits whole, or refuse it whole."""
        identity = CALLER.get()
        wanted = constellation_id(request.constellation)
        self._changes.take(identity.name)
        reason = _reason(request.reason)
        # As many edits as one batch may have take some 100 ms.
        batch = await asyncio.to_thread(edit_batch_from_proto, request.batch)
        async with self._adopted(wanted, identity):
            event = EditRequested(self._clock.now(), wanted, f"client:{identity.name}", batch, reason)
            return client_pb2.EditResponse(revision=await self._revision(event))

    async def Replan(self, request: client_pb2.ReplanRequest, context: Any) -> client_pb2.ReplanResponse:
        """Have a model rewrite the graph, because a person says so."""
        identity = CALLER.get()
        wanted = constellation_id(request.constellation)
        self._changes.take(identity.name)
        why = _reason(request.why, "why")
        if not why.strip():
            raise InvalidField("why", "say what is to be changed")
        rule = default_rule(self._loop.machine.known_capabilities)
        async with self._adopted(wanted, identity):
            event = ReplanRequested(self._clock.now(), wanted, f"client:{identity.name}", why, rule)
            return client_pb2.ReplanResponse(revision=await self._revision(event))

    async def Cancel(self, request: client_pb2.CancelRequest, context: Any) -> client_pb2.CancelResponse:
        """End a request; a second time is harmless."""
        wanted = constellation_id(request.constellation)
        reason = _reason(request.reason)
        async with self._adopted(wanted, CALLER.get()):
            await self._loop.ask(CancelRequested(self._clock.now(), wanted, reason))
        return client_pb2.CancelResponse()

    async def Retry(self, request: client_pb2.RetryRequest, context: Any) -> client_pb2.RetryResponse:
        """Run what failed or was cancelled again."""
        identity = CALLER.get()
        wanted = constellation_id(request.constellation)
        self._changes.take(identity.name)
        checks.few(request.stars, "stars", MAX_RETRIED)
        checks.few(request.rebinds, "rebinds", MAX_RETRIED)
        stars = tuple(star_id(name, f"stars[{index}]") for index, name in enumerate(request.stars))
        rebinds: dict[StarId, Mapping[str, StarInput]] = {}
        for index, one in enumerate(request.rebinds):
            star = star_id(one.star, f"rebinds[{index}].star")
            if star in rebinds:
                raise InvalidField(f"rebinds[{index}].star", f"{star} is there twice")
            rebinds[star] = star_inputs_from_proto(one.inputs, f"rebinds[{index}].inputs")
        async with self._adopted(wanted, identity):
            event = RetryRequested(self._clock.now(), wanted, f"client:{identity.name}", stars, rebinds)
            return client_pb2.RetryResponse(revision=await self._revision(event))

    async def Decide(self, request: client_pb2.DecideRequest, context: Any) -> client_pb2.DecideResponse:
        """Approve or reject what waits for a person."""
        identity = CALLER.get()
        wanted = constellation_id(request.constellation)
        star = star_id(request.star, "star")
        reason = _reason(request.reason)
        value = checks.optional_json_from_text(request.value_json, "value_json", checks.MAX_GIVEN_DEPTH)
        self._changes.take(identity.name)
        by = f"client:{identity.name}"
        async with self._adopted(wanted, identity):
            event = Decided(self._clock.now(), wanted, star, by, request.is_approved, reason, value)
            return client_pb2.DecideResponse(revision=await self._revision(event))

    async def Pause(self, request: client_pb2.PauseRequest, context: Any) -> client_pb2.PauseResponse:
        """Hold a request back, or let it go on; a second time is harmless."""
        identity = CALLER.get()
        wanted = constellation_id(request.constellation)
        reason = _reason(request.reason)
        self._changes.take(identity.name)
        by = f"client:{identity.name}"
        async with self._adopted(wanted, identity):
            await self._loop.ask(PauseRequested(self._clock.now(), wanted, by, reason, request.is_paused))
        return client_pb2.PauseResponse()

    @asynccontextmanager
    async def _adopted(self, wanted: ConstellationId, identity: Identity) -> AsyncIterator[None]:
        """Have what the caller may see in memory while the block changes it."""
        async with self._loop.kept(wanted):
            with self._loop.adopted(await self._find(wanted, identity)):
                yield

    async def _revision(self, event: Event) -> int:
        reply = await self._loop.ask(event)
        assert reply is not None, "an edit is answered with its revision"
        return reply.revision

    async def _find(self, wanted: ConstellationId, identity: Identity) -> TaskConstellation:
        """The constellation, from memory where it is there; only its owner and its id are sure to be on disk."""
        return self._visible(await self._find_any(wanted, identity.name), wanted, identity)

    async def _find_any(self, wanted: ConstellationId, reader: str) -> TaskConstellation | None:
        return self._loop.machine.constellations.get(wanted) or await self._read(wanted, reader)

    async def _read(self, wanted: ConstellationId, reader: str) -> TaskConstellation | None:
        """As it is on disk, when it is the turn of that identity."""
        async with self._graphs.take(reader):
            return await self._store.find_constellation(wanted)

    async def _find_request(self, owner: str, request_id: str) -> TaskConstellation | None:
        """What was submitted so; None also where it was forgotten between the two looks."""
        known = await self._store.find_request(owner, request_id)
        return None if known is None else await self._find_any(known, owner)

    def _visible(
        self, found: TaskConstellation | None, wanted: ConstellationId, identity: Identity
    ) -> TaskConstellation:
        """What the caller may see; what belongs to others does not exist for it."""
        if found is None or not (identity.sees_all or found.owner == identity.name):
            raise NotFound("request", wanted, self._why_not)
        return found

    @property
    def _why_not(self) -> str:
        """Why something that was there once may be there no more."""
        if self._retention_s is None:
            return ""
        return f"what ended is kept for {self._retention_s:g} s, so it may have been removed"


async def _next_ending(outbox: WatcherOutbox) -> Ending:
    for item in await outbox.take(1):
        if isinstance(item, ConstellationEnded):
            return Ending(item.state, item.reason, item.at)
    raise Unreachable("the orchestrator", "it is leaving; wait again")


def _reason(text: str, field: str = "reason") -> str:
    if len(text) > MAX_REASON_CHARS:
        raise InvalidField(field, f"must be at most {MAX_REASON_CHARS} characters, is {len(text)}")
    return text
