"""Outboxes: one reader, all that waits at once, and a clear end."""

import asyncio

import pytest

from asterism.orchestrator.core.effects import Acknowledge, Broadcast, Stop
from asterism.orchestrator.core.errors import Overloaded, WrongState
from asterism.orchestrator.core.events import Chunk
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.outbox import MAX_TEXT_CHARS, Outbox, WatcherOutbox, WorkerOutbox


async def test_all_that_waits_is_taken_at_once_up_to_the_limit() -> None:
    outbox = Outbox[int]("it", "come back")
    for number in range(5):
        outbox.put(number)
    assert await outbox.take(3) == [0, 1, 2]
    assert await outbox.take(3) == [3, 4]


async def test_finish_lets_what_waits_be_read() -> None:
    outbox = Outbox[int]("it", "come back")
    outbox.put(1)
    outbox.finish()
    outbox.put(2)
    assert await outbox.take(9) == [1]
    assert await outbox.take(9) == []


async def test_one_item_too_many_cuts_the_reader_who_learns_how_to_go_on() -> None:
    outbox = Outbox[int]("the watcher", "resume with after_seq", max_items=2)
    for number in range(3):
        outbox.put(number)
    with pytest.raises(Overloaded, match="the watcher reads too slowly and was cut; resume with after_seq"):
        await outbox.take(1)


async def test_cut_ends_a_reader_that_hangs_in_a_write() -> None:
    outbox = Outbox[int]("it", "come back")
    is_hanging = asyncio.Event()

    async def hang() -> None:
        is_hanging.set()
        await asyncio.Event().wait()

    async def cut() -> None:
        await is_hanging.wait()
        outbox.cut(WrongState("worker", "w", "disconnected", "its lease ran out"))
        outbox.cut(Overloaded("later reasons do not count", 1.0))

    async def read() -> None:
        with pytest.raises(WrongState, match="its lease ran out"):
            await outbox.serve(hang())

    async with asyncio.TaskGroup() as group:
        group.create_task(read())
        group.create_task(cut())


async def test_too_much_streamed_text_cuts_a_watcher_that_wants_it() -> None:
    text = Broadcast(
        ConstellationId("c"), StarId("s"), 1, WorkerId("w"), (Chunk("main", "x" * (MAX_TEXT_CHARS // 2 + 1), 1),)
    )
    listening = WatcherOutbox(ConstellationId("c"), with_text=True)
    watching = WatcherOutbox(ConstellationId("c"), with_text=False)
    for outbox in (listening, watching):
        outbox.put(text)
    assert len(await listening.take(9)) == 1
    for outbox in (listening, watching, listening, watching):
        outbox.put(text)
    with pytest.raises(Overloaded):
        await listening.take(9)
    assert watching.is_open


async def test_acknowledgement_travels_with_what_comes_soon_and_else_alone() -> None:
    ada = WorkerId("ada")
    heard, stop = Acknowledge(ada, (FencingToken(1),)), Stop(ada, FencingToken(2), "so")
    outbox = WorkerOutbox(ada, "i1")
    outbox.put(heard)
    taking = asyncio.ensure_future(outbox.take(9))
    await asyncio.sleep(0)
    assert not taking.done()
    outbox.put(stop)
    assert await taking == [heard, stop]
    outbox.put(heard)
    assert await outbox.take(9) == [heard]
