"""Ids of constellations: they rise with time, so that rows of one request lie together and lists are by age."""

from asterism.orchestrator.clock import Clock
from asterism.orchestrator.core.ids import ConstellationId


class ConstellationIds:
    """Milliseconds, a counter within them, and chance, so that an id cannot be guessed from another one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = (0, 0)

    def new(self) -> ConstellationId:
        """An id above all that this one gave before."""
        milliseconds, counter = self._last
        now = int(self._clock.now() * 1000)
        self._last = (now, 0) if now > milliseconds else (milliseconds, counter + 1)
        chance = int(self._clock.chance() * 2**32)
        return ConstellationId(f"c{self._last[0]:011x}{self._last[1]:04x}{chance:08x}")
