"""The only writer: it drains the mailbox, steps every event, appends once, and only then lets anything be seen."""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from asterism.orchestrator.clock import Clock
from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.effects import Broadcast, Disconnect, Effect, Reply
from asterism.orchestrator.core.errors import AlreadyExists, AsterismError, Overloaded, WrongState
from asterism.orchestrator.core.events import Event, TimePassed, WorkerAttached, WorkerDetached, WorkerSaid
from asterism.orchestrator.core.ids import ConstellationId, WorkerId
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.core.records import (
    ConstellationEnded,
    Record,
    WorkerDraining,
    WorkerJoined,
    WorkerLabelled,
    WorkerLeft,
)
from asterism.orchestrator.counts import Counts
from asterism.orchestrator.outbox import ForWorker, WatcherOutbox, WorkerOutbox
from asterism.orchestrator.store import Store

T = TypeVar("T")

MAX_BATCH: Final = 256
"""Events of one drain: at about 20 us a step, the 5 ms for which the loop may hold everybody else up."""
RETRY_AFTER_S: Final = 0.2
"""A full mailbox of 4,096 events is worked off in less."""
MISSED_S: Final = 0.5
"""A deadline that is looked at this much too late was missed because this process did not run: it was stopped, it has
only just started, or the disk was slow. What was said meanwhile waits unread, and may be what the deadline is about."""
HEARING_S: Final = 1.0
"""How long that is read first. A worker's report or renewal takes a few milliseconds from the socket to the mailbox."""
MAX_HEARINGS: Final = 2
"""In a row, where the first was missed as well: on a slow disk a deadline must come all the same."""


@dataclass(slots=True)
class _Letter:
    """An event in the mailbox, the worker's stream it came by, and who waits for its answer."""

    event: Event
    stream: WorkerOutbox | None = None
    answer: "asyncio.Future[Reply | None] | None" = None

    @property
    def size(self) -> int:
        """How many events it holds."""
        return len(self.event.events) if isinstance(self.event, WorkerSaid) else 1


@dataclass(slots=True)
class _Batch:
    """All that one drain leads to, in order; nothing of it is visible before the append."""

    records: list[Record] = field(default_factory=list)
    deliveries: defaultdict[WorkerOutbox, list[ForWorker]] = field(default_factory=lambda: defaultdict(list))
    """To each stream. One that is cut as well delivers nothing, before or after."""
    releases: list[Callable[[], None]] = field(default_factory=list)
    answers: list[Callable[[], None]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Forgetting:
    """What the store is to forget between two appends, and who waits for that."""

    ended_before: float
    most_stars: int
    answer: "asyncio.Future[Sequence[ConstellationId]]"


class Loop:
    """Owns the machine. Clients `ask` and wait until it is durable; workers `tell`, and are held back when full."""

    def __init__(
        self,
        *,
        machine: Machine,
        store: Store,
        clock: Clock,
        epoch: int,
        max_mailbox: int = 4096,
        check_lead: Callable[[], None] | None = None,
    ) -> None:
        """`check_lead` raises where this orchestrator may have lost the lead: then nothing more is to be seen."""
        self.machine = machine
        """For everyone else to read; what it shows may not be on disk yet."""
        self._store = store
        self._clock = clock
        self._epoch = epoch
        self._max_mailbox = max_mailbox
        self._check_lead = check_lead
        self._mailbox: deque[_Letter] = deque()
        self._waiting = 0
        """Events in it."""
        self._wake = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_stopping = False
        self._hears_until: float | None = None
        """While it is set, deadlines wait for what was said before them."""
        self._hearings = 0
        self._streams: dict[WorkerId, WorkerOutbox] = {}
        self._watchers: dict[ConstellationId, set[WatcherOutbox]] = {}
        """Of all that is appended."""
        self._waiters: dict[ConstellationId, set[WatcherOutbox]] = {}
        """Of the end alone: what else is appended costs nothing for them."""
        self._forgetting: _Forgetting | None = None
        self._forgets_nothing = asyncio.Event()
        self._forgets_nothing.set()
        self.counts = Counts()

    @property
    def streams(self) -> Sequence[WorkerOutbox]:
        """The streams of the workers that are attached."""
        return tuple(self._streams.values())

    @property
    def watchers(self) -> Sequence[WatcherOutbox]:
        """Everyone who watches."""
        return tuple(
            watcher for kind in (self._watchers, self._waiters) for of_one in kind.values() for watcher in of_one
        )

    async def ask(self, event: Event) -> Reply | None:
        """Answer once the event's consequences are on disk; raises what the machine refuses, Overloaded when full."""
        if self._waiting >= self._max_mailbox:
            raise Overloaded("the orchestrator has too many events waiting", RETRY_AFTER_S)
        return await self._ask(_Letter(event))

    async def attach(self, event: WorkerAttached, stream: WorkerOutbox) -> None:
        """Let a worker in: from then on `stream` gets its effects; an older stream of the same process is cut."""
        await self._ask(_Letter(event, stream))

    def tell(self, event: Event, stream: WorkerOutbox) -> None:
        """Hand in what came by `stream`; it is dropped where that is the worker's stream no longer. See `room`."""
        self._put(_Letter(event, stream))

    async def room(self) -> None:
        """Wait while the mailbox is full: what holds a worker back. Stamp and tell right after, without an await."""
        while self._waiting >= self._max_mailbox and not self._is_stopping:
            self._has_room.clear()
            await self._has_room.wait()

    @contextmanager
    def watching(
        self, constellation: ConstellationId, *, with_text: bool, only_endings: bool = False
    ) -> Iterator[WatcherOutbox]:
        """Every record of the constellation that is appended from now on, or only those with which it ends."""
        watcher = WatcherOutbox(constellation, with_text=with_text)
        kind = self._waiters if only_endings else self._watchers
        of_one = kind.setdefault(constellation, set())
        of_one.add(watcher)
        try:
            yield watcher
        finally:
            of_one.discard(watcher)
            if not of_one:
                kind.pop(constellation, None)

    @asynccontextmanager
    async def kept(self, constellation: ConstellationId) -> AsyncIterator[None]:
        """While the block runs, neither memory nor the store forgets a constellation: what is found in it stays true.

        The store may be forgetting just now, and does not know of it: that is waited for.
        """
        self.machine.pin(constellation)
        try:
            await self._forgets_nothing.wait()
            yield
        finally:
            self.machine.unpin(constellation)

    async def forget(self, ended_before: float, most_stars: int) -> Sequence[ConstellationId]:
        """Have the store forget, as `Store.forget` says; it spares what is kept or watched. One caller at a time."""
        if self._is_stopping:
            raise _leaving()
        assert self._forgetting is None, "it is forgetting already"
        order = _Forgetting(ended_before, most_stars, asyncio.get_running_loop().create_future())
        self._forgetting = order
        self._wake.set()
        return await order.answer

    @contextmanager
    def adopted(self, constellation: TaskConstellation) -> Iterator[None]:
        """Have a constellation in memory while the block edits, retries or asks it, also one that ended and that memory
        has forgotten."""
        if constellation.id not in self.machine.constellations:
            held = any(attempt.holds_slot for star in constellation.stars.values() for attempt in star.attempts)
            if held or not constellation.state.is_terminal:
                # It ended, gave back its last slot and was forgotten after the picture was taken.
                raise Overloaded("the constellation has only just ended", RETRY_AFTER_S)
            self.machine.adopt(constellation, at=self._clock.now())
        self.machine.pin(constellation.id)
        try:
            yield
        finally:
            self.machine.unpin(constellation.id)

    def check_lead(self) -> None:
        """Raise WrongState where this orchestrator may have lost the lead. Before anything is written to a worker."""
        if self._check_lead is not None:
            self._check_lead()

    async def settle(self) -> None:
        """Return once all that memory shows now is on disk."""
        await self._ask(_Letter(TimePassed(self._clock.now(), self._clock.chance())))

    def stop(self) -> None:
        """Take nothing more; `run` returns once everything that waits is on disk."""
        self._is_stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Work until `stop`. Raises what an append or the check of the lead raises: memory is to be dropped then."""
        try:
            while True:
                self._wake.clear()
                letters = self._take()
                if letters:
                    await self._handle(letters)
                if self._forgetting is not None:
                    await self._forget(self._forgetting)
                elif not letters and self._is_stopping:
                    return
                elif not letters:
                    await self._clock.wait(self._wake, self._hears_until or self.machine.next_deadline())
        finally:
            self._is_stopping = True
            self._has_room.set()
            for letter in self._mailbox:
                if letter.answer is not None and not letter.answer.done():
                    letter.answer.set_exception(_leaving())
            if self._forgetting is not None and not self._forgetting.answer.done():
                self._forgetting.answer.set_exception(_leaving())

    def _put(self, letter: _Letter) -> None:
        if self._is_stopping:
            raise _leaving()
        self._mailbox.append(letter)
        self._waiting += letter.size
        self._wake.set()

    async def _ask(self, letter: _Letter) -> Reply | None:
        letter.answer = asyncio.get_running_loop().create_future()
        self._put(letter)
        return await letter.answer

    def _take(self) -> list[_Letter]:
        """The next events, in the order of their times."""
        letters, size = list[_Letter](), 0
        while self._mailbox and size < MAX_BATCH:
            letters.append(self._mailbox.popleft())
            size += letters[-1].size
        self._waiting -= size
        # Last, so that a renewal which waits here still counts before the lease is found to have ended.
        at = letters[-1].event.at if self._mailbox else self._clock.now()
        if self._is_due(at):
            letters.append(_Letter(TimePassed(at, self._clock.chance())))
        if self._waiting < self._max_mailbox:
            self._has_room.set()
        return letters

    def _is_due(self, at: float) -> bool:
        """Whether to look at deadlines now."""
        deadline = self.machine.next_deadline()
        if deadline is not None and deadline <= at:
            expected_at = self._hears_until or deadline
            if at - expected_at > MISSED_S and self._hearings < MAX_HEARINGS:
                self._hearings += 1
                self.counts.hearings += 1
                self._hears_until = expected_at = at + HEARING_S
            if at < expected_at:
                return False
        self._hears_until, self._hearings = None, 0
        return deadline is not None and deadline <= at

    async def _handle(self, letters: Sequence[_Letter]) -> None:
        batch = _Batch()
        for letter in letters:
            self._step(letter, batch)
        if batch.records:
            await self._append(batch.records)
            self.counts.appends += 1
            self.counts.records += len(batch.records)
        else:
            await asyncio.sleep(0)  # An append lets others run; a drain without one has to as well.
        # What was stopped between the append and here may wake after another has taken over.
        self.check_lead()
        self._publish(batch.records)
        for stream, effects in batch.deliveries.items():
            stream.put_all(effects)
        for release in batch.releases:
            release()
        for answer in batch.answers:
            answer()

    async def _append(self, records: Sequence[Record]) -> None:
        await self._written(self._store.append(records, self._epoch))

    async def _written(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except Exception:
            # A process that was stopped finds its connection closed: that it leads no more is why, and what to say.
            if self._check_lead is not None:
                self._check_lead()
            raise

    async def _forget(self, order: _Forgetting) -> None:
        """No step is taken meanwhile, so that memory and disk go on to say the same."""
        spared = {*self.machine.pinned, *self._watchers, *self._waiters}
        self._forgets_nothing.clear()
        gone = await self._written(self._store.forget(order.ended_before, spared, order.most_stars, self._epoch))
        self.machine.forget(gone)
        self._forgets_nothing.set()
        self._forgetting = None
        if not order.answer.done():
            order.answer.set_result(gone)

    def _step(self, letter: _Letter, batch: _Batch) -> None:
        event, stream = letter.event, letter.stream
        attaching = isinstance(event, WorkerAttached)
        if stream is not None and not attaching and self._streams.get(stream.worker) is not stream:
            self.counts.dropped += letter.size
            return
        try:
            outcome = self.machine.step(event)
        except AsterismError as error:
            batch.answers.append(_refusal(letter, error))
            return
        batch.records += outcome.records
        replaced: WorkerOutbox | None = None
        if stream is not None and attaching:
            replaced = self._streams.get(stream.worker)
            self._streams[stream.worker] = stream
        elif stream is not None and isinstance(event, WorkerDetached):
            del self._streams[stream.worker]
        for effect in outcome.effects:
            self._route(effect, replaced, batch)
        if replaced is not None:
            batch.releases.append(_cut(replaced, AlreadyExists("stream", replaced.worker, "a newer one replaced it")))
        if letter.answer is not None:
            batch.answers.append(_reply(letter.answer, outcome.reply))

    def _route(self, effect: Effect, replaced: WorkerOutbox | None, batch: _Batch) -> None:
        """Choose the reader now, by who is attached at this point of the order; hand over after the append."""
        if isinstance(effect, Broadcast):
            batch.releases.append(lambda: self._show(effect))
            return
        current = self._streams.get(effect.worker)
        if isinstance(effect, Disconnect):
            error = WrongState("worker", effect.worker, "disconnected", effect.reason)
            if replaced is not None and replaced.instance == effect.instance:
                batch.releases.append(_cut(replaced, error))
            elif current is not None and current.instance == effect.instance:
                del self._streams[effect.worker]
                batch.releases.append(_cut(current, error))
        elif current is not None:
            batch.deliveries[current].append(effect)

    def _publish(self, records: Sequence[Record]) -> None:
        if self._watchers:
            for record in records:
                if isinstance(record, WorkerJoined | WorkerLeft | WorkerDraining | WorkerLabelled):
                    continue
                for watcher in self._watchers.get(record.constellation, ()):
                    watcher.put(record)
        if self._waiters:
            for record in records:
                if isinstance(record, ConstellationEnded):
                    for watcher in self._waiters.get(record.constellation, ()):
                        watcher.put(record)

    def _show(self, text: Broadcast) -> None:
        for watcher in self._watchers.get(text.constellation, ()):
            watcher.put(text)


def _leaving() -> Overloaded:
    return Overloaded("the orchestrator is leaving", 1.0)


def _cut(stream: WorkerOutbox, error: AsterismError) -> Callable[[], None]:
    return lambda: stream.cut(error)


def _reply(answer: "asyncio.Future[Reply | None]", reply: Reply | None) -> Callable[[], None]:
    # Whoever asked may have gone meanwhile.
    return lambda: None if answer.done() else answer.set_result(reply)


def _refusal(letter: _Letter, error: AsterismError) -> Callable[[], None]:
    answer = letter.answer
    return lambda: None if answer is None or answer.done() else answer.set_exception(error)
