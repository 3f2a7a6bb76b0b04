"""How long a call that may last for hours goes on trying, when its connection breaks again and again."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

from asterism.orchestrator.core.errors import AsterismError, Overloaded

STEADY_S: Final = 20.0
"""A stream that lasted this long was connected, even if nothing came: longer than any attempt to connect."""
FIRST_DELAY_S: Final = 0.1
MAX_DELAY_S: Final = 2.0

TroubleListener: TypeAlias = Callable[[AsterismError | None], None]
"""Hears what keeps a call from going on, once for as long as it lasts, and None when it goes on."""


class Patience:
    """Waits before each new try; raises the trouble once it has lasted for `patience_s`."""

    def __init__(self, patience_s: float, listener: TroubleListener | None = None) -> None:
        self._patience_s = patience_s
        self._listener = listener
        self._failing_since: float | None = None
        self._failures = 0

    def restore(self) -> None:
        """Something came: the next trouble is a new one."""
        if self._failing_since is not None and self._listener is not None:
            self._listener(None)
        self._failing_since, self._failures = None, 0

    @asynccontextmanager
    async def trying(self) -> AsyncIterator[None]:
        """Around one try: one that goes on for `STEADY_S` is as good as one to which something came."""
        steady = asyncio.get_running_loop().call_later(STEADY_S, self.restore)
        try:
            yield
        finally:
            steady.cancel()

    async def spend(self, trouble: AsterismError) -> None:
        """Return when the next try is due."""
        now = asyncio.get_running_loop().time()
        since = now if self._failing_since is None else self._failing_since
        pause_s = delay_s(self._failures, trouble)
        self._failures += 1
        if now + pause_s - since > self._patience_s:
            raise trouble
        if self._failing_since is None and self._listener is not None:
            self._listener(trouble)
        self._failing_since = since
        await asyncio.sleep(pause_s)


def delay_s(failures: int, trouble: AsterismError) -> float:
    """Exponential backoff, half of it by chance, so that watchers cut at one time do not come back at one time."""
    waited_s = min(FIRST_DELAY_S * 2.0 ** min(failures, 16), MAX_DELAY_S) * random.uniform(0.5, 1.0)
    return max(waited_s, trouble.retry_after_s) if isinstance(trouble, Overloaded) else waited_s
