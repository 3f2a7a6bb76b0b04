"""A request in words through real processes: a model behind an OpenAI-compatible server plans, mends and answers."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from asterism.orchestrator.core.records import ConstellationEnded, EditsApplied
from asterism.orchestrator.core.request import ConstellationState, Request
from asterism.orchestrator.core.star import StarState
from asterism.protocol.answers import StreamedText
from asterism.protocol.client import AsyncClient
from asterism.workers.engine.http_server import serving
from asterism.workers.engine.scripted import ScriptedEngine
from asterism.workers.engine.seam import GenerationRequest
from tests.processes import Fleet, attached

pytestmark = pytest.mark.timeout(240)

FACTS = "\n".join(f'fact{number} = tool.noop(town="Lyon", number={number})' for number in range(17))
PLAN = f"""{FACTS}
board = tool.countdown.search(numbers=NUMBERS, target=3)
report = agent.answer(task="Say in one sentence how it went.", data={{"fact": fact3, "board": board}})
"""
MENDED = {
    "thought": "the board was given as words",
    "edits": [
        {
            "op": "add",
            "star": {
                "id": "board_again",
                "kind": "tool",
                "program": "countdown.search",
                "inputs": {"numbers": [1, 2, 4], "target": 3},
            },
        },
        {"op": "rebind", "star": "report", "inputs": {"data.board": {"$from": "board_again"}}},
        {"op": "unlink", "parent": "board", "child": "report"},
    ],
}


class Writer:
    """Answers as a planner, a mender or a writer, by what it is asked; `calls` says how often each."""

    def __init__(self, plan: str) -> None:
        self.plan = plan
        self.calls: dict[str, int] = {}

    def __call__(self, request: GenerationRequest) -> str:
        asked = str(request.messages or request.prompt)
        kind, text = "answer", "All went well in Lyon."
        if "You mend a graph" in asked:
            kind, text = "mend", json.dumps(MENDED)
        elif "one star a line" in asked:
            kind, text = "plan", self.plan
        self.calls[kind] = self.calls.get(kind, 0) + 1
        return text


@pytest.fixture(params=['["one", "two"]', "[1, 2, 4]"], ids=["one failure", "clean"])
async def writer(request: pytest.FixtureRequest, running: Fleet) -> AsyncIterator[Writer]:
    """The server runs here; the worker knows it by its URL alone."""
    script = Writer(PLAN.replace("NUMBERS", str(request.param)))
    engine = ScriptedEngine(script, model="big", context_tokens=32_768)
    await engine.start()
    async with serving({"big": engine}) as url:
        (running.folder / "worker.toml").write_text(f'[models.big]\nurl = "{url}"\n')
        flags = ("--model", "big", "--label", "planner=big", "--config", str(running.folder / "worker.toml"))
        running.start_worker("w1", *flags)
        yield script
    await engine.close()


def said(running: Fleet, command: str, constellation: str, *options: str) -> str:
    """What a command prints that succeeds."""
    child = running.start(command, [command, constellation, *options, "--address", running.address])
    assert child.wait() == 0, child.read()
    return child.read()


async def test_twenty_stars_take_one_call_to_plan_and_one_to_mend(running: Fleet, writer: Writer) -> None:
    fails = "one" in writer.plan.split("board = ")[1].split("\n")[0]
    async with AsyncClient(running.address) as client:
        await attached(client, 1)
        submitted = await client.submit(Request("text", "How is it going in Lyon? Write a sentence."))
        items = [item async for item in client.watch(submitted.constellation)]
        records = [item for item in items if not isinstance(item, StreamedText)]
        ended = records[-1]
        assert isinstance(ended, ConstellationEnded)
        assert ended.state is ConstellationState.SUCCEEDED, ended.reason
        picture = (await client.get(submitted.constellation)).constellation
        told = json.loads(
            await asyncio.to_thread(said, running, "history", submitted.constellation, "--output", "json")
        )
        assert len(told["revisions"]) == picture.revision
        assert str(len(records)) in await asyncio.to_thread(said, running, "replay", submitted.constellation)
    states = {str(name): star.state for name, star in picture.stars.items()}
    results: dict[str, Any] = {str(name): star.result for name, star in picture.stars.items()}
    assert picture.answer()["report"] == results["report"]
    assert "All went well in Lyon." in json.dumps(results["report"])
    assert states["report"] is StarState.SUCCEEDED
    assert writer.calls == ({"plan": 1, "mend": 1, "answer": 1} if fails else {"plan": 1, "answer": 1})
    attempts = {name: len(star.attempts) for name, star in picture.stars.items()}
    assert set(attempts.values()) == {1}
    if fails:
        assert states["board"] is StarState.FAILED
        assert states["board_again"] is StarState.SUCCEEDED
        asked = [record for record in records if isinstance(record, EditsApplied) and record.by == "policy"]
        # A star that the plan adds behind the failure meanwhile is held by an edit of its own.
        (reason,) = [record.reason for record in asked if record.reason]
        assert reason.startswith("board has failed: ")
