"""What a killed worker leaves: no process of its tools, and no working folder once the next one has begun."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

import asterism.workers
from asterism.workers.sandbox.confinement import Confinement, own, system_paths
from asterism.workers.sandbox.order import Limits, Order
from asterism.workers.sandbox.workspaces import sweep
from tests.processes import Process, free_port, wait_for_line

WAIT_S: Final = 30.0
WORKER: Final = """
import asyncio, sys
from pathlib import Path
from asterism.workers.sandbox.confinement import find_confinement
from asterism.workers.sandbox.sandbox import Sandbox
from asterism.workers.tool_settings import ToolSettings

async def main():
    settings = ToolSettings(enable=("python",), workspaces=Path(sys.argv[1]))
    sandbox = Sandbox(settings, await find_confinement(), at_once=1)
    await sandbox.call("python", {"code": sys.argv[2]}, "1")

asyncio.run(main())
"""
TICKING: Final = """
import time
while True:
    with open("ticks", "a") as file:
        file.write(".")
    time.sleep(0.01)
"""
START: Final = """
import os, sys
sys.path.append(sys.argv.pop(1))
from asterism.workers.sandbox.inside import main
from asterism.workers.sandbox.kernel import Kernel

if len(sys.argv) > 3:
    told, go, drop = int(sys.argv[3]), int(sys.argv[4]), Kernel.drop_capabilities

    def wait_and_drop(kernel):
        os.write(told, b"!")
        os.read(go, 1)
        drop(kernel)

    Kernel.drop_capabilities = wait_and_drop
main()
"""
"""The process of a call; with two more pipes it stops where it would give up its last privileges."""


@contextmanager
def ticking_worker(workspaces: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[psutil.Process]]]:
    """A worker whose tool has begun to write, and the processes of that tool; none of them outlives the context."""
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(workspaces), TICKING])
    tool: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + WAIT_S
        while not list(workspaces.rglob("ticks")):
            assert worker.poll() is None, "it ended before its tool began"
            assert time.monotonic() < deadline, "its tool has not begun"
            time.sleep(0.02)
        tool = psutil.Process(worker.pid).children(recursive=True)
        yield worker, tool
    finally:
        worker.kill()
        worker.wait()
        for process in tool:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def is_alive(process: psutil.Process) -> bool:
    """Whether it still does anything: who inherits it may be slow to take note of its end."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_for_ends(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended when time is up."""
    deadline = time.monotonic() + WAIT_S
    while (alive := [process for process in processes if is_alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


async def test_the_processes_of_a_confined_tool_end_with_a_killed_worker(
    confinement: Confinement, tmp_path: Path
) -> None:
    with ticking_worker(tmp_path) as (worker, tool):
        outer, first, program = tool  # outside, the first one of its world, and what the call runs
        assert [process.pid for process in (outer, first)] == [first.ppid(), program.ppid()]
        worker.kill()
        worker.wait()
        assert wait_for_ends(tool) == []


async def test_the_next_worker_removes_the_working_folders_of_a_killed_one(
    confinement: Confinement, tmp_path: Path
) -> None:
    workspaces = tmp_path / "workspaces"
    workspaces.mkdir()
    (tmp_path / "worker.toml").write_text(f"[tools]\nworkspaces = {json.dumps(str(workspaces))}\n")
    with ticking_worker(workspaces) as (worker, tool):
        sweep(workspaces)
        assert len(list(workspaces.rglob("ticks"))) == 1  # it lives
        worker.kill()
        worker.wait()
        assert wait_for_ends(tool) == []
    options = ["--join", f"127.0.0.1:{free_port()}", "--model", "none", "--config", str(tmp_path / "worker.toml")]
    following = Process("following", ["work", *options], tmp_path, {})
    try:
        wait_for_line(following, "offering")
    finally:
        following.kill()
    assert list(workspaces.iterdir()) == []


def start_call(worker: int, workspace: Path, user: tuple[int, int] | None, *pipes: int) -> subprocess.Popen[bytes]:
    """The process of a call that reports how its program has ended, told that `worker` is its worker."""
    own(str(workspace), user)
    system = system_paths(has_network=False)
    order = Order(limits=Limits(), workspace=str(workspace), user=user, system=system, argv=("/bin/sh", "-c", "exit 3"))
    root = str(Path(asterism.workers.__file__).parents[2])
    numbers = map(str, (1, worker, *pipes))
    call = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", START, root, *numbers],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=pipes,
    )
    assert call.stdin is not None
    call.stdin.write(order.encode())
    call.stdin.close()
    return call


def read_all(call: subprocess.Popen[bytes]) -> bytes:
    """What it and all that it has started write, until the last of them ends."""
    assert call.stdout is not None
    with call.stdout:
        return call.stdout.read()


async def test_a_call_whose_worker_has_ended_before_it_does_nothing(confinement: Confinement, tmp_path: Path) -> None:
    said = {}
    for worker in (os.getpid(), os.getppid()):  # who inherits an orphan is somebody else than who began it
        with start_call(worker, tmp_path, confinement.user) as call:
            said[worker] = read_all(call)
    assert said == {os.getpid(): b'{"exit": 3}', os.getppid(): b""}


async def test_a_world_whose_outer_process_ends_while_it_is_made_does_nothing(
    confinement: Confinement, tmp_path: Path
) -> None:
    (told, tells), (waits, go) = os.pipe(), os.pipe()
    with start_call(os.getpid(), tmp_path, confinement.user, tells, waits) as call:
        os.close(tells)
        assert os.read(told, 1) == b"!"
        call.kill()
        call.wait()
        os.write(go, b"!")
        assert read_all(call) == b""
    for descriptor in (told, waits, go):
        os.close(descriptor)
