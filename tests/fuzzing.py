"""Fuzzing with Hypothesis for as long as the environment says: `make fuzz` gives it minutes, and a test run seconds."""

import os
import time
from collections.abc import Callable
from typing import Final

import pytest

FUZZ_S: Final = float(os.environ.get("ASTERISM_FUZZ_S", "10"))
"""Seconds for each test that fuzzes."""
patient: Final = pytest.mark.timeout(int(60 + 3 * FUZZ_S))
"""For modules that fuzz: the last round begins when the time is nearly up, and a failure is made small afterwards."""


def fuzz(check: Callable[[], None]) -> None:
    """Runs a test of Hypothesis again and again, each time from another seed, until the time is up."""
    until = time.monotonic() + FUZZ_S
    check()
    while time.monotonic() < until:
        check()
