"""Results of pure stars that may stand for others', by tenant and content key. In memory alone, and bounded."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from asterism.orchestrator.core.values import Artifact, Result, json_bytes

MAX_KEPT: Final = 4096
"""Results that are kept for others, of all tenants; the ones that were used longest ago are forgotten first."""
MAX_KEPT_BYTES: Final = 32 * 1024 * 1024
"""Of their JSON texts."""


@dataclass(frozen=True, slots=True)
class Reused:
    """A result, and the star whose it is, as `CONSTELLATION/STAR`."""

    result: Result
    source: str


@dataclass(frozen=True, slots=True)
class _Kept:
    reused: Reused
    until: float
    size: int


class Results:
    """What is forgotten is computed again."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, bytes], _Kept] = OrderedDict()
        self._size = 0

    def find(self, owner: str, key: bytes, *, at: float) -> Reused | None:
        """The result, while its time to live lasts."""
        kept = self._kept.get((owner, key))
        if kept is None:
            return None
        if kept.until <= at:
            self._drop(owner, key)
            return None
        self._kept.move_to_end((owner, key))
        return kept.reused

    def keep(self, owner: str, key: bytes, reused: Reused, *, until: float) -> None:
        """Keep it, in place of an older one."""
        self._drop(owner, key)
        size = 0 if isinstance(reused.result, Artifact) else json_bytes(reused.result)
        self._kept[owner, key] = _Kept(reused, until, size)
        self._size += size
        while len(self._kept) > MAX_KEPT or self._size > MAX_KEPT_BYTES:
            self._drop(*next(iter(self._kept)))

    def _drop(self, owner: str, key: bytes) -> None:
        kept = self._kept.pop((owner, key), None)
        if kept is not None:
            self._size -= kept.size
