"""A person edits a request while it runs, through real processes; history tells it, and replay agrees after a kill."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.records import EditsApplied, StarFinished
from asterism.orchestrator.core.request import ConstellationState, Request
from asterism.protocol.client import AsyncClient
from tests.processes import Fleet, attached

pytestmark = pytest.mark.timeout(120)

PLAN = """\
stars:
  first: {kind: tool, program: noop, inputs: {x: 1}}
  rated: {kind: map, over: {$from: first, $path: [items]}, after: [ask],
          each: {kind: tool, program: noop, inputs: {item: {$item: true}}}}
  ask: {kind: approval, after: [first], inputs: {question: Shall we?}}
  report: {kind: tool, program: noop, inputs: {was: {$from: first}}, after: [ask], title: The report}
"""


def asked(fleet: Fleet, name: str, *arguments: str, **environment: str) -> str:
    """The output of one of our commands."""
    child = fleet.start(name, [*arguments, "--address", fleet.address], prepare=None, **environment)
    code = child.wait()
    assert code == 0, child.read()
    return child.read()


def as_json(fleet: Fleet, name: str, *arguments: str) -> Mapping[str, Any]:
    told: Mapping[str, Any] = json.loads(asked(fleet, name, *arguments, "--output", "json"))
    return told


async def test_an_edit_of_a_running_request_stands_in_its_history_and_replays(running: Fleet) -> None:
    running.start_worker("ada", "--model", "none", "--slots", "2")
    async with AsyncClient(running.address) as client:
        await attached(client, 1)
        of = (await client.submit(Request("plan", PLAN))).constellation
        async for record in client.watch(of, with_text=False):
            if isinstance(record, StarFinished) and record.star == "first":
                break
        before = await planned(client, of)

        script = running.folder / "editor.py"
        script.write_text(
            "import pathlib, re, sys\n"
            "path = pathlib.Path(sys.argv[-1])\n"
            "text = path.read_text().replace('The report', 'A report')\n"
            "text = re.sub(r'  rated:.*\\n(    .*\\n)*', '', text)\n"  # the map goes
            "text += '  last: {kind: tool, program: noop, inputs: {of: {$from: report}, too: {$from: first}}}\\n'\n"
            "path.write_text(text)\n"
        )
        editor = f"{sys.executable} {script}"
        clean = {"VISUAL": "", "TMPDIR": str(running.folder)}
        said = asked(running, "edit", "edit", of, "--yes", "--reason", "too dear", EDITOR=editor, **clean)
        assert "- rated.each" in said
        assert f"{of} is at revision {before + 1}" in said

        listed = as_json(running, "history", "history", of)["revisions"]
        assert [item["revision"] for item in listed] == list(range(1, before + 2))
        assert (listed[-1]["by"], listed[-1]["reason"]) == ("client:local", "too dear")
        told = as_json(running, "diff", "history", of, "--diff", f"{before}..{before + 1}")
        assert [star["star"] for star in told["added"]] == ["last"]
        assert sorted(told["removed"]) == ["rated", "rated.each"]
        assert told["changed"][0]["fields"] == [{"field": "title", "before": "The report", "after": "A report"}]

        running.children[0].kill()
        running.start_orchestrator("again")
        assert as_json(running, "replay-1", "replay", of)["is_equal"] is True
        await client.decide(of, StarId("ask"), approve=True)
        assert (await client.wait(of)).state is ConstellationState.SUCCEEDED
        last = as_json(running, "replay-2", "replay", of)
        assert (last["is_equal"], last["state"]) == (True, "SUCCEEDED")
        assert sorted(last["stars"]) == ["ask", "first", "last", "plan", "report"]
        early = as_json(running, "replay-3", "replay", of, "--until", str(before))
        assert "rated" in early["stars"]
        drawn = as_json(running, "drawn", "history", of, "--revision", str(before))
        assert sorted(star["id"] for star in drawn["stars"]) == sorted(early["stars"])


async def planned(client: AsyncClient, of: ConstellationId) -> int:
    """The revision at which the plan star has ended: no edit but ours comes after it."""
    revision = 0
    async for record in client.watch(of, with_text=False):
        if isinstance(record, EditsApplied):
            revision = record.revision
        if isinstance(record, StarFinished) and record.star == "plan":
            break
    return revision
