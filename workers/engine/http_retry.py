"""When to ask a completion server again, and how long to wait before. Pure."""

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

RETRIED: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses after which the same request may be answered; 529 is some hosted servers' word for overload."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long. A text that has begun is never asked for again: somebody has read it."""

    retries: int = 4
    first_s: float = 0.5
    most_s: float = 30.0
    """Between two tries. A server that asks for more is given up there and then, with its own word of when."""

    def delay_s(self, tries: int, asked_s: float | None, chance: float) -> float | None:
        """Seconds before the next try after so many (from 1); None to give up. `chance` is uniform in [0, 1).

        What the server asked for is waited at least; otherwise a span that doubles, half of it left to chance so that
        those who failed together do not come back together.
        """
        if tries > self.retries or (asked_s is not None and asked_s > self.most_s):
            return None
        span = min(self.most_s, self.first_s * 2.0 ** min(tries - 1, 32)) * (0.5 + chance / 2)
        return max(span, asked_s or 0.0)


def read_retry_after(header: str | None, now: float) -> float | None:
    """Seconds from `now` (of the epoch) as a Retry-After header has them, a number or a date; None without one."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            at = parsedate_to_datetime(header)
        except ValueError:
            return None
        # Dates of HTTP are in GMT, also those that do not say so.
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        seconds = at.timestamp() - now
    return min(max(seconds, 0.0), 86_400.0) if seconds == seconds else None  # not a number asks for nothing
