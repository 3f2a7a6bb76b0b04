"""Which folders a worker removes when it starts, and which it leaves."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from asterism.workers.sandbox.workspaces import Workspace, make_workspace, remove_workspace, sweep

NOBODY = 65534


@pytest.fixture
def plain_user(open_path: Path) -> Iterator[Path]:
    """A folder of the user that the test runs as, who is not root; one without privileges where it is."""
    if os.geteuid() != 0:
        yield open_path
        return
    give_to_nobody(open_path)
    os.seteuid(NOBODY)
    try:
        yield open_path
    finally:
        os.seteuid(0)


def give_to_nobody(folder: Path) -> None:
    try:
        os.chown(folder, NOBODY, NOBODY)
    except OSError as error:  # not root, or root of a container with nobody else in it
        pytest.skip(f"cannot give a folder to another user: {error}")


def abandon(parent: Path) -> Workspace:
    """One with a file in it, whose worker has been killed: the kernel has closed what it held open."""
    made = make_workspace(parent, None)
    (Path(made.folder) / "file").write_text("x")
    os.close(made.lock)
    return made


def all_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_those_of_living_workers_stay_and_those_of_dead_ones_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    living = make_workspace(tmp_path, None)
    abandon(tmp_path)
    sweep(tmp_path)
    said = capsys.readouterr()
    assert living.frame not in said.out + said.err
    assert list(tmp_path.iterdir()) == [Path(living.frame)]
    assert Path(living.folder).is_dir()
    remove_workspace(living)
    assert list(tmp_path.iterdir()) == []


def test_what_only_looks_like_one_stays(tmp_path: Path) -> None:
    parent, outside = tmp_path / "parent", tmp_path / "outside"
    parent.mkdir()
    outside.mkdir()
    target = abandon(outside)
    (parent / "asterism-star-is_alink").symlink_to(target.frame)
    (parent / "asterism-star-a_file_x").write_text("")
    (parent / "asterism-star-no__lock" / "workspace").mkdir(parents=True)
    Path(abandon(parent).frame).rename(parent / "asterism-star-longer_than_ours")
    (Path(abandon(parent).frame) / "more").write_text("of somebody else")
    begun = Path(abandon(parent).frame)
    (begun / "worker").write_text("")  # a worker that has just made it, and does not hold the lock yet
    (linked := Path(abandon(parent).frame) / "worker").unlink()
    linked.symlink_to(Path(target.frame) / "worker")
    before = all_below(tmp_path)
    sweep(parent)
    assert all_below(tmp_path) == before


def test_no_link_in_it_is_followed(plain_user: Path) -> None:
    outside = plain_user / "outside"
    outside.mkdir(mode=0o755)
    (outside / "file").write_text("x")
    first, second = abandon(plain_user), abandon(plain_user)
    (Path(first.folder) / "link").symlink_to(outside)
    shutil.rmtree(second.folder)
    Path(second.folder).symlink_to(outside)
    sweep(plain_user)
    assert set(plain_user.iterdir()) == {outside, Path(second.frame)}
    assert (outside.stat().st_mode & 0o777, all_below(outside)) == (0o755, {"file"})


def test_another_users_stays(tmp_path: Path) -> None:
    made = abandon(tmp_path)
    give_to_nobody(Path(made.frame))
    sweep(tmp_path)
    assert Path(made.folder).exists()
    os.chown(made.frame, 0, 0)
    give_to_nobody(Path(made.folder))  # as it is where tools run as another user than the worker
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_tool_made_unreadable_goes(plain_user: Path) -> None:
    made = abandon(plain_user)
    (below := Path(made.folder) / "a" / "b").mkdir(parents=True)
    for path in (below, below.parent, Path(made.folder)):
        path.chmod(0)
    sweep(plain_user)
    assert list(plain_user.iterdir()) == []


def test_what_cannot_be_removed_is_logged_and_left_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, ignore_errors: bool = False, **_more: object) -> None:
        if not ignore_errors:
            raise PermissionError(1, "not permitted")

    made = [abandon(tmp_path), abandon(tmp_path)]
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", refuse)
        sweep(tmp_path)
    said = capsys.readouterr()
    for one in made:
        assert one.frame in said.out + said.err
        assert Path(one.folder).exists()
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(tmp_path / "none")
    said = capsys.readouterr()
    assert "No such file" in said.out + said.err
