"""`up` and `run` with processes of their own: whatever happens, none of them is left behind."""

import asyncio
import json
import os
import signal
import sys

import pytest

from tests.cli.shell import Shell, ended

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform != "linux", reason="process ids are awaited through pidfd"),
]


async def is_up(shell: Shell) -> tuple[asyncio.subprocess.Process, list[int]]:
    """`up` with one worker, once it is ready, and the ids of its children."""
    process = await shell.start(
        "up", "--workers", "1", "--model", "none", "--listen", "127.0.0.1:0", "--output", "json"
    )
    assert process.stdout is not None
    return process, json.loads(await process.stdout.readline())["pids"]


async def has_ended(pid: int) -> bool:
    """True once the process has ended (a zombie has), however long that takes."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(watched, end.set)
    try:
        await end.wait()
    finally:
        loop.remove_reader(watched)
        os.close(watched)
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_drains_and_ends_everything(shell: Shell, number: signal.Signals) -> None:
    process, children = await is_up(shell)
    process.send_signal(number)
    result = await ended(process)
    assert (result.code, result.err) == (0, "")
    assert all([await has_ended(child) for child in children])


async def test_the_end_of_a_child_ends_everything_and_names_it(shell: Shell) -> None:
    process, children = await is_up(shell)
    os.kill(children[1], signal.SIGKILL)
    result = await ended(process)
    assert result.code == 1
    assert result.err.startswith("error: asterism work (local-1) ended with code -9: ")
    assert await has_ended(children[0])


async def test_children_end_even_when_up_is_killed(shell: Shell) -> None:
    process, children = await is_up(shell)
    process.kill()
    assert all([await has_ended(child) for child in children])
    await ended(process)


async def test_an_orchestrator_that_does_not_start_is_reported_with_its_last_words(shell: Shell) -> None:
    result = await shell.run("up", "--listen", "127.0.0.1:99999")
    assert result.code == 1
    assert result.err.startswith("error: asterism serve ended with code ")
    assert "127.0.0.1:7465" in result.err


async def test_up_is_for_this_machine_alone(shell: Shell) -> None:
    result = await shell.run("up", "--listen", "0.0.0.0:7465")
    assert result.code == 2
    assert "this machine alone" in result.err


async def test_run_brings_its_own_orchestrator_and_takes_it_away(shell: Shell) -> None:
    (shell.home / "plan.json").write_text('{"stars": {"a": {"kind": "tool", "program": "noop", "inputs": {"x": 1}}}}')
    result = await shell.run("run", "plan.json", "--workers", "1", "--graph", "g.json")
    assert (result.code, json.loads(result.out)) == (0, {"x": 1})
    assert json.loads((shell.home / "g.json").read_text())["workers"] == ["local-1"]
    assert "a SUCCEEDED after" in result.err


async def test_run_uses_the_orchestrator_that_up_keeps(shell: Shell) -> None:
    process, _ = await is_up(shell)
    (shell.home / "plan.json").write_text('{"stars": {"a": {"kind": "tool", "program": "noop"}}}')
    result = await shell.run("run", "plan.json", "--output", "json", "--quiet")
    second = await shell.run("up", "--listen", "127.0.0.1:0")
    process.terminate()
    await ended(process)
    assert (result.code, json.loads(result.out)["workers"]) == (0, ["local-1"])
    assert (second.code, "uses" in second.err) == (2, True)
