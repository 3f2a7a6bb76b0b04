"""What an engine counts, under names that people know from vLLM. Pure.

A snapshot is a value: whoever exports it adds prefix and unit as its exporter wants them.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds, from a step of a small model to a long wait."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of seconds by upper bound."""

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    """How many were above the bound before and at most each of BOUNDS; the last: above all."""
    sum_s: float = 0.0

    @property
    def count(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """Where an engine stands, and sums since it was started."""

    num_requests_running: int = 0
    num_requests_waiting: int = 0
    kv_cache_usage: float = 0.0
    """The share, 0 to 1, of the KV blocks that running requests and pins keep; what is only cached counts as free."""
    prefix_cache_queries: int = 0
    """Prompt tokens of admitted requests."""
    prefix_cache_hits: int = 0
    """Those of them that were not computed again."""
    generation_tokens: int = 0
    cost: float = 0.0
    """What servers charged, in the currency of their prices."""
    num_preemptions: int = 0
    num_cancelled: int = 0
    cancel_steps_max: int = 0
    """The most steps that a request kept its KV blocks after it was cancelled."""
    num_steps: int = 0
    time_to_first_token: Histogram = Histogram()
    """From the call of `generate` on."""
    inter_token_latency: Histogram = Histogram()


@dataclass(slots=True)
class SecondsCounter:
    """A histogram that grows."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum_s += seconds

    def snapshot(self) -> Histogram:
        return Histogram(tuple(self.counts), self.sum_s)


@dataclass(slots=True)
class TokenMeter:
    """Counts tokens and the time between them."""

    generation_tokens: int = 0
    first: SecondsCounter = field(default_factory=SecondsCounter)
    next: SecondsCounter = field(default_factory=SecondsCounter)

    def add(self, *, since: float, now: float, is_first: bool) -> None:
        """A token at `now`; `since` is when the request came, or when it got the token before."""
        self.generation_tokens += 1
        (self.first if is_first else self.next).add(now - since)
