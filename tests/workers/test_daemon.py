"""The worker as a real process against a scripted orchestrator."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asterism.orchestrator.core.errors import Unauthenticated
from asterism.orchestrator.core.ids import FencingToken
from asterism.orchestrator.core.star import StarKind
from tests.workers.making import an_assignment
from tests.workers.peer import Peer, serving

COMMAND = (sys.executable, "-m", "asterism.protocol.cli", "work", "--model", "none", "--slots", "4", "--name", "w1")


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    async with serving(peer):
        yield peer


@asynccontextmanager
async def worker(peer: Peer, *flags: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "--join", peer.address, *flags, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_worker_offers_runs_tools_and_leaves_when_told(peer: Peer) -> None:
    async with worker(peer, "--label", "zone=lab") as process:
        stream = await peer.next_stream()
        hello = await stream.welcome()
        assert "countdown.search" in hello.profile.tools
        assert "plan" in hello.profile.programs
        assert "reason.countdown" not in hello.profile.programs  # it needs a model
        assert hello.profile.labels["zone"] == "lab"
        tool_star = {"kind": StarKind.TOOL, "model": None}
        await stream.assign(
            an_assignment("noop", **tool_star, fencing_token=FencingToken(1), inputs={"x": 1}),
            an_assignment(
                "countdown.search", **tool_star, fencing_token=FencingToken(2), inputs={"numbers": [4, 6, 8, 3]}
            ),
        )
        finished = await stream.hear_finished(2)
        assert finished[0].result_json == '{"x":1}'
        assert '"solvable":true' in finished[1].result_json
        await stream.say(acknowledged=[1, 2])
        process.send_signal(signal.SIGTERM)
        while (frame := await stream.hear()) is not None and not frame.goodbye:
            pass
        assert frame is not None
        stream.close()
        assert await process.wait() == 0


async def test_second_signal_leaves_at_once(peer: Peer) -> None:
    async with worker(peer) as process:
        stream = await peer.next_stream()
        await stream.welcome()
        assignment = an_assignment(
            "countdown.search", kind=StarKind.TOOL, model=None, inputs={"numbers": [1, 1, 1, 1, 1, 1], "target": 999}
        )
        await stream.assign(assignment)
        await stream.catch_up()
        process.send_signal(signal.SIGINT)
        while (frame := await stream.hear()) is not None and not frame.draining:
            pass
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_a_signal_ends_a_worker_that_still_starts(peer: Peer, tmp_path: Path, number: int, code: int) -> None:
    os.mkfifo(begun := tmp_path / "begun")
    silent = f"import sys; open({str(begun)!r}, 'w').close(); sys.stdin.read()"
    config = tmp_path / "worker.toml"
    config.write_text(f"[mcp.silent]\ncommand = {json.dumps(sys.executable)}\nargs = {json.dumps(['-c', silent])}\n")
    async with worker(peer, "--config", str(config)) as process:
        await asyncio.to_thread(begun.read_text)
        process.send_signal(number)
        assert await process.wait() == code


async def test_refused_identity_ends_the_worker_with_its_reason(peer: Peer) -> None:
    async with worker(peer) as process:
        stream = await peer.next_stream()
        await stream.hear()  # a peer that ends in the midst of its first read may never end
        stream.close(Unauthenticated("this credential has ended"))
        assert process.stderr is not None
        said = (await process.stderr.read()).decode()
        assert await process.wait() != 0
        assert "this credential has ended" in said
        assert "Traceback" not in said


async def test_model_that_is_not_there_is_named_and_the_exit_code_says_so() -> None:
    process = await asyncio.create_subprocess_exec(*COMMAND[:4], "--model", "missing", stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode not in (0, None)
    assert "no model named missing" in said.decode()
    assert "Traceback" not in said.decode()
