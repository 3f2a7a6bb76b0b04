"""Figures of an evaluation: shares with intervals, quantiles, and what a schedule costs on a few slots. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


def wilson(solved: int, boards: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    z, share = 1.96, solved / boards
    centre = (share + z * z / (2 * boards)) / (1 + z * z / boards)
    half = z * math.sqrt(share * (1 - share) / boards + z * z / (4 * boards * boards)) / (1 + z * z / boards)
    return centre - half, centre + half


def share_of(solved: Sequence[bool]) -> dict[str, float] | None:
    """How many of how many, with the interval; None for no board at all."""
    if not solved:
        return None
    low, high = wilson(sum(solved), len(solved))
    share = sum(solved) / len(solved)
    return {
        "boards": len(solved),
        "solved": sum(solved),
        "share": round(share, 4),
        "low": round(low, 4),
        "high": round(high, 4),
    }


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, median and 95th percentile of at least one value."""
    mean = sum(values) / len(values)
    return {"mean": round(mean, 1), "p50": round(quantile(values, 0.5), 1), "p95": round(quantile(values, 0.95), 1)}


@dataclass(frozen=True, slots=True)
class ThreadCost:
    """A thread as it ran: after how many tokens of its parent it could start, and how many it took (None: cut off)."""

    spawned_at: int
    tokens: int | None
    is_verified: bool


def steps_on_slots(threads: Sequence[ThreadCost], parent_tokens: int, tail_tokens: int, slots: int) -> int:
    """Decode steps until the answer when `slots` texts decode at a time, the parent's list among them.

    Threads start in the order of the list. It replays what ran: a thread that was cut off decodes until the first
    verified one ends, and where none is verified all are awaited.
    """
    waiting = list(threads)
    running: list[tuple[float, ThreadCost]] = []
    step = 0
    while True:
        is_verified = any(end <= step and thread.is_verified for end, thread in running)
        running = [(end, thread) for end, thread in running if end > step]
        is_listing = step < parent_tokens
        while waiting and waiting[0].spawned_at <= step and len(running) + is_listing < slots:
            thread = waiting.pop(0)
            running.append((math.inf if thread.tokens is None else step + max(1, thread.tokens), thread))
        is_stuck = not is_listing and all(end == math.inf for end, _ in running)
        if is_verified or is_stuck:
            return step + tail_tokens
        step += 1
