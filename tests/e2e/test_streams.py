"""A star that follows what another one writes, through real processes: it begins before that one has ended."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.records import AttemptEnded, ConstellationEnded
from asterism.orchestrator.core.request import ConstellationState, Request
from asterism.orchestrator.core.star import StarState
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


@dataclass
class Story:
    """A request of which the first paragraph has been written and done."""

    client: AsyncClient
    constellation: ConstellationId
    writer: Process

    async def end(self, models: Models) -> tuple[dict[str, Any], list[AttemptEnded]]:
        """Let the model write all; gives the child's result, and the attempts that ended badly."""
        await models.slow.allow(1_000)
        items = [item async for item in self.client.watch(self.constellation)]
        ended = items[-1]
        assert isinstance(ended, ConstellationEnded)
        assert ended.state is ConstellationState.SUCCEEDED, ended.reason
        stars = (await self.client.get(self.constellation)).constellation.stars
        result: Any = stars[StarId("capitals")].result
        return result, [item for item in items if isinstance(item, AttemptEnded)]


@pytest.fixture
async def story(running: Fleet, models: Models) -> AsyncIterator[Story]:
    writer = a_worker(running, "writer", "slow")
    a_worker(running, "follower", "quick")
    async with AsyncClient(running.address) as client:
        await attached(client, 2)
        submitted = await client.submit(Request("plan", PLAN))
        # As far as the second paragraph's first word: only then is the first one known to be whole.
        await models.slow.allow(len(split_tokens("The house is small.\n\nThe")))
        await models.until_asked(1)
        yield Story(client, submitted.constellation, writer)


async def test_a_child_works_on_what_its_parent_has_written_so_far(models: Models, story: Story) -> None:
    stars = (await story.client.get(story.constellation)).constellation.stars
    states = {str(name): star.state for name, star in stars.items()}
    assert (states["draft"], states["capitals"]) == (StarState.RUNNING, StarState.RUNNING)
    assert models.asked == ["The house is small."]
    found, ended = await story.end(models)
    assert (found["answer"], ended) == (TEXT.upper(), [])
    assert (found["parts"], found["restarts"], models.asked) == (3, 0, TEXT.split("\n\n"))


async def test_a_child_begins_anew_when_its_parent_is_lost(running: Fleet, models: Models, story: Story) -> None:
    story.writer.kill()
    a_worker(running, "writer", "slow")
    found, ended = await story.end(models)
    assert {(str(record.star), record.error.code) for record in ended} == {
        ("draft", "worker_lost"),
        ("capitals", "stream_broken"),
    }
    assert (found["answer"], found["restarts"]) == (TEXT.upper(), 0)


# A process needs seconds to start where others do too; what a worker does for longer than its lease is lost.
@pytest.mark.parametrize("lease_s", [60.0])
async def test_an_orchestrator_that_comes_back_brings_the_end(running: Fleet, models: Models, story: Story) -> None:
    running.children[0].kill()
    running.start_orchestrator("again")
    await attached(story.client, 2)
    found, ended = await story.end(models)
    assert (found["answer"], ended) == (TEXT.upper(), [])
    assert models.asked[0] == "The house is small."
