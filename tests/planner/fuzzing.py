"""How long the fuzzers of the planner run: one round in the tests, ASTERISM_FUZZ_S seconds each in `make fuzz`."""

import functools
import os
import time
from collections.abc import Callable
from typing import Final

import pytest

SECONDS: Final = float(os.environ.get("ASTERISM_FUZZ_S", "0"))
"""For each fuzzer; 0 is one round of Hypothesis, a second or so."""


def fuzz(test: Callable[[], None]) -> Callable[[], None]:
    """A test of Hypothesis's that goes on with new examples until its time is over."""

    @functools.wraps(test)
    def rounds() -> None:
        ends_at = time.monotonic() + SECONDS
        test()
        while time.monotonic() < ends_at:
            test()

    # What a wrapped function takes would else be looked for among the fixtures.
    del rounds.__wrapped__
    return pytest.mark.timeout(SECONDS + 60)(rounds)
