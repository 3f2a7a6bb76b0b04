"""Rates and places of an identity."""

import asyncio

import pytest

from asterism.orchestrator.clock import ManualClock
from asterism.orchestrator.core.errors import Overloaded
from asterism.orchestrator.services.rates import Places, TokenBuckets, Turns


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


class Takers:
    """Whoever takes turns, and who has had one."""

    def __init__(self, at_once: int, limit: int) -> None:
        self.turns = Turns("graphs", at_once, limit)
        self.had = list[str]()

    async def take(self, name: str) -> None:
        """One turn, and nothing done in it."""
        async with self.turns.take(name):
            self.had.append(name)


async def test_turn_is_waited_for_where_all_are_taken_and_too_many_are_refused() -> None:
    takers = Takers(at_once=2, limit=3)
    async with asyncio.TaskGroup() as group, takers.turns.take("ann"), takers.turns.take("ann"):
        group.create_task(takers.take("ann"))
        await group.create_task(takers.take("bob"))
        assert takers.had == ["bob"]
        with pytest.raises(Overloaded, match="ann holds 3 graphs already, which is the limit; try again in 1 s"):
            await takers.take("ann")
    assert takers.had == ["bob", "ann"]
    await takers.take("ann")


async def test_whoever_gives_up_waiting_takes_no_turn_and_leaves_its_place() -> None:
    takers = Takers(at_once=1, limit=2)
    async with asyncio.TaskGroup() as group, takers.turns.take("ann"):
        gives_up = group.create_task(takers.take("ann"))
        await group.create_task(takers.take("bob"))
        gives_up.cancel()
        await asyncio.wait([gives_up])
        group.create_task(takers.take("ann"))
        await group.create_task(takers.take("bob"))
    assert takers.had == ["bob", "bob", "ann"]
