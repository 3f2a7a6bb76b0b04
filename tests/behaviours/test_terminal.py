"""Words of another machine are shown by the program and obeyed by nobody: none may drive the user's terminal."""

import json
from pathlib import Path

import pytest

from asterism.protocol.v1 import client_pb2, types_pb2, worker_pb2
from asterism.protocol.view.json_text import json_text
from tests.cli.shell import Shell
from tests.orchestrator.serving import Peer, code_of, served

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\x7f\u202eevil\u2028"
PLAN = json.dumps({"stars": {name: {"kind": "tool", "program": "noop", "title": EVIL} for name in ("good", "bad")}})


@pytest.mark.parametrize(
    "arguments",
    [
        ("get",),
        ("get", "--output", "json"),
        ("list",),
        ("list", "--output", "json"),
        ("watch",),
        ("watch", "--output", "json"),
        ("workers",),
        ("workers", "--output", "json"),
        *(("graph", "--format", form) for form in ("tree", "json", "mermaid", "dot", "svg")),
    ],
    ids=" ".join,
)
async def test_no_command_prints_a_control_character(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    async with served(tmp_path / "data") as orchestrator, Peer(orchestrator.address) as peer:
        worker = await peer.attach()
        request = types_pb2.Request(form="plan", text=PLAN, name=f"plan{EVIL}")
        batch = types_pb2.EditBatch(edits=[_star("good"), _star("bad")])
        await peer.client.Submit(client_pb2.SubmitRequest(request_id="evil", request=request))
        await worker.finish((await worker.assignment()).fencing_token, edits=batch)
        given: list[worker_pb2.Assignment] = []
        while len(given) < 2:
            given += (await worker.read()).assignments
        tokens = {one.star: one.fencing_token for one in given}
        await worker.finish(tokens["good"], result=json.dumps({EVIL: [EVIL]}, ensure_ascii=False))
        error = types_pb2.StarError(code="evil", message=EVIL)
        failed = worker_pb2.Finished(fencing_token=tokens["bad"], error=error)
        await worker.call.write(worker_pb2.WorkerFrame(finished=[failed]))
        assert await _ended(peer)
        said = await Shell(tmp_path).run(*arguments, "--address", orchestrator.address)
    assert said.out
    assert {char for char in said.out + said.err if not char.isprintable()} <= {"\n"}


def test_json_text_reads_back_as_it_was() -> None:
    value = {EVIL: [EVIL, "ä😀\n\t\\u009b"], "ü": None}
    assert json.loads(json_text(value)) == value
    assert "ü" in json_text(value, indent=2)


async def _ended(peer: Peer) -> bool:
    page = await peer.client.ListConstellations(client_pb2.ListConstellationsRequest())
    call = peer.watch(page.constellations[0].id)
    return (await code_of(call)).name == "OK"


def _star(name: str) -> types_pb2.Edit:
    spec = types_pb2.StarSpec(id=name, kind=types_pb2.STAR_KIND_TOOL, program="noop", title=EVIL)
    spec.retry.CopyFrom(types_pb2.RetryPolicy(max_attempts=1, multiplier=1.0))
    return types_pb2.Edit(add_star=types_pb2.Edit.AddStar(spec=spec))
