"""An event loop on which real asyncio code runs in virtual time: when nobody has anything to do, the clock jumps on.

No selector, no OS thread, no wall clock: what runs on it does the same each time, to the order of its tasks.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Coroutine, Generator, Hashable
from concurrent.futures import Executor, Future
from contextvars import Context, ContextVar
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


OWNER: Final[ContextVar[Hashable]] = ContextVar("OWNER", default=None)
"""Whose code runs: all of an owner's code can be paused, as SIGSTOP pauses a process."""
NOBODY: Final = Context()
"""For what goes on whoever is paused."""


class Stuck(Exception):
    """Nothing is ready and nothing is due: what is waited for will never come. Or much is, and time stands still."""


MAX_SPINS: Final = 100_000
"""Turns of the loop without a moment's time: a schedule takes some thousands in all."""


class _Task(asyncio.Task[T]):
    """A task that hashes to its number: sets of tasks, as in a TaskGroup, are walked in the same order each time."""

    def __init__(self, number: int, coro: Any, **options: Any) -> None:
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Handle(asyncio.Handle):
    """A call that waits while its owner is paused."""

    def _run(self) -> None:
        if not _waits(self):
            super()._run()


class _Timer(asyncio.TimerHandle):
    """The same, for a call at a time."""

    def _run(self) -> None:
        if not _waits(self):
            super()._run()


def _waits(handle: Any) -> bool:
    paused: dict[Hashable, list[Any]] = handle._loop.paused
    if not paused:
        return False
    waiting = paused.get(handle._context.get(OWNER))
    if waiting is None:
        return False
    waiting.append(handle)
    return True


class _Jumping:
    """Stands where a loop has its selector: instead of waiting it moves the clock."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop
        self._spins = 0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stuck
        self._spins = self._spins + 1 if timeout <= 0 else 0
        if self._spins > MAX_SPINS:
            raise Stuck
        self._loop.now += timeout
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """Time in seconds from 0. What goes to an executor is done at once, in this thread."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.paused: dict[Hashable, list[Any]] = {}
        """What is to be done, by owners that are paused."""
        self._ready: Any
        self._scheduled: Any
        self._selector = _Jumping(self)
        numbers = itertools.count()

        def make(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> _Task[Any]:
            return _Task(next(numbers), coro, loop=loop, **options)

        self.set_task_factory(make)

    def time(self) -> float:
        return self.now

    def pause(self, owner: Hashable) -> None:
        """Run none of its code until `resume`."""
        self.paused.setdefault(owner, [])

    def resume(self, owner: Hashable) -> None:
        """Run what has waited, in order."""
        self._ready.extend(self.paused.pop(owner, ()))

    def call_at(  # type: ignore[override]  # looser than typeshed's
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer: Any = _Timer(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True
        return timer  # type: ignore[no-any-return]

    def _call_soon(self, callback: Callable[..., object], args: Any, context: Context | None) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":  # type: ignore[override]  # a future is awaitable
        """A future that has ended already."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # whoever asked gets it, as from a thread
            future.set_exception(error)
        return future

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps in a selector."""


class AtOnce(Executor):
    """Does what it is given before `submit` returns."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """A future that has ended already."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # whoever asked gets it, as from a thread
            future.set_exception(error)
        return future


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run it to its end on a loop of its own, and cancel what it has left behind."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(_bury(loop))
        loop.close()


async def _bury(loop: asyncio.AbstractEventLoop) -> None:
    left = sorted(
        (task for task in asyncio.all_tasks(loop) if task is not asyncio.current_task()), key=lambda task: hash(task)
    )
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


class Never:
    """To wait for what does not come."""

    def __await__(self) -> Generator[Any, None, None]:
        return asyncio.get_running_loop().create_future().__await__()
