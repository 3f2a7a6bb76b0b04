"""A runner over a scripted engine."""

from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from asterism.agents.asks import Effect, Json, ToolDescription
from asterism.agents.tools import ToolSpec
from asterism.workers.engine.scripted import ScriptedEngine
from asterism.workers.engine.seam import GenerationRequest, prompt_text
from asterism.workers.runner import ProgramFunction, Runner
from asterism.workers.step_threads import StepThreads
from asterism.workers.tools import Toolbox
from tests.workers.making import RecordingPort

MakeRunner = Callable[[ProgramFunction], Runner]


def double(arguments: Mapping[str, Json]) -> Json:
    number = arguments["number"]
    assert isinstance(number, int)
    return number * 2


@pytest.fixture
def port() -> RecordingPort:
    return RecordingPort()


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedEngine]:
    """Says `one two three` after any prompt, at once."""
    scripted = ScriptedEngine(lambda request: " one two three")
    await scripted.start()
    yield scripted
    await scripted.close()


def _asked(request: GenerationRequest) -> str:
    return request.messages[-1].text if request.messages else prompt_text(request.prompt)


@pytest.fixture
async def paced_engine() -> AsyncIterator[ScriptedEngine]:
    """Says as many words as the prompt's last one asks for, one for each permit."""
    scripted = ScriptedEngine(lambda request: " word" * int(_asked(request).split()[-1]), paced=True)
    await scripted.start()
    yield scripted
    await scripted.close()


@pytest.fixture
async def tools() -> AsyncIterator[Toolbox]:
    spec = ToolSpec(double, ToolDescription(name="double", summary="Twice a number", effect=Effect.PURE), is_quick=True)
    async with Toolbox([], {"double": spec}) as toolbox:
        yield toolbox


@pytest.fixture
def make_runner(port: RecordingPort, engine: ScriptedEngine, tools: Toolbox) -> MakeRunner:
    """A runner that knows one program, `test.program`."""

    def make(program: ProgramFunction) -> Runner:
        return Runner(
            programs={"test.program": program},
            tools=tools,
            engines={"scripted": engine},
            port=port,
            steps=StepThreads(),
        )

    return make
