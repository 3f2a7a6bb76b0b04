"""The working folders of attempts, each inside a folder that tells whether its worker lives.

The worker holds the lock of a file there, which the kernel takes back however the worker ends. The number of its
process would not do: one of another container, or of another machine that shares the disk, may be the same.
"""

import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from asterism.workers.sandbox.confinement import own, temporary_folder

_PREFIX: Final = "asterism-star-"
_NAME: Final = re.compile(rf"{_PREFIX}[a-z0-9_]{{8}}")
_LOCK: Final = "worker"
_FOLDER: Final = "workspace"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder `frame`, with a working folder and the file whose lock is held by the descriptor `lock`."""

    frame: str
    lock: int

    @property
    def folder(self) -> str:
        """The working folder, by a path without links."""
        return os.path.join(self.frame, _FOLDER)


def make_workspace(parent: Path | None, user: tuple[int, int] | None) -> Workspace:
    """A new one below `parent`, the system's folder for temporary files by default; `user` owns its working folder."""
    import fcntl  # not on Windows

    with ExitStack() as undoing:
        frame = os.path.realpath(tempfile.mkdtemp(prefix=_PREFIX, dir=parent or temporary_folder()))
        undoing.callback(shutil.rmtree, frame, ignore_errors=True)
        os.chmod(frame, 0o711)  # what runs as another user, and is not confined, passes through
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        lock = os.open(os.path.join(frame, _LOCK), flags, 0o600)
        undoing.callback(os.close, lock)
        with suppress(OSError):  # a disk without locks: nobody can take this one either
            fcntl.flock(lock, fcntl.LOCK_EX)
        os.write(lock, f"{os.getpid()}\n".encode())  # a sweep that came in between has found it empty, and let it be
        made = Workspace(frame, lock)
        os.mkdir(made.folder, stat.S_IRWXU)
        own(made.folder, user)
        undoing.pop_all()
    return made


def remove_workspace(workspace: Workspace) -> None:
    """Remove all of it. What cannot be removed is logged, and left to the sweeps of later workers."""
    try:
        with _removal_logged(workspace.frame), _opened(workspace.frame, os.O_DIRECTORY) as frame:
            _remove(workspace.frame, frame)
    finally:
        os.close(workspace.lock)


def sweep(parent: Path | None) -> None:
    """Remove what workers of this user that have ended left below `parent`, as one that was killed does."""
    if sys.platform == "win32":  # there is no sandbox, and no such folder
        return
    try:
        with os.scandir(parent or temporary_folder()) as entries:
            frames = [entry.path for entry in entries if _NAME.fullmatch(entry.name)]
    except OSError as error:
        _log.warning("cannot look for working folders of workers that have ended", why=str(error))
        return
    for path in frames:
        with _removal_logged(path):
            _sweep_one(path)


def _sweep_one(path: str) -> None:
    import fcntl  # not on Windows

    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        return
    # Without the file, or with others beside it, it only looks like one of ours.
    with _opened(path, os.O_DIRECTORY) as frame, _opened(_LOCK, os.O_RDWR | os.O_NONBLOCK, frame) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        is_ours = all(os.fstat(one).st_uid == os.geteuid() for one in (frame, lock))
        if is_ours and os.fstat(lock).st_size and set(os.listdir(frame)) <= {_LOCK, _FOLDER}:
            _remove(path, frame)
            _log.info("removed the working folder of a worker that has ended", folder=path)


def _remove(path: str, frame: int) -> None:
    """The file with the lock goes last: until then the next sweep may go on with the rest."""
    with suppress(FileNotFoundError):
        if os.geteuid():
            _let_owner_in(frame)
        shutil.rmtree(_FOLDER, ignore_errors=True, dir_fd=frame)
        shutil.rmtree(_FOLDER, dir_fd=frame)  # says what is wrong if something is left
    os.unlink(_LOCK, dir_fd=frame)
    os.rmdir(path)


def _let_owner_in(frame: int) -> None:
    """Also into what he has made unreadable for himself."""
    _open_up(_FOLDER, frame)
    for _, names, _, folder in os.fwalk(_FOLDER, dir_fd=frame):
        for name in names:
            _open_up(name, folder)


def _open_up(name: str, folder: int) -> None:
    with suppress(PermissionError):  # removing it tells
        if stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
            os.chmod(name, stat.S_IRWXU, dir_fd=folder)


@contextmanager
def _removal_logged(path: str) -> Iterator[None]:
    try:
        with suppress(FileNotFoundError):
            yield
    except (OSError, RecursionError) as error:  # folders can be nested more deeply than Python follows
        _log.warning("a working folder cannot be removed", folder=path, why=f"{type(error).__name__}: {error}")


@contextmanager
def _opened(path: str, flags: int, folder: int | None = None) -> Iterator[int]:
    """No link is followed at its end."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
