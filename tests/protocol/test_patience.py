"""Who listens hears of each trouble once, and of its end."""

import asyncio

import pytest

from asterism.orchestrator.core.errors import AsterismError, Unreachable
from asterism.protocol import AsyncClient, patience
from asterism.protocol.patience import Patience
from tests.protocol.peer import CONSTELLATION, Script, serving


async def test_a_broken_watch_is_heard_of_once_and_when_it_goes_on() -> None:
    heard: list[AsterismError | None] = []
    script = Script(break_after=[1, 0, 0, 2])
    async with serving(script) as port, AsyncClient(f"127.0.0.1:{port}") as client:
        items = [item async for item in client.watch(CONSTELLATION, with_text=False, listener=heard.append)]
    assert items == script.journal
    assert [type(trouble) for trouble in heard] == [Unreachable, type(None)] * 2


async def test_a_watch_that_does_not_break_is_not_heard_of() -> None:
    heard: list[AsterismError | None] = []
    async with serving(Script()) as port, AsyncClient(f"127.0.0.1:{port}") as client:
        async for _ in client.watch(CONSTELLATION, listener=heard.append):
            pass
    assert heard == []


async def test_a_try_that_lasts_is_the_end_of_the_trouble_though_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "STEADY_S", 0.01)
    trouble, is_back = Unreachable("h:1", "refused"), asyncio.Event()
    heard: list[AsterismError | None] = []

    def hear(of: AsterismError | None) -> None:
        heard.append(of)
        if of is None:
            is_back.set()

    one = Patience(60.0, hear)
    await one.spend(trouble)
    async with one.trying():
        await is_back.wait()
    await one.spend(trouble)
    assert heard == [trouble, None, trouble]


async def test_trouble_of_which_there_is_no_next_try_is_raised_only() -> None:
    heard: list[AsterismError | None] = []
    with pytest.raises(Unreachable):
        await Patience(0.0, heard.append).spend(Unreachable("h:1", "refused"))
    assert heard == []
