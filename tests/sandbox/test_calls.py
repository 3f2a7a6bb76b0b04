"""Calls of every tool in real processes; what they give does not depend on whether they are confined."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from asterism.agents.asks import Effect, ToolError
from asterism.agents.json_check import JsonCheck
from asterism.workers.sandbox.confinement import Confinement
from asterism.workers.sandbox.sandbox import Sandbox
from tests.sandbox.conftest import MakeSandbox, call, refused


async def test_a_program_gives_what_it_wrote_and_a_code_is_an_error(sandbox: Sandbox) -> None:
    value = await call(sandbox, "shell", command="cat; echo bad >&2", stdin="$1 {{x}} ä")
    assert value == {"exit_code": 0, "stdout": "$1 {{x}} ä", "stderr": "bad\n", "is_whole": True}
    error = await refused(sandbox, "shell", command="echo why >&2; exit 3")
    assert (error.code, error.message, error.may_repeat) == ("exit_code", "exit code 3: why", False)
    assert (await call(sandbox, "shell", command="exit 3", check=False))["exit_code"] == 3


async def test_files_stay_for_the_attempt_and_no_longer(sandbox: Sandbox) -> None:
    await call(sandbox, "file.write", path="a/b.txt", text="one\ntwo $1\n")
    assert (await call(sandbox, "python", code="print(open('a/b.txt').read(), end='')"))["stdout"] == "one\ntwo $1\n"
    listed = await call(sandbox, "file.list", depth=3)
    assert listed == {
        "entries": [{"path": "a", "kind": "folder"}, {"path": "a/b.txt", "kind": "file", "size": 11}],
        "is_whole": True,
    }
    found = await call(sandbox, "file.search", pattern="two")
    assert found == {"matches": [{"path": "a/b.txt", "line": 2, "text": "two $1"}], "is_whole": True}
    assert (await refused(sandbox, "file.read", attempt="2", path="a/b.txt")).code == "not_found"
    await sandbox.forget("1")
    assert (await refused(sandbox, "file.read", path="a/b.txt")).code == "not_found"


async def test_a_file_is_read_in_parts_and_as_bytes(sandbox: Sandbox) -> None:
    await call(sandbox, "file.write", path="x", text="AAECAwQ=", encoding="base64")
    assert (await refused(sandbox, "file.read", path="x")).code == "not_text"
    read = await call(sandbox, "file.read", path="x", offset=1, max_bytes=2, encoding="base64")
    assert read == {"path": "x", "size": 5, "offset": 1, "is_whole": False, "base64": "AQI="}


async def test_a_search_is_by_text_or_expression_and_ends_at_its_bound(sandbox: Sandbox) -> None:
    await call(sandbox, "shell", command="for i in 1 2 3; do echo a.c >> x.py; echo abc >> y.txt; done")
    assert len((await call(sandbox, "file.search", pattern="a.c"))["matches"]) == 3
    assert len((await call(sandbox, "file.search", pattern="a.c", is_regex=True))["matches"]) == 6
    found = await call(sandbox, "file.search", pattern="c", glob="*.py", max_matches=2)
    assert (len(found["matches"]), found["is_whole"]) == (2, False)
    assert (await refused(sandbox, "file.search", pattern="(", is_regex=True)).code == "invalid_arguments"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../x", "invalid_path"),
        ("a/../../x", "invalid_path"),
        ("/etc/passwd", "not_allowed"),
        ("/proc/self/environ", "not_allowed"),
        ("x\0y", "invalid_path"),
        ("out/passwd", "not_allowed"),
        ("linked", "not_allowed"),
        ("pipe", "not_a_file"),
        (".", "not_a_file"),
        ("none", "not_found"),
    ],
)
async def test_no_path_leads_out(sandbox: Sandbox, path: str, code: str) -> None:
    await call(sandbox, "shell", command="ln -s /etc out; ln -s /etc/passwd linked; mkfifo pipe")
    assert (await refused(sandbox, "file.read", path=path)).code == code


async def test_nothing_is_written_through_a_link(sandbox: Sandbox) -> None:
    await call(sandbox, "shell", command="ln -s /tmp out; ln -s /etc/passwd file")
    assert (await refused(sandbox, "file.write", path="out/x", text="x")).code == "not_allowed"
    await call(sandbox, "file.write", path="file", text="mine")  # the link is replaced, not what it leads to
    assert (await call(sandbox, "file.read", path="file"))["text"] == "mine"
    assert (await refused(sandbox, "file.write", path="/usr/x", text="x")).code == "not_allowed"


async def test_only_named_commands_run_and_no_shell_reads_them(sandbox: Sandbox) -> None:
    assert (await call(sandbox, "command", argv=["uname", "-s"]))["stdout"] == f"{os.uname().sysname}\n"
    assert (await refused(sandbox, "command", argv=["/bin/uname"])).code == "not_allowed"
    assert (await refused(sandbox, "command", argv=["sh", "-c", "uname"])).code == "not_allowed"
    assert "$(id)" in (await refused(sandbox, "command", argv=["uname", "$(id)"])).message


async def test_environment_is_clean(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASTERISM_TOKEN", "secret")
    told = (await call(sandbox, "python", code="import os; print(*sorted(os.environ))"))["stdout"]
    assert set(told.split()) <= {"HOME", "LANG", "PATH", "TMPDIR", "LC_CTYPE", "PWD", "SHLVL", "_"}


@pytest.mark.parametrize(
    ("limits", "code", "expected", "said"),
    [
        ({"time_s": 0.7}, "while True: __import__('time').sleep(9)", "tool_timed_out", "0.7 s"),
        ({"cpu_s": 1}, "while True: pass", "killed", "1 s of CPU time"),
        ({"memory_bytes": 256 * 2**20}, "x = bytearray(2**30)", "exit_code", "MemoryError"),
        ({"file_bytes": 1000}, "with open('x', 'w') as file: file.write('a' * 2000)", "exit_code", "File too large"),
        ({"open_files": 20}, "k = [open('/dev/null') for _ in range(40)]", "exit_code", "Too many open files"),
    ],
)
async def test_limits_hold(
    make: MakeSandbox, confinement: Confinement, limits: dict[str, float], code: str, expected: str, said: str
) -> None:
    for kind in (confinement, Confinement(is_confined=False, holds="")):
        error = await refused(make(kind, limits=limits), "python", code=code)
        assert error.code == expected
        assert said in error.message


async def test_output_is_cut_and_says_so(make: MakeSandbox) -> None:
    sandbox = make(Confinement(is_confined=False, holds=""), limits={"output_bytes": 1000})
    value = await call(sandbox, "shell", command="head -c 5000000 /dev/zero | tr '\\0' x; echo e >&2")
    assert (len(value["stdout"]), value["stderr"], value["is_whole"]) == (1000, "e\n", False)


async def test_a_result_and_a_working_folder_have_bounds(make: MakeSandbox) -> None:
    sandbox = make(Confinement(is_confined=False, holds=""), limits={"result_bytes": 2000, "workspace_bytes": 5000})
    await call(sandbox, "file.write", path="x", text="a" * 4000)
    assert (await refused(sandbox, "file.read", path="x")).code == "too_large"
    await call(sandbox, "file.write", path="y", text="a" * 4000)
    assert (await refused(sandbox, "file.list")).code == "workspace_full"


async def test_a_cancelled_call_leaves_no_process(sandbox: Sandbox) -> None:
    await call(sandbox, "shell", command="mkfifo told")
    folder = Path(sandbox.folder_of("1") or "")
    command = "sleep 1000 > told & sleep 1000 > told; wait"
    running = asyncio.ensure_future(sandbox.call("shell", {"command": command}, "1"))
    told = await asyncio.to_thread(os.open, folder / "told", os.O_RDONLY)  # once one of them is there to write
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    # A pipe ends when nobody is left who could write to it.
    assert await asyncio.wait_for(asyncio.to_thread(os.read, told, 1), 20) == b""
    os.close(told)


async def test_tools_say_what_they_do_to_the_world(make: MakeSandbox, confinement: Confinement, tmp_path: Path) -> None:
    def effects(sandbox: Sandbox) -> dict[str, Effect]:
        for description in sandbox.descriptions:
            JsonCheck(description.schema)
        return {one.name: one.effect for one in sandbox.descriptions if one.effect is not Effect.IDEMPOTENT}

    programs = dict.fromkeys(("command", "python", "shell"), Effect.NONE)
    assert effects(make(confinement)) == {}
    assert effects(make(confinement, network=True)) == programs
    assert effects(make(confinement, write=(str(tmp_path),))) == programs
    assert effects(make(Confinement(is_confined=False, holds=""))) == programs


async def test_a_python_that_is_not_there_is_an_error_of_the_call(make: MakeSandbox) -> None:
    sandbox = make(Confinement(is_confined=False, holds=""), python="/nowhere/python")
    outcome = await sandbox.call("python", {"code": "1"}, "1")
    assert isinstance(outcome, ToolError)
    assert "/nowhere/python" in outcome.message


async def test_what_listens_here_is_not_reached_through_a_pattern(make: MakeSandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        sandbox = make(Confinement(is_confined=False, holds=""), hosts=("*",))
        error = await refused(sandbox, "http.get", url=f"http://127.0.0.1:{port}/")
    assert error.code == "not_allowed"
    assert "not on the public internet" in error.message
