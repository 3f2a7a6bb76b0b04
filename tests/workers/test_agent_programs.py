"""The programs that talk, on a worker: a scripted engine, the real runner, and real tools in processes of their own."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from asterism.agents.asks import Json
from asterism.agents.registry import PROGRAMS
from asterism.orchestrator.core.star import StarKind
from asterism.workers.engine.plain_chat import request_text
from asterism.workers.engine.scripted import ScriptedEngine
from asterism.workers.engine.seam import GenerationRequest
from asterism.workers.reports import Succeeded
from asterism.workers.runner import Runner
from asterism.workers.sandbox.confinement import find_confinement
from asterism.workers.step_threads import StepThreads
from asterism.workers.tool_providers import open_tools
from asterism.workers.tool_settings import ToolSettings
from asterism.workers.tools import Toolbox
from tests.agents.talker import step
from tests.workers.making import RecordingPort, an_assignment

BOARD: dict[str, Json] = {"numbers": [4, 6, 8, 3], "target": 24}


def write(request: GenerationRequest) -> str:
    """First searches a board and runs code side by side, then answers with what the tools have said."""
    prompt = request_text(request)
    if "result 2 of python" not in prompt:
        return json.dumps(step(("countdown.search", BOARD), ("python", {"code": "print(6 * 7)"})))
    return json.dumps(step(answer={"solved": '"solvable": true' in prompt, "said": "42" in prompt}))


@pytest.fixture
async def real_tools() -> AsyncIterator[Toolbox]:
    settings = ToolSettings(enable=("python",), unconfined=not (await find_confinement()).is_confined)
    async with open_tools(settings, at_once=2) as tools:
        yield tools


async def run(tools: Toolbox, write: Any, program: str, inputs: dict[str, Json]) -> Any:
    engine = ScriptedEngine(write)
    await engine.start()
    functions = {name: spec.function for name, spec in PROGRAMS.items()}
    runner = Runner(
        programs=functions, tools=tools, engines={"scripted": engine}, port=RecordingPort(), steps=StepThreads()
    )
    report = await runner.run(an_assignment(program, inputs=inputs, kind=StarKind.AGENT))
    await engine.close()
    assert isinstance(report, Succeeded), report
    return json.loads(report.result_json)


async def test_a_tool_loop_calls_real_tools_side_by_side(real_tools: Toolbox) -> None:
    value = await run(real_tools, write, "react", {"task": "solve it", "tools": ["countdown.search", "python"]})
    assert value["answer"] == {"solved": True, "said": True}
    assert [(call["tool"], call["ok"]) for call in value["calls"]] == [("countdown.search", True), ("python", True)]


async def test_parts_are_summarised_side_by_side_by_a_real_runner(real_tools: Toolbox) -> None:
    outcomes: dict[str, Json] = {
        f"s{number}": {"state": "SUCCEEDED", "result": "x" * 3_000, "error": None} for number in range(8)
    }
    inputs: dict[str, Json] = {"task": "join", "outcomes": outcomes, "context_characters": 8_000}
    value = await run(real_tools, lambda request: "short", "gather", inputs)
    assert (value["answer"], value["rounds"]) == ("short", 1)
