"""A sandbox on this machine: confined where it can be, and one that is not."""

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asterism.agents.asks import Json, ToolError, ToolResult
from asterism.workers.sandbox.confinement import Confinement, find_confinement
from asterism.workers.sandbox.sandbox import Sandbox
from asterism.workers.tool_settings import SandboxTool, ToolSettings

ALL: tuple[SandboxTool, ...] = (
    *("shell", "command", "python"),
    *("file.read", "file.write", "file.list", "file.search", "http.get"),
)
MakeSandbox = Callable[..., Sandbox]


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that every user can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="asterism-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
async def confinement() -> Confinement:
    """What this machine can do; tests that need confinement are skipped where it can do nothing."""
    found = await find_confinement()
    if not found.is_confined:
        pytest.skip(f"this machine confines nothing: {found.holds}")
    return found


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[MakeSandbox]:
    """Makes sandboxes of every tool; they are closed at the end."""
    made: list[Sandbox] = []
    workspaces = tmp_path / "workspaces"
    workspaces.mkdir()

    def make_sandbox(confinement: Confinement, **settings: Any) -> Sandbox:
        given = {"enable": ALL, "commands": ("uname",), "hosts": ("127.0.0.1",), "workspaces": workspaces, **settings}
        made.append(Sandbox(ToolSettings(**given), confinement, at_once=4))
        return made[-1]

    yield make_sandbox
    for sandbox in made:
        await sandbox.close()
    assert list(workspaces.iterdir()) == []


@pytest.fixture(params=["confined", "unconfined"])
async def sandbox(request: pytest.FixtureRequest, make: MakeSandbox) -> Sandbox:
    """One of each kind: what a call gives is the same."""
    if request.param == "unconfined":
        return make(Confinement(is_confined=False, holds="not asked for"))
    found = await find_confinement()
    if not found.is_confined:
        pytest.skip(f"this machine confines nothing: {found.holds}")
    return make(found)


async def call(sandbox: Sandbox, name: str, attempt: str = "1", **arguments: Json) -> Any:
    """The value of a call that must succeed."""
    outcome = await sandbox.call(name, arguments, attempt)
    assert isinstance(outcome, ToolResult), outcome
    return outcome.value


async def refused(sandbox: Sandbox, name: str, attempt: str = "1", **arguments: Json) -> ToolError:
    """The error of a call that must fail."""
    outcome = await sandbox.call(name, arguments, attempt)
    assert isinstance(outcome, ToolError), outcome
    return outcome


def share(folder: Path, confinement: Confinement) -> None:
    """Give a folder to the user that the process of a call runs as, where that is another one."""
    if confinement.user is not None:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, *confinement.user, follow_symlinks=False)
