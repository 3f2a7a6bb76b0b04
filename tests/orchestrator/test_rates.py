"""Rates and places of an identity."""

import pytest

from asterism.orchestrator.clock import ManualClock
from asterism.orchestrator.core.errors import Overloaded
from asterism.orchestrator.services.rates import Places, TokenBuckets


def test_burst_then_the_long_run_rate_each_identity_for_itself() -> None:
    clock = ManualClock(0.0)
    buckets = TokenBuckets(clock, per_s=2.0, burst=3)
    for _ in range(3):
        buckets.take("ann")
    with pytest.raises(Overloaded) as caught:
        buckets.take("ann")
    assert caught.value.retry_after_s == 0.5
    buckets.take("bob")
    clock.advance(0.5)
    buckets.take("ann")
    with pytest.raises(Overloaded):
        buckets.take("ann")


def test_bucket_never_holds_more_than_its_burst() -> None:
    clock = ManualClock(0.0)
    buckets = TokenBuckets(clock, per_s=100.0, burst=2)
    buckets.take("ann")
    clock.advance(3600)
    buckets.take("ann")
    buckets.take("ann")
    with pytest.raises(Overloaded):
        buckets.take("ann")


def test_place_is_free_again_after_the_block() -> None:
    places = Places("watches", 1)
    with places.hold("ann"):
        with places.hold("bob"):
            pass
        with pytest.raises(Overloaded, match="1 watches"), places.hold("ann"):
            pass
    with places.hold("ann"):
        pass
