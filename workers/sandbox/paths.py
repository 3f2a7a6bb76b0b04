"""Opens files inside allowed folders only: one step of a path at a time, each from the folder before, no link followed.

So nothing that is renamed or linked meanwhile leads elsewhere: what is open stays what was looked at. Standard library
only.
"""

import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from asterism.workers.sandbox.errors import CallFailed
from asterism.workers.sandbox.order import Order

MAX_PATH: Final = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """An allowed folder, the steps below it, and whether it may be written to."""

    root: str
    steps: tuple[str, ...]
    is_writable: bool


def find_place(order: Order, path: str) -> Place:
    """Where a path leads; a relative one begins in the working folder. Raises `CallFailed`.

    Of allowed folders inside each other the innermost decides.
    """
    if not path or len(path) > MAX_PATH or "\0" in path:
        raise CallFailed("invalid_path", f"must have 1 to {MAX_PATH} characters, and no NUL")
    if ".." in path.split("/"):
        raise CallFailed("invalid_path", f"{path}: '..' is not followed")
    whole = posixpath.normpath(posixpath.join(order.home, path))
    whole = "/" + whole.lstrip("/")
    roots = [(root, False) for root in order.read] + [(root, True) for root in (*order.write, order.home)]
    fitting = [(len(root), is_writable, root) for root, is_writable in roots if _is_below(whole, root)]
    if not fitting:
        there = ", ".join(sorted({root for root, _ in roots}))
        raise CallFailed("not_allowed", f"{path} is in none of the folders that are allowed: {there}")
    _, is_writable, root = max(fitting)
    steps = tuple(step for step in whole[len(root) :].split("/") if step)
    return Place(root, steps, is_writable)


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


@contextmanager
def folder_of(place: Place, *, makes: bool = False) -> Iterator[tuple[int, str]]:
    """The descriptor of the folder that the last step is in, and that step ('.' for the allowed folder itself)."""
    descriptor = os.open(place.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for step in place.steps[:-1]:
            if makes:
                _make(step, descriptor)
            below = open_folder(step, descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor, place.steps[-1] if place.steps else "."
    finally:
        os.close(descriptor)


def _make(step: str, folder: int) -> None:
    try:
        os.mkdir(step, 0o755, dir_fd=folder)
    except FileExistsError:
        pass
    except OSError as error:
        raise failure(step, error) from None


def open_folder(step: str, folder: int) -> int:
    """A folder in a folder. Raises `CallFailed`."""
    try:
        return os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        raise failure(step, error) from None


def open_file(step: str, folder: int) -> int:
    """A plain file in a folder, to be read; never waits, as for a pipe. Raises `CallFailed`."""
    try:
        descriptor = os.open(step, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        raise failure(step, error) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CallFailed("not_a_file", f"{step} is no plain file")
    return descriptor


def failure(step: str, error: OSError) -> CallFailed:
    """An error of the system as one of the call."""
    match error.errno:
        case errno.ENOENT:
            return CallFailed("not_found", f"{step} is not there")
        case errno.ELOOP:
            return CallFailed("not_allowed", f"{step} is a symbolic link, which is not followed")
        case errno.ENOTDIR:
            return CallFailed("not_allowed", f"{step} is no folder, or a symbolic link, which is not followed")
        case _:
            return CallFailed("file_error", f"{step}: {error.strerror}")
