"""Tools of a worker's file in real processes: a sandboxed one and one of an MCP server, as stars of one plan."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from asterism.orchestrator.core.records import ConstellationEnded
from asterism.orchestrator.core.request import ConstellationState, Request
from asterism.protocol.client import AsyncClient
from asterism.workers.sandbox.confinement import find_confinement
from tests.processes import Fleet, attached

pytestmark = pytest.mark.timeout(240)
ROOT = Path(__file__).parents[2]


async def test_a_plan_runs_code_and_asks_a_server(running: Fleet) -> None:
    is_confined = (await find_confinement()).is_confined
    (running.folder / "worker.toml").write_text(
        f"""
[tools]
enable = ["python"]
unconfined = {"false" if is_confined else "true"}

[mcp.notes]
command = {json.dumps(sys.executable)}
args = ["-m", "tests.mcp.server", "stdio", {json.dumps(str(running.folder))}]
cwd = {json.dumps(str(ROOT))}
"""
    )
    running.start_worker("w1", "--model", "none", "--config", str(running.folder / "worker.toml"))
    code = "import os; print(os.path.exists('/etc/shadow'), 6 * 7)"
    stars: list[dict[str, Any]] = [
        {"id": "code", "kind": "tool", "program": "python", "requires": ["tool:python"], "inputs": {"code": code}},
        {
            "id": "sum",
            "kind": "tool",
            "program": "notes.add",
            "requires": ["tool:notes.add"],
            "inputs": {"a": 40, "b": 2},
        },
    ]
    async with AsyncClient(running.address) as client:
        await attached(client, 1)
        (worker,) = await client.workers()
        described = {one.capability: one for one in worker.profile.descriptions}
        assert described["tool:notes.add"].effect.value == "idempotent"
        assert described["tool:python"].effect.value == ("idempotent" if is_confined else "none")
        submitted = await client.submit(Request("plan", json.dumps({"stars": stars})))
        *_, ended = [record async for record in client.watch(submitted.constellation)]
        assert isinstance(ended, ConstellationEnded)
        assert ended.state is ConstellationState.SUCCEEDED, ended.reason
        picture = await client.get(submitted.constellation)
        results: dict[str, Any] = {str(name): one.result for name, one in picture.constellation.stars.items()}
    assert results["sum"] == {"result": 42}
    assert results["code"]["stdout"] == f"{not is_confined} 42\n"
