"""How much one identity may ask for at once and in the long run."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final
from weakref import WeakValueDictionary

from asterism.orchestrator.clock import Clock
from asterism.orchestrator.core.errors import Overloaded

MAX_KEYS: Final = 10_000
"""Identities whose buckets are kept; those that are full again are forgotten first."""


class TokenBuckets:
    """A bucket for each identity: `burst` at once, refilled with `per_s` a second."""

    def __init__(self, clock: Clock, *, per_s: float, burst: int) -> None:
        self._clock = clock
        self._per_s = per_s
        self._burst = burst
        self._levels: dict[str, tuple[float, float]] = {}

    def take(self, identity: str) -> None:
        """Take one, or raise Overloaded with the time until there is one."""
        at = self._clock.now()
        level = self._level(identity, at)
        if level < 1.0:
            raise Overloaded(f"{identity} asks for too many changes", (1.0 - level) / self._per_s)
        self._levels[identity] = (level - 1.0, at)
        if len(self._levels) > MAX_KEYS:
            self._levels = {name: entry for name, entry in self._levels.items() if self._level(name, at) < self._burst}

    def _level(self, identity: str, at: float) -> float:
        level, since = self._levels.get(identity, (float(self._burst), at))
        return min(float(self._burst), level + (at - since) * self._per_s)


class Places:
    """How many of something each identity holds at one time."""

    def __init__(self, what: str, limit: int) -> None:
        self._what = what
        self._limit = limit
        self._held: Counter[str] = Counter()

    @contextmanager
    def hold(self, identity: str) -> Iterator[None]:
        """Hold a place while the block runs, or raise Overloaded."""
        if self._held[identity] >= self._limit:
            raise Overloaded(f"{identity} holds {self._limit} {self._what} already, which is the limit", 1.0)
        self._held[identity] += 1
        try:
            yield
        finally:
            self._held[identity] -= 1
            if not self._held[identity]:
                del self._held[identity]


class Turns:
    """A few of something at a time for each identity; more of them wait for their turn, and too many are refused."""

    def __init__(self, what: str, at_once: int, limit: int) -> None:
        """`limit`: how many may be under way or wait."""
        self._places = Places(what, limit)
        self._at_once = at_once
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        """Each for as long as somebody has it or waits for it."""

    @asynccontextmanager
    async def take(self, identity: str) -> AsyncIterator[None]:
        """Wait for a turn and have it while the block runs, or raise Overloaded."""
        with self._places.hold(identity):
            turn = self._turns.setdefault(identity, asyncio.Semaphore(self._at_once))
            async with turn:
                yield
