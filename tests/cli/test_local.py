"""What a local fleet leaves in its data folder, with a script in place of an orchestrator that starts slowly."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from asterism.protocol.commands.actions.local import ChildEnded, LocalSetup, local_fleet


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Has children run these lines of Python, with the ready file's path in `ready`."""
    script = folder / "orchestrator"
    head = f"#!{sys.executable}\nimport os, signal, sys\nready = sys.argv[sys.argv.index('--ready-file') + 1]\n"
    script.write_text(head + "\n".join(lines) + "\n")
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))


def ready_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("ready-*"))


async def test_an_orchestrator_that_is_ready_too_late_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    stand_in(
        tmp_path,
        monkeypatch,
        "def late(*_):",
        "    open(ready, 'w').write('127.0.0.1:9')",
        "    sys.exit()",
        "signal.signal(signal.SIGTERM, late)",
        f"open({str(begun)!r}, 'w').close()",
        "signal.pause()",
    )

    async def keep() -> None:
        async with local_fleet(LocalSetup(tmp_path, workers=0)):
            pass

    fleet = asyncio.create_task(keep())
    await asyncio.to_thread(begun.read_text)
    fleet.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fleet
    assert ready_files(tmp_path) == []


async def test_files_of_those_who_were_killed_are_removed_and_those_of_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = await asyncio.create_subprocess_exec("true")
    await gone.wait()
    theirs = [tmp_path / f"ready-{os.getppid()}", tmp_path / "ready-or-not"]
    for file in (tmp_path / f"ready-{gone.pid}", *theirs):
        file.touch()
    stand_in(tmp_path, monkeypatch, "sys.exit(4)")
    with pytest.raises(ChildEnded, match="code 4"):
        async with local_fleet(LocalSetup(tmp_path, workers=0)):
            pass
    assert ready_files(tmp_path) == sorted(theirs)
