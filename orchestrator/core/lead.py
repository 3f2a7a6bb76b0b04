"""Who leads, where several orchestrators share one store."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lead:
    """We do, in this epoch, until the lease ends that was asked for."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Led:
    """Another does."""

    leader: str
    """HOST:PORT where it says that it can be reached."""
    ends_in_s: float
    """Seconds until its lease ends, if it does not renew it."""
