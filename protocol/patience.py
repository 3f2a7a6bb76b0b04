"""How long a call that may last for hours goes on trying, when its connection breaks again and again."""

import asyncio
import random
from typing import Final

from asterism.orchestrator.core.errors import AsterismError, Overloaded

STEADY_S: Final = 20.0
"""A stream that lasted this long was connected, even if nothing came: longer than any attempt to connect."""
FIRST_DELAY_S: Final = 0.1
MAX_DELAY_S: Final = 2.0


class Patience:
    """Waits before each new try; raises the trouble once it has lasted for `patience_s`."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._failing_since: float | None = None
        self._failures = 0

    def restore(self) -> None:
        """Something came: the next trouble is a new one."""
        self._failing_since, self._failures = None, 0

    async def spend(self, trouble: AsterismError, began_at: float) -> None:
        """Return when the next try is due. `began_at`, by the loop's clock: when the try began that has failed."""
        now = asyncio.get_running_loop().time()
        if self._failing_since is None or now - began_at > STEADY_S:
            self._failing_since, self._failures = now, 0
        pause_s = delay_s(self._failures, trouble)
        self._failures += 1
        if now + pause_s - self._failing_since > self._patience_s:
            raise trouble
        await asyncio.sleep(pause_s)


def delay_s(failures: int, trouble: AsterismError) -> float:
    """Exponential backoff, half of it by chance, so that watchers cut at one time do not come back at one time."""
    waited_s = min(FIRST_DELAY_S * 2.0 ** min(failures, 16), MAX_DELAY_S) * random.uniform(0.5, 1.0)
    return max(waited_s, trouble.retry_after_s) if isinstance(trouble, Overloaded) else waited_s
