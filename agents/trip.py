"""Whether reasoning threads should leave the device: what it takes here, crowded, and what it takes elsewhere."""

import math
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a worker takes, as measured with the shipped model on one OS thread of a shared 2-core x86 machine.

    Hop: `python -m tests.bench.graphs chain:200` (SQLite, every step on disk) gave 0.98 ms, p99 2.0. The others:
    `python -m tests.bench.trip` gave 3557, 2719, 1440, 1051 and 582 tokens/s to each of 1, 2, 4, 8 and 16 texts, which
    a step of 0.22 ms and 0.095 ms more for every text comes near (3175, 2439, 1667, 1020, 575), and 16,063 tokens/s
    of prefill; on a quiet machine. Another engine or device has other rates: a request may say them.
    """

    hop_s: float = 0.001
    step_s: float = 0.00022
    text_s: float = 0.000095
    prefill_tokens_per_s: float = 16_000.0

    def decode_s(self, texts: int, tokens: int) -> float:
        """Until `texts` that decode together have `tokens` each."""
        return tokens * (self.step_s + texts * self.text_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """What is at hand: threads of `tokens` expected tokens behind a prompt of `prompt_tokens`."""

    threads: int
    tokens: int
    prompt_tokens: int
    slots: int
    """Texts that decode at once here, at least 1."""
    workers: int
    """That would take threads, this one among them, at least 1; each takes as many texts at once as this one."""


WORTH_IT: Final = 0.8
"""Share of the time here that the trip may take at most: lengths are guesses, and those workers may not stay idle."""


def here_s(trip: Trip, rates: Rates) -> float:
    """Behind a prefix that is computed already; threads beyond the slots wait for a second round."""
    rounds = math.ceil(trip.threads / trip.slots)
    return rounds * rates.decode_s(min(trip.threads, trip.slots), trip.tokens)


def away_s(trip: Trip, rates: Rates) -> float:
    """Out and back, the prompt computed anew by those who run threads and by who joins them.

    The threads' own texts are computed again at the join here as well, so that they make no difference.
    """
    share = math.ceil(trip.threads / trip.workers)
    rounds = math.ceil(share / trip.slots)
    decode = rounds * rates.decode_s(min(share, trip.slots), trip.tokens)
    return 2 * (rates.hop_s + trip.prompt_tokens / rates.prefill_tokens_per_s) + decode


def pays(trip: Trip, rates: Rates) -> bool:
    """Whether the threads should become stars."""
    if trip.threads < 2 or trip.workers < 2:
        return False
    return away_s(trip, rates) <= WORTH_IT * here_s(trip, rates)
