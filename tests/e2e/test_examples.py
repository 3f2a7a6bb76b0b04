"""The worked examples of `deploy/examples`, as their READMEs say, in real processes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.records import ConstellationEnded, StarFinished
from asterism.orchestrator.core.request import ConstellationState, Request
from asterism.protocol.client import AsyncClient
from asterism.workers.engine.http_server import serving
from asterism.workers.engine.scripted import ScriptedEngine
from asterism.workers.engine.seam import GenerationRequest
from asterism.workers.sandbox.confinement import find_confinement
from tests.processes import Fleet, attached

pytestmark = pytest.mark.timeout(240)

FOLDER = Path(__file__).parents[2] / "deploy" / "examples" / "fleet-report"
THERE = "/var/tmp/asterism-reports"
HOSTS = ("laptop", "server", "edge")


async def start_machines(running: Fleet, *, model: str | None = None) -> Path:
    """The three workers of the example, whose reports go to the folder that is given back."""
    reports = running.folder / "reports"
    reports.mkdir()
    text = (FOLDER / "worker.toml").read_text().replace(THERE, str(reports))
    if not (await find_confinement()).is_confined:
        text = text.replace("[tools]\n", "[tools]\nunconfined = true\n")
    if model is not None:
        text += f'\n[models.writer]\nurl = "{model}"\n'
    (running.folder / "worker.toml").write_text(text)
    # Confined tools run as another user where the worker is root: what they may write must be theirs.
    for folder in (running.folder, reports):
        folder.chmod(0o777)
    for host in HOSTS:
        more = ["--label", "reports=yes"] if host == "laptop" else []
        offered = ["--model", "none" if model is None or host != "server" else "writer"]
        if model is not None and host == "server":
            more += ["--label", "planner=writer"]
        config = ["--config", str(running.folder / "worker.toml")]
        running.start_worker(host, *offered, "--label", f"host={host}", *more, *config)
    return reports


async def approve(client: AsyncClient, constellation: Any, star: str, behind: str) -> None:
    """Say yes once what the approval shows is there."""
    async for record in client.watch(constellation):
        if isinstance(record, StarFinished) and record.star == behind:
            break
    await client.decide(constellation, StarId(star), approve=True, reason="looks right")


async def test_a_report_about_a_fleet(running: Fleet) -> None:
    if shutil.which("df") is None:
        pytest.skip("this machine has no df")
    reports = await start_machines(running)
    plan = (FOLDER / "plan.yaml").read_text().replace(THERE, str(reports))
    async with AsyncClient(running.address) as client:
        await attached(client, 3)
        submitted = await client.submit(Request("plan", plan))
        await approve(client, submitted.constellation, "publish", "judged")
        *_, ended = [record async for record in client.watch(submitted.constellation)]
        assert isinstance(ended, ConstellationEnded)
        assert ended.state is ConstellationState.SUCCEEDED, ended.reason
        picture = (await client.get(submitted.constellation)).constellation
    assert {star.attempts[0].worker for name, star in picture.stars.items() if name in HOSTS} == set(HOSTS)
    report = (reports / "fleet.md").read_text()
    assert [line.split(":")[0] for line in report.splitlines()[2:]] == ["- edge", "- laptop", "- server"]
    assert "GiB free" in report


PLAN = f"""
laptop = tool.command(argv=["df", "-P", "-k", "/"]).needs("label:host=laptop")
server = tool.command(argv=["df", "-P", "-k", "/"]).needs("label:host=server")
edge = tool.command(argv=["df", "-P", "-k", "/"]).needs("label:host=edge")
report = agent.answer(task="Which needs attention?",
    data={{"laptop": laptop.stdout, "server": server.stdout, "edge": edge.stdout}})
publish = approval(report=report)
written = tool.file.write(path="{THERE}/fleet.md", text=report.answer).after(publish).needs("label:reports=yes")
"""


async def test_the_same_from_a_request_in_words(running: Fleet) -> None:
    said = "All three disks have room; none needs attention."

    def answer(request: GenerationRequest) -> str:
        asked = str(request.messages or request.prompt)
        return plan if "one star a line" in asked else said

    engine = ScriptedEngine(answer, model="writer", context_tokens=32_768)
    await engine.start()
    async with serving({"writer": engine}) as url, AsyncClient(running.address) as client:
        reports = await start_machines(running, model=url)
        plan = PLAN.replace(THERE, str(reports))
        await attached(client, 3)
        submitted = await client.submit(Request("text", (FOLDER / "request.txt").read_text()))
        await approve(client, submitted.constellation, "publish", "report")
        *_, ended = [record async for record in client.watch(submitted.constellation)]
        assert isinstance(ended, ConstellationEnded)
        assert ended.state is ConstellationState.SUCCEEDED, ended.reason
        picture = (await client.get(submitted.constellation)).constellation
    await engine.close()
    assert (reports / "fleet.md").read_text() == said
    assert json.dumps(picture.stars[StarId("report")].result).count(said) == 1
    # The model was given what the tools found.
    asked = str(engine.requests[-1].messages)
    assert asked.count("Mounted on") == 3
