"""The program as its users meet it: real processes against a scripted orchestrator; output, errors and exit codes."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from asterism.orchestrator.core.constellation import Pause
from tests.cli.peer import Peer
from tests.cli.shell import Shell, ended
from tests.cli.test_progress import PLAIN

DEAD = "127.0.0.1:9"
"""The discard port, where nobody listens."""


async def test_run_prints_progress_on_stderr_and_the_answer_on_stdout(shell: Shell, peer: Peer) -> None:
    result = await shell.run("run", "1 2 3 4", "--graph", "g.svg", ASTERISM_ADDRESS=peer.address)
    assert (result.code, result.out) == (0, "1 2 3 4: (1+2+3)*4\n")
    assert result.err.startswith(PLAIN)
    assert "SUCCEEDED in 2.8s: 4 stars, revision 3 (1 made while stars ran), 3 workers  [c1]" in result.err
    assert "\x1b" not in result.err
    assert (peer.submitted[0].request.form, peer.submitted[0].request.text) == ("boards", "1 2 3 4")
    ElementTree.parse(shell.home / "g.svg")


async def test_run_as_json_prints_one_object(shell: Shell, peer: Peer) -> None:
    result = await shell.run("run", "hello", "--quiet", "--output", "json", "--address", peer.address)
    picture = json.loads(result.out)
    assert (result.code, result.err) == (0, "")
    assert picture["answer"] == {"report": {"text": "1 2 3 4: (1+2+3)*4"}}
    assert [item["after_execution_began"] for item in picture["revisions"]] == [False, False, True]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_cancels_the_request_and_waits_for_its_end(
    shell: Shell, peer: Peer, number: signal.Signals
) -> None:
    process = await shell.start("run", "slow", "--address", peer.address)
    await peer.is_watched.wait()
    process.send_signal(number)
    result = await ended(process)
    assert result.code == 130
    assert peer.cancelled == ["interrupted by its user"]
    assert "cancelling the request; Ctrl-C again leaves at once" in result.err
    assert "error: c1 CANCELLED: interrupted by its user" in result.err


async def test_a_second_ctrl_c_leaves_at_once(shell: Shell, peer: Peer) -> None:
    peer.is_stubborn = True
    process = await shell.start("run", "slow", "--address", peer.address)
    await peer.is_watched.wait()
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    async for line in process.stderr:
        if line.startswith(b"cancelling"):
            break
    process.send_signal(signal.SIGINT)
    assert (await ended(process)).code == 130


async def test_bad_input_is_refused_with_one_clear_line(shell: Shell, peer: Peer) -> None:
    result = await shell.run("submit", "bad", "--address", peer.address)
    assert (result.code, result.out) == (2, "")
    first, second = result.err.splitlines()
    assert first == "error: request.text: line 1, column 1: I do not understand 'bad'"
    assert second.startswith("hint: ")


async def test_usage_errors_exit_with_2(shell: Shell) -> None:
    assert (await shell.run("graph", "--format", "png")).code == 2
    assert (await shell.run("conquer")).code == 2
    result = await shell.run("run", "no-such-file.yaml")
    assert (result.code, "there is no file 'no-such-file.yaml'" in result.err) == (2, True)


@pytest.mark.parametrize("command", ["list", "workers", "get", "submit"])
async def test_nobody_there_exits_with_3(shell: Shell, command: str) -> None:
    result = await shell.run(command, *(["hello"] if command == "submit" else []), "--address", DEAD)
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith(f"error: cannot reach {DEAD}")
    assert "asterism up" in result.err


async def test_submit_prints_the_id(shell: Shell, peer: Peer) -> None:
    result = await shell.run("submit", "hello", "--request-id", "mine", "--max-stars", "9", "--address", peer.address)
    assert (result.code, result.out) == (0, "c1\n")
    assert (peer.submitted[0].request_id, peer.submitted[0].budget.stars) == ("mine", 9)


async def test_watch_as_json_prints_a_line_for_each_record_and_text(shell: Shell, peer: Peer) -> None:
    result = await shell.run("watch", "--output", "json", "--after", "6", "--address", peer.address)
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert result.code == 0
    assert [next(iter(line)) for line in lines[:3]] == ["attempt_leased", "streamed_text", "edits_refused"]
    assert lines[1]["streamed_text"]["chunks"] == [{"thread": "t1", "text": "1 + 2 = 3", "tokens": 5}]
    assert lines[4]["attempt_leased"]["seq"] == 10
    assert lines[5]["edits_applied"]["edits"] == [{"cancel_star": {"star": "b01-b"}}]
    assert lines[-1]["constellation_ended"]["state"] == "SUCCEEDED"


async def test_get_and_list_show_tables_without_colour(shell: Shell, peer: Peer) -> None:
    got = await shell.run("get", "c1", "--address", peer.address)
    listed = await shell.run("list", "--address", peer.address)
    assert (got.code, listed.code) == (0, 0)
    assert "b01-a   reason  reason.countdown  SUCCEEDED  w3        2  1.0s" in got.out
    assert got.out.endswith("1 2 3 4: (1+2+3)*4\n")
    assert "c1  boards.txt  SUCCEEDED    4/4" in listed.out
    assert "\x1b" not in got.out + listed.out


async def test_get_says_what_a_star_waits_for(shell: Shell, peer: Peer) -> None:
    await shell.run("submit", "slow", "--address", peer.address)
    result = await shell.run("get", "--output", "json", "--address", peer.address)
    stars = {star["id"]: star for star in json.loads(result.out)["stars"]}
    assert stars["report"]["waiting_for"] == "its parents b01-a, b01-b"


async def test_get_says_who_holds_a_request_back_and_why(shell: Shell, peer: Peer) -> None:
    free = await shell.run("get", "--output", "json", "--address", peer.address)
    peer.pause = Pause("client:ann", "night", 1_000_000.5)
    held = await shell.run("get", "--output", "json", "--address", peer.address)
    text = await shell.run("get", "--address", peer.address)
    assert json.loads(free.out)["paused"] is None
    assert json.loads(held.out)["paused"] == {"by": "client:ann", "reason": "night", "at": 1_000_000.5}
    line = text.out.splitlines()[2]
    assert line.startswith("paused by client:ann since 1970-01-1")
    assert line.endswith(": night  (asterism resume c1 lets it go on)")


async def test_an_unknown_request_exits_with_2(shell: Shell, peer: Peer) -> None:
    result = await shell.run("graph", "nonesuch", "--address", peer.address)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: no constellation named 'nonesuch'\nhint: ")


async def test_graph_writes_the_form_that_the_file_asks_for(shell: Shell, peer: Peer) -> None:
    assert (await shell.run("graph", "-o", "g.json", "--address", peer.address)).code == 0
    assert json.loads((shell.home / "g.json").read_text())["workers"] == ["w1", "w2", "w3"]
    tree = await shell.run("graph", "--address", peer.address)
    assert tree.out.splitlines()[0] == "boards.txt — SUCCEEDED, revision 3"
    assert (await shell.run("graph", "-o", "g.png", "--address", peer.address)).code == 2
    assert (await shell.run("graph", "-o", "no/such/folder.svg", "--address", peer.address)).code == 2


async def test_cancel_and_retry_say_what_they_did(shell: Shell, peer: Peer) -> None:
    cancelled = await shell.run("cancel", "c1", "--reason", "enough", "--address", peer.address)
    retried = await shell.run("retry", "c1", "--output", "json", "--address", peer.address)
    assert (cancelled.out, peer.cancelled) == ("c1 is cancelled\n", ["enough"])
    assert json.loads(retried.out) == {"id": "c1", "revision": 4}


async def test_approval_and_rejection_carry_who_why_and_what(shell: Shell, peer: Peer) -> None:
    to = ("--address", peer.address)
    yes = await shell.run("approve", "c1", "ask", "--reason", "looks right", "--value", '{"limit": 3}', *to)
    no = await shell.run("reject", "c1", "ask2", "--output", "json", *to)
    unreadable = await shell.run("approve", "c1", "ask", "--value", "yes", *to)
    assert peer.decided == [("ask", True, "looks right", '{"limit":3}'), ("ask2", False, "", "")]
    assert yes.out == "ask of c1 is approved\n"
    assert json.loads(no.out) == {"id": "c1", "star": "ask2", "decision": "rejected"}
    assert unreadable.code == 2
    assert "text goes in double quotes" in unreadable.err


async def test_pause_says_how_to_let_it_go_on(shell: Shell, peer: Peer) -> None:
    held = await shell.run("pause", "c1", "--reason", "night", "--address", peer.address)
    on = await shell.run("resume", "c1", "--address", peer.address)
    assert (held.out, on.out) == ("c1 is paused; asterism resume c1 lets it go on\n", "c1 goes on\n")
    assert peer.paused == [(True, "night"), (False, "")]


async def test_workers_are_listed_drained_and_labelled(shell: Shell, peer: Peer) -> None:
    listed = await shell.run("workers", "--output", "json", "--address", peer.address)
    assert json.loads(listed.out)["workers"][0]["labels"] == {"zone": "lab"}
    assert "w1      attached    1/2  4" in (await shell.run("workers", "--address", peer.address)).out
    await shell.run("workers", "drain", "w1", "--address", peer.address)
    await shell.run("workers", "undrain", "w1", "--address", peer.address)
    await shell.run("workers", "label", "w1", "zone=attic", "old-", "--address", peer.address)
    assert peer.drained == [("w1", True), ("w1", False)]
    assert peer.labelled == [({"zone": "attic"}, ["old"])]


async def test_doctor_reports_every_finding(shell: Shell, peer: Peer) -> None:
    result = await shell.run("doctor", "--output", "json", "--address", peer.address)
    findings = {item["subject"]: item for item in json.loads(result.out)["findings"]}
    assert findings["orchestrator"]["found"] == f"{peer.address} (from flag)"
    assert findings["workers"]["found"] == "1 worker with 2 slots"
    assert {"python", "asterism", "data folder", "models"} <= set(findings)
    assert result.code == int(any(item["level"] == "fail" for item in findings.values()))


async def test_doctor_asks_the_servers_of_the_workers_file(shell: Shell, peer: Peer, tmp_path: Path) -> None:
    file = tmp_path / "worker.toml"
    file.write_text('[models.gone]\nurl = "http://127.0.0.1:9/v1"\nmodel = "large"\n')
    result = await shell.run("doctor", "--output", "json", "--address", peer.address, ASTERISM_WORKER_CONFIG=str(file))
    findings = {item["subject"]: item for item in json.loads(result.out)["findings"]}
    assert findings["models.gone"]["level"] == "fail"
    assert "http://127.0.0.1:9/v1" in findings["models.gone"]["found"]
    assert "start the server" in findings["models.gone"]["advice"]
    assert result.code == 1
    file.write_text("[models.gone]\nurl = 3\n")
    result = await shell.run("doctor", "--output", "json", "--address", peer.address, ASTERISM_WORKER_CONFIG=str(file))
    findings = {item["subject"]: item for item in json.loads(result.out)["findings"]}
    assert "models.gone.url" in findings["the worker's file"]["found"]


async def test_help_and_version_need_neither_grpc_nor_rich(shell: Shell) -> None:
    code = (
        "import sys\nfrom asterism.protocol.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n"
        "    loud = {'grpc', 'rich', 'torch', 'sqlalchemy', 'pydantic', 'networkx'} & set(sys.modules)\n"
        "    print(end.code, sorted(loud))"
    )
    for argument in ("--help", "--version"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, argument, cwd=shell.home, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert out.decode().splitlines()[-1] == "0 []"


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        (["serve"], "pydantic_settings", "orchestrator"),
        (["work"], "structlog", "worker"),
        (["edit", "c1"], "yaml", "orchestrator"),
    ],
)
async def test_a_command_without_its_extra_names_it(shell: Shell, command: list[str], module: str, extra: str) -> None:
    code = f"import sys\nsys.modules[{module!r}] = None\nfrom asterism.protocol.cli import main\nmain({command!r})"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=shell.home, stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    assert process.returncode == 2
    assert err.decode().startswith(
        f"error: asterism {command[0]} needs the {extra} extra ({module} is not installed)\n"
    )
    assert f"hint: pip install 'asterism[{extra}]'" in err.decode()
