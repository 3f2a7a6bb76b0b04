"""What a confined process cannot do, tried by one that would like to."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from asterism.workers.sandbox import inside
from asterism.workers.sandbox.confinement import Confinement, find_confinement, is_mapped, read_map, system_paths
from asterism.workers.sandbox.filter import filter_program
from asterism.workers.sandbox.order import Limits, Order
from asterism.workers.sandbox.sandbox import Sandbox
from tests.sandbox.conftest import MakeSandbox, call, refused, share

NOBODY = 65534


@pytest.fixture
def confined(make: MakeSandbox, confinement: Confinement) -> Sandbox:
    return make(confinement)


async def told(sandbox: Sandbox, code: str) -> str:
    return str((await call(sandbox, "python", code=code))["stdout"]).strip()


async def test_it_sees_the_system_and_its_working_folder_and_no_other(confined: Sandbox) -> None:
    seen = (await told(confined, "import os; print(*os.listdir('/'))")).split()
    tops = {path.split("/")[1] for path in system_paths(has_network=False)}
    assert set(seen) <= {"workspace", "tmp", "proc", "dev", "etc"} | tops
    for path in ("/etc/passwd", "/etc/shadow", "/home", "/var", "/run", "/sys", __file__):
        assert await told(confined, f"import os; print(os.path.exists({path!r}))") == "False"


async def test_only_the_working_folder_and_scratch_are_writable(confined: Sandbox) -> None:
    code = """
import os
def can(path):
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY)); return 1
    except OSError:
        return 0
print(*[path for path in ('/x', '/usr/x', '/etc/x', '/dev/x', '/proc/x', '/tmp/x', '/workspace/x') if can(path)])
"""
    assert await told(confined, code) == "/tmp/x /workspace/x"
    assert await told(confined, "import os; print(os.path.exists('/tmp/x'))") == "False"


async def test_it_has_no_network(confined: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"""
import socket
try:
    socket.create_connection(("127.0.0.1", {port}), 5)
except OSError as error:
    print(error.strerror)
"""
        assert await told(confined, code) in {"Network is unreachable", "Connection refused"}


async def test_with_leave_it_has_one(make: MakeSandbox, confinement: Confinement) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; print(socket.create_connection(('127.0.0.1', {port}), 5).getpeername()[1])"
        assert await told(make(confinement, network=True), code) == str(port)


async def test_it_has_no_privileges_and_gets_none(confined: Sandbox) -> None:
    status = await told(confined, "print(open('/proc/self/status').read())")
    lines = dict(line.split(":\t", 1) for line in status.splitlines())
    assert {int(lines[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {0}
    assert lines["NoNewPrivs"] == "1"
    assert lines["Uid"].split()[0] != "0"
    code = """
import ctypes
for flags in (0x10000000, 0x20000, 0x40000000):
    print(ctypes.CDLL(None).unshare(flags), end=' ')
print(ctypes.CDLL(None).mount(b'none', b'/workspace', b'tmpfs', 0, None), ctypes.CDLL(None).umount2(b'/tmp', 2))
"""
    assert await told(confined, code) == "-1 -1 -1 -1 -1"


async def test_ways_around_namespaces_are_shut(confined: Sandbox) -> None:
    if filter_program(os.uname().machine) is None:
        pytest.skip("no filter is known for this machine")
    code = """
import ctypes, errno, os, socket
def tried(family, kind):
    try:
        socket.socket(family, kind).close(); return 'open'
    except OSError as error:
        return errno.errorcode[error.errno]
print(tried(socket.AF_VSOCK, socket.SOCK_STREAM), tried(socket.AF_ALG, socket.SOCK_SEQPACKET))
print(tried(socket.AF_INET, socket.SOCK_STREAM), tried(socket.AF_UNIX, socket.SOCK_STREAM))
libc = ctypes.CDLL(None, use_errno=True)
numbers = {'x86_64': (250, 321, 298, 425), 'aarch64': (219, 280, 241, 425)}[os.uname().machine]
print(*[(libc.syscall(number, 0, 0, 0, 0), errno.errorcode[ctypes.get_errno()]) for number in numbers])
"""
    refused = " ".join(["(-1, 'EPERM')"] * 4)
    assert await told(confined, code) == f"EAFNOSUPPORT EAFNOSUPPORT\nopen open\n{refused}"


async def test_it_sees_no_process_but_its_own(confined: Sandbox) -> None:
    code = "import os; print(len([name for name in os.listdir('/proc') if name.isdigit()]), os.getppid())"
    assert await told(confined, code) == "2 1"
    code = f"""
import os
try:
    os.kill({os.getpid()}, 9)
except ProcessLookupError:
    print('none')
"""
    assert await told(confined, code) == "none"


async def test_processes_are_counted(make: MakeSandbox, confinement: Confinement) -> None:
    code = """
import os, time
made = 0
try:
    while made < 100:
        if os.fork() == 0:
            time.sleep(1000)
        made += 1
except OSError as error:
    print(made, error.strerror)
"""
    for _ in range(2):  # and those of an earlier call are gone
        assert await told(make(confinement, limits={"processes": 10}), code) == ("9 Resource temporarily unavailable")


async def test_scratch_is_bounded(make: MakeSandbox, confinement: Confinement) -> None:
    sandbox = make(confinement, limits={"scratch_bytes": 64 * 1024})
    error = await refused(sandbox, "shell", command="head -c 200000 /dev/zero > /tmp/x")
    assert "No space left" in error.message


async def test_what_leaves_its_session_ends_with_the_call(confined: Sandbox) -> None:
    await call(confined, "shell", command="setsid sleep 997 > /dev/null 2>&1 &")
    assert not await asyncio.to_thread(_runs, b"sleep\x00997\x00")


def _runs(command: bytes) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes() == command:
                return True
    return False


async def test_allowed_folders_are_there_and_nothing_beside_them(
    make: MakeSandbox, confinement: Confinement, tmp_path: Path
) -> None:
    for name in ("given", "given/inner", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
    given, inner = tmp_path / "given", tmp_path / "given" / "inner"
    (given / "out").symlink_to(tmp_path / "other")
    share(given, confinement)
    sandbox = make(confinement, read=(str(given),), write=(str(inner),))
    assert (await call(sandbox, "file.read", path=f"{given}/f"))["text"] == "given"
    assert (await refused(sandbox, "file.write", path=f"{given}/f", text="x")).code == "not_allowed"
    await call(sandbox, "file.write", path=f"{inner}/new", text="x")
    assert (inner / "new").read_text() == "x"
    assert (await refused(sandbox, "file.read", path=f"{given}/out/f")).code == "not_allowed"
    assert (await refused(sandbox, "file.read", path=f"{tmp_path}/other/f")).code == "not_allowed"
    assert "Read-only" in (await refused(sandbox, "shell", command=f"echo x > {given}/f")).message
    assert "No such file" in (await refused(sandbox, "shell", command=f"cat {given}/out/f")).message


async def test_root_becomes_another_user(confinement: Confinement) -> None:
    if os.geteuid() != 0:
        assert confinement.user is None
        return
    assert confinement.user is not None
    assert confinement.user[0] != 0


def test_a_plain_user_is_confined_too(open_path: Path) -> None:
    """The same process, begun as a user without any privilege; needs a Python that this user can run."""
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if os.geteuid() != 0 or python is None:
        pytest.skip("needs root, to become a user, and the system's Python")
    if subprocess.run([python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False).returncode:
        pytest.skip("the system's Python is too old")
    code = open_path / "code" / "asterism" / "workers"
    shutil.copytree(Path(inside.__file__).parent, code / "sandbox", ignore=shutil.ignore_patterns("__pycache__"))
    workspace = open_path / "workspace"
    workspace.mkdir()
    share(workspace, Confinement(is_confined=True, holds="", user=(NOBODY, NOBODY)))
    order = Order(limits=Limits(), workspace=str(workspace), function="look", system=system_paths(has_network=False))
    start = "import sys; sys.path.append(sys.argv.pop(1)); from asterism.workers.sandbox.inside import main; main()"
    ended = subprocess.run(
        [python, "-I", "-S", "-c", start, str(open_path / "code"), "1", str(os.getpid())],
        input=order.encode(),
        capture_output=True,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
        check=False,
    )
    found = json.loads(ended.stdout)["value"]
    assert (found["user"], found["network"], found["pid"]) == (NOBODY, ["lo"], 1), ended
    assert (found["capabilities"], found["no_new_privileges"], found["writes_root"]) == (0, True, False)


async def test_a_machine_that_cannot_confine_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    found = await find_confinement()
    assert (found.is_confined, found.holds) == (False, "darwin has no namespaces")


@pytest.mark.parametrize("prepare", ["", "echo 0 > /proc/sys/user/max_user_namespaces; "])
def test_root_of_a_container_is_confined_or_told_why_not(open_path: Path, prepare: str) -> None:
    """Root with nobody else to become, as in a container without privileges; then one that may make no namespaces."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-Ur", "true"], check=False).returncode:
        pytest.skip("no user namespaces here")
    file = open_path / "worker.toml"
    file.write_text('[tools]\nenable = ["python"]\n')
    command = f'{prepare}exec "$0" tools --config {file}'
    program = Path(sys.executable).with_name("asterism")
    ended = subprocess.run([unshare, "-Ur", "sh", "-c", command, program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    names = [line.split()[0] for line in ended.stdout.splitlines()]
    if prepare:
        assert "python" not in names
        assert "NOT confined on this machine: OSError: [Errno 28] unshare" in ended.stdout
        assert "NOT OFFERED" in ended.stderr
    else:
        assert "python" in names
        assert "confined: namespaces" in ended.stdout


def test_users_are_mapped_by_ranges() -> None:
    ids = read_map("         0       1000          1\n         1     100000      65536\n")
    assert [number for number in (0, 1, 65536, 65537) if is_mapped(number, ids)] == [0, 1, 65536]
