"""Forgetting what ended long ago, part by part, beside everything else."""

import asyncio
from typing import Final

import structlog

from asterism.orchestrator.clock import Clock
from asterism.orchestrator.core.ids import ConstellationId
from asterism.orchestrator.loop import Loop

log = structlog.get_logger(__name__)

PART: Final = 200
"""Stars that go at once: what an append may have to wait for."""
LOOK_S: Final = 60.0
"""Longest time between two looks at what is old enough; a tenth of a short retention."""
REST: Final = 1.0
"""How long it rests after a part, in times of what that took: the store is at least half the time for others."""


async def keep_retention(loop: Loop, clock: Clock, retention_s: float) -> None:
    """Forget, without end, what ended more than `retention_s` ago and what is said of workers from before that."""
    while True:
        forgotten: set[ConstellationId] = set()
        began = clock.now()
        while gone := await loop.forget(began - retention_s, PART):
            forgotten.update(gone)
            ended = clock.now()
            await _rest(clock, ended + REST * (ended - began))
            began = clock.now()
        if forgotten:
            log.info("forgotten", constellations=len(forgotten))
        await _rest(clock, clock.now() + min(LOOK_S, retention_s / 10))


async def _rest(clock: Clock, until: float) -> None:
    # A clock sets the event of who waits: so a new one for each wait.
    await clock.wait(asyncio.Event(), until)
