"""What an orchestrator has done since it started, for whoever looks after it and for benchmarks."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """Each rises only."""

    appends: int = 0
    """Transactions of the journal."""
    records: int = 0
    """In all of them."""
    frames_received: int = 0
    """From workers."""
    frames_sent: int = 0
    """To workers."""
    dropped: int = 0
    """Messages from streams that another one has replaced."""
    hearings: int = 0
    """Times that missed deadlines waited for what had been said before them."""
