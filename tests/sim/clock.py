"""The clock of one orchestrator: virtual time behind a wall clock that may be wrong, and seeded dice."""

import asyncio
import random


class SimClock:
    """As `SystemClock`: the wall clock at the start, carried on by the monotonic one. Knows whether its loop waits."""

    def __init__(self, rng: random.Random, wall_s: float) -> None:
        self._offset = wall_s
        self._rng = rng
        self.is_waiting = False
        self.until: float | None = None
        """Up to when, while it waits."""

    def now(self) -> float:
        return self._offset + asyncio.get_running_loop().time()

    def chance(self) -> float:
        return self._rng.random()

    async def wait(self, wake: asyncio.Event, until: float | None) -> None:
        self.is_waiting, self.until = not wake.is_set(), until
        try:
            async with asyncio.timeout(None if until is None else max(0.0, until - self.now())):
                await wake.wait()
        except TimeoutError:
            return
        finally:
            self.is_waiting = False
