"""The seam to time and chance, so that the whole orchestrator can run on a clock that a test moves."""

import asyncio
import random
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time, waits for it, and throws the dice."""

    def now(self) -> float:
        """Seconds since the epoch; never goes back."""

    def chance(self) -> float:
        """Uniform in [0, 1)."""

    async def wait(self, wake: asyncio.Event, until: float | None) -> None:
        """Return once `wake` is set or the time is `until`, whichever comes first; None means `wake` alone.

        One waiter per `wake`; the clock may set it itself.
        """


class SystemClock:
    """Real time: the wall clock at the start, carried on by the monotonic one, so that a step of the wall clock
    neither ends nor extends a lease."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self._random = random.SystemRandom()

    def now(self) -> float:
        return self._offset + time.monotonic()

    def chance(self) -> float:
        return self._random.random()

    async def wait(self, wake: asyncio.Event, until: float | None) -> None:
        try:
            async with asyncio.timeout(None if until is None else max(0.0, until - self.now())):
                await wake.wait()
        except TimeoutError:
            return


class ManualClock:
    """A clock that stands still until it is told to move; the dice are seeded."""

    def __init__(self, at: float, seed: int = 0) -> None:
        self._at = at
        self._random = random.Random(seed)
        self._sleepers: dict[asyncio.Event, float] = {}

    def now(self) -> float:
        return self._at

    def chance(self) -> float:
        return self._random.random()

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, and wake whoever waited for a time up to then."""
        self._at += seconds
        for wake, until in self._sleepers.items():
            if until <= self._at:
                wake.set()

    async def wait(self, wake: asyncio.Event, until: float | None) -> None:
        if until is not None and until <= self._at:
            return
        if until is not None:
            self._sleepers[wake] = until
        try:
            await wake.wait()
        finally:
            self._sleepers.pop(wake, None)
