"""Bounded queues to those who read from the orchestrator: a slow reader is cut, never buffered without end."""

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any, Final, Generic, TypeAlias, TypeVar

from asterism.orchestrator.core.effects import Acknowledge, AnswerEdits, Assign, Broadcast, InputText, InputValue, Stop
from asterism.orchestrator.core.errors import AsterismError, Overloaded
from asterism.orchestrator.core.ids import ConstellationId, WorkerId
from asterism.orchestrator.core.records import ConstellationRecord

T = TypeVar("T")

MAX_ITEMS: Final = 8192
"""Waiting items of one reader: two full drains of the mailbox."""
MAX_TEXT_CHARS: Final = 1024 * 1024
"""Waiting streamed text of one watcher."""
PARTING_S: Final = 1.0
"""For the last write to a reader that is cut."""
COMPANY_S: Final = 0.02
"""For which acknowledgements wait for something else to travel with: a frame costs some 250 us of CPU at each end. In a
graph of 20 layers every fifth frame to a worker had nothing else in it."""

ForWorker: TypeAlias = Assign | InputText | InputValue | Stop | Acknowledge | AnswerEdits
ForWatcher: TypeAlias = ConstellationRecord | Broadcast


class Outbox(Generic[T]):
    """A queue with one reader, who takes all that waits at once. It ends by `finish` (what waits is still read) or by
    `cut` (nothing more is read, and the reader learns why, even one that hangs in a write)."""

    def __init__(self, reader: str, advice: str, max_items: int = MAX_ITEMS) -> None:
        self._items: deque[T] = deque()
        self._reader = reader
        self._advice = advice
        self._max_items = max_items
        self._ready = asyncio.Event()
        self._was_cut = asyncio.Event()
        self._error: AsterismError | None = None
        self._is_finished = False

    @property
    def is_open(self) -> bool:
        """Whether it still takes items."""
        return not self._is_finished and self._error is None

    def put(self, item: T) -> None:
        """Queue an item; one too many cuts the reader. After the end it does nothing."""
        self.put_all((item,))

    def put_all(self, items: Sequence[T]) -> None:
        """Queue items; too many cut the reader. After the end it does nothing."""
        if not self.is_open:
            return
        if len(self._items) + len(items) > self._max_items:
            self.cut_as_slow()
            return
        self._items.extend(items)
        self._call(items)

    def finish(self) -> None:
        """End after what waits."""
        self._is_finished = True
        self._ready.set()

    def cut(self, error: AsterismError) -> None:
        """End now, for that reason; the first reason stands."""
        if self._error is None:
            self._error = error
            self._items.clear()
            self._ready.set()
            self._was_cut.set()

    def cut_as_slow(self) -> None:
        """End now, because the reader does not keep up."""
        self.cut(Overloaded(f"{self._reader} reads too slowly and was cut; {self._advice}", 1.0))

    async def take(self, limit: int) -> list[T]:
        """Wait for at least one item and give at most `limit`; empty means the end. Raises what it was cut with."""
        while self.is_open and not (self._items and self._ready.is_set()):
            await self._ready.wait()
            if not self._items:
                self._ready.clear()
        if self._error is not None:
            raise self._error
        taken = [self._items.popleft() for _ in range(min(limit, len(self._items)))]
        if not self._items:
            self._ready.clear()
        self._taken(taken)
        return taken

    async def serve(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what reads it. Once it is cut, that ends by itself with the reason, or after PARTING_S where it hangs.

        A write that is under way is not torn off at once: gRPC could not tell the reader the reason then.
        """
        try:
            async with asyncio.TaskGroup() as group:
                cutting = group.create_task(self._raise_when_cut())
                await work
                cutting.cancel()
        except ExceptionGroup as errors:
            raise first_error(errors) from None

    async def _raise_when_cut(self) -> None:
        await self._was_cut.wait()
        await asyncio.sleep(PARTING_S)
        if self._error is not None:
            raise self._error

    def _call(self, items: Sequence[T]) -> None:
        """Have the reader take what was just queued."""
        self._ready.set()

    def _taken(self, items: list[T]) -> None:
        """Called with what was just taken."""


class WorkerOutbox(Outbox[ForWorker]):
    """What waits for one stream of a worker; also the handle by which the loop knows that stream."""

    def __init__(self, worker: WorkerId, instance: str, max_items: int = MAX_ITEMS) -> None:
        super().__init__(f"worker {worker!r}", "attach again", max_items)
        self.worker = worker
        self.instance = instance
        self._later: asyncio.TimerHandle | None = None

    def _call(self, items: Sequence[ForWorker]) -> None:
        if not all(isinstance(item, Acknowledge) for item in items):
            self._ready.set()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(COMPANY_S, self._ready.set)

    def _taken(self, items: list[ForWorker]) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None


class WatcherOutbox(Outbox[ForWatcher]):
    """What waits for one watcher of a constellation. Streamed text counts by its length too."""

    def __init__(
        self,
        constellation: ConstellationId,
        *,
        with_text: bool,
        max_items: int = MAX_ITEMS,
    ) -> None:
        super().__init__("the watcher", "resume with after_seq", max_items)
        self.constellation = constellation
        self.with_text = with_text
        self._text_chars = 0

    def put(self, item: ForWatcher) -> None:
        """Queue a record, or streamed text where it is wanted; too much cuts the watcher."""
        if isinstance(item, Broadcast):
            if not self.with_text:
                return
            self._text_chars += _chars(item)
            if self._text_chars > MAX_TEXT_CHARS:
                self.cut_as_slow()
                return
        super().put(item)

    def _taken(self, items: list[ForWatcher]) -> None:
        self._text_chars -= sum(_chars(item) for item in items if isinstance(item, Broadcast))


def first_error(errors: ExceptionGroup) -> Exception:
    """The first exception in a group that is no group itself."""
    first = errors.exceptions[0]
    return first_error(first) if isinstance(first, ExceptionGroup) else first


def _chars(item: Broadcast) -> int:
    return sum(len(chunk.text) for chunk in item.chunks)
