"""A star that follows what another one writes, through real processes: it begins before that one has ended."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from asterism.orchestrator.core.records import AttemptEnded, ConstellationEnded
from asterism.orchestrator.core.request import ConstellationState, Request
from asterism.orchestrator.core.star import StarState
from asterism.protocol.answers import StreamedText
from asterism.protocol.client import AsyncClient
from asterism.workers.engine.http_server import serving
from asterism.workers.engine.scripted import ScriptedEngine, split_tokens
from asterism.workers.engine.seam import GenerationRequest
from tests.processes import Fleet, Process, attached

pytestmark = pytest.mark.timeout(240)

TEXT = "The house is small.\n\nThe garden is large.\n\nThe roof leaks."
PLAN = """
stars:
  draft: {kind: agent, program: answer, requires: [model:slow], inputs: {task: "Describe the house."}}
  capitals:
    kind: agent
    program: follow
    requires: [model:quick]
    inputs: {task: In capitals., text: {$from: draft, $path: [answer]}}
    after: [{star: draft, on: stream}]
"""


@dataclass
class Models:
    """A model that writes as far as it is let, and one that answers at once; each part that it was asked for."""

    slow: ScriptedEngine
    asked: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def capitals(self, request: GenerationRequest) -> str:
        assert request.messages is not None
        part = request.messages[-1].text.split("\n")[1]
        self.asked.append(part)
        self.changed.set()
        return part.upper()

    async def until_asked(self, count: int) -> None:
        while len(self.asked) < count:
            self.changed.clear()
            await self.changed.wait()


@pytest.fixture
async def models(running: Fleet) -> AsyncIterator[Models]:
    """The servers run here; a worker for each of them knows it by its URL alone."""
    found = Models(ScriptedEngine(lambda request: TEXT, model="slow", paced=True))
    quick = ScriptedEngine(found.capitals, model="quick")
    await found.slow.start()
    await quick.start()
    async with serving({"slow": found.slow, "quick": quick}) as url:
        (running.folder / "worker.toml").write_text(
            f'[models.slow]\nurl = "{url}"\nmodel = "slow"\n[models.quick]\nurl = "{url}"\nmodel = "quick"\n'
        )
        yield found
    await found.slow.close()
    await quick.close()


def a_worker(running: Fleet, name: str, model: str) -> Process:
    return running.start_worker(name, "--model", model, "--config", str(running.folder / "worker.toml"))


async def check_end(client: AsyncClient, constellation: Any, models: Models) -> list[AttemptEnded]:
    """Let it write all; gives the attempts that ended badly."""
    await models.slow.allow(1_000)
    items = [item async for item in client.watch(constellation)]
    ended = items[-1]
    assert isinstance(ended, ConstellationEnded)
    assert ended.state is ConstellationState.SUCCEEDED, ended.reason
    told = "".join(c.text for item in items if isinstance(item, StreamedText) for c in item.chunks)
    assert "THE ROOF LEAKS." in told or "THE ROOF LEAKS." in json.dumps(await result(client, constellation))
    return [item for item in items if isinstance(item, AttemptEnded)]


async def result(client: AsyncClient, constellation: Any) -> Any:
    stars = (await client.get(constellation)).constellation.stars
    return {str(name): star.result for name, star in stars.items()}["capitals"]


async def test_a_child_works_on_what_its_parent_has_written_so_far(running: Fleet, models: Models) -> None:
    a_worker(running, "writer", "slow")
    a_worker(running, "follower", "quick")
    async with AsyncClient(running.address) as client:
        await attached(client, 2)
        submitted = await client.submit(Request("plan", PLAN))
        # As far as the second paragraph's first word: only then is the first one known to be whole.
        await models.slow.allow(len(split_tokens("The house is small.\n\nThe")))
        await models.until_asked(1)
        stars = (await client.get(submitted.constellation)).constellation.stars
        states = {str(name): star.state for name, star in stars.items()}
        assert (states["draft"], states["capitals"]) == (StarState.RUNNING, StarState.RUNNING)
        assert models.asked == ["The house is small."]
        assert await check_end(client, submitted.constellation, models) == []
        found = await result(client, submitted.constellation)
    assert found["answer"] == TEXT.upper()
    assert (found["parts"], found["restarts"], models.asked) == (3, 0, TEXT.split("\n\n"))


async def test_a_child_begins_anew_when_its_parent_is_lost(running: Fleet, models: Models) -> None:
    writer = a_worker(running, "writer", "slow")
    a_worker(running, "follower", "quick")
    async with AsyncClient(running.address) as client:
        await attached(client, 2)
        submitted = await client.submit(Request("plan", PLAN))
        await models.slow.allow(len(split_tokens("The house is small.\n\nThe")))
        await models.until_asked(1)
        writer.kill()
        a_worker(running, "writer", "slow")
        lost = await check_end(client, submitted.constellation, models)
        found = await result(client, submitted.constellation)
    assert {(str(record.star), record.error.code) for record in lost} == {
        ("draft", "worker_lost"),
        ("capitals", "stream_broken"),
    }
    assert (found["answer"], found["restarts"]) == (TEXT.upper(), 0)


async def test_an_orchestrator_that_comes_back_brings_the_end(running: Fleet, models: Models) -> None:
    a_worker(running, "writer", "slow")
    a_worker(running, "follower", "quick")
    async with AsyncClient(running.address) as client:
        await attached(client, 2)
        submitted = await client.submit(Request("plan", PLAN))
        await models.slow.allow(len(split_tokens("The house is small.\n\nThe")))
        await models.until_asked(1)
        running.children[0].signal(signal.SIGKILL)
        await asyncio.to_thread(running.children[0].wait)
        running.start_orchestrator("again")
        await attached(client, 2)
        assert await check_end(client, submitted.constellation, models) == []
        found = await result(client, submitted.constellation)
    assert found["answer"] == TEXT.upper()
    assert models.asked[0] == "The house is small."
