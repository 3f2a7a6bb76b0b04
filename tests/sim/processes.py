"""A process that can die at any point where it touches the world."""

import asyncio
from collections.abc import Coroutine
from contextvars import Context, copy_context
from typing import Any, Final

from tests.sim.virtual import NOBODY, OWNER, Never, VirtualLoop

CATCHING_UP_S: Final = 2.0


class Process:
    """One life on a machine. It passes a point before and after each send and each commit, and may die there."""

    def __init__(self, machine: str) -> None:
        self.machine = machine
        self.is_dead = False
        self.passed: list[str] = []
        self.dies_at: int | None = None
        """Number of the point, from 0, at which it dies."""
        self.stops_at: tuple[int, float] | None = None
        """Number of the point at which it is paused, and for how many seconds."""
        self.stops_before_forgetting_s: float | None = None
        """For how many seconds it is paused where it next forgets: too seldom a point for a number to hit it."""
        self._root: asyncio.Task[None] | None = None
        self._resumed_at = -1.0
        self._context = copy_context()
        self._context.run(OWNER.set, self)

    def context(self) -> Context:
        """For a new task of this process."""
        return self._context.copy()

    async def run(self, main: Coroutine[Any, Any, None]) -> Exception | None:
        """Live until the end of `main` or of the process; gives what `main` raised."""
        self._root = asyncio.get_running_loop().create_task(main, context=self.context())
        # Retrieved in any case: whoever kills it does not ask how it ended.
        self._root.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            await asyncio.wait([self._root])
        finally:
            was_killed, self.is_dead = self.is_dead, True
            self._root.cancel()
        if self._root.cancelled():
            return None
        error = self._root.exception()
        assert error is None or isinstance(error, Exception), error
        return None if was_killed else error

    def die(self) -> None:
        """SIGKILL: whatever its code still does, nobody sees it."""
        self.is_dead = True
        self.resume()
        if self._root is not None:
            self._root.cancel()

    def pause(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so many seconds."""
        if not self.is_dead:
            loop = _loop()
            loop.pause(self)
            loop.call_later(seconds, self.resume, context=NOBODY)

    def resume(self) -> None:
        """SIGCONT."""
        _loop().resume(self)
        self._resumed_at = _loop().time()

    @property
    def is_paused(self) -> bool:
        """Whether it is, or was so lately that it may not have caught up yet."""
        return self in _loop().paused or _loop().time() - self._resumed_at < CATCHING_UP_S

    async def point(self, name: str) -> None:
        """Pass a point; one who is dead, or dies here, does not come back from it."""
        if self.is_dead:
            raise asyncio.CancelledError
        self.passed.append(name)
        if self.dies_at is not None and len(self.passed) > self.dies_at:
            self.die()
            await Never()
        # Between the last look at the lead and the kernel nothing can be checked: the fence is for that.
        if self.stops_at is not None and len(self.passed) > self.stops_at[0] and name != "before send":
            (_, seconds), self.stops_at = self.stops_at, None
            self.pause(seconds)
            await asyncio.sleep(0)
        if self.stops_before_forgetting_s is not None and name == "before forgetting":
            seconds, self.stops_before_forgetting_s = self.stops_before_forgetting_s, None
            self.pause(seconds)
            await asyncio.sleep(0)


def _loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
