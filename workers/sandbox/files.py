"""The file tools: read, write, list and search, in allowed folders. They run in the process of the call.

Arguments have been checked against the schemas of `declared.py`. Standard library only.
"""

import base64
import fnmatch
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from asterism.workers.sandbox.errors import CallFailed
from asterism.workers.sandbox.order import Order
from asterism.workers.sandbox.paths import failure, find_place, folder_of, open_file, open_folder

DEFAULT_READ: Final = 64 * 1024
MOST_ENTRIES: Final = 2000
MOST_MATCHES: Final = 1000
MOST_SEARCHED: Final = 20_000
"""Files of one search."""
MOST_DEPTH: Final = 16
_LINE: Final = 400
"""Characters of a line that are shown."""
_SEARCHED_BYTES: Final = 4 * 1024 * 1024
"""Of one file; what is behind them is not searched."""


def read_file(order: Order) -> dict[str, Any]:
    """A part of a file, as text or, where `encoding` is base64, as bytes."""
    path, offset = order.arguments["path"], order.arguments.get("offset", 0)
    most = order.arguments.get("max_bytes", DEFAULT_READ)
    with folder_of(find_place(order, path)) as (folder, name):
        descriptor = open_file(name, folder)
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(offset)
        data = file.read(most)
    read: dict[str, Any] = {"path": path, "size": size, "offset": offset, "is_whole": offset == 0 and len(data) == size}
    if order.arguments.get("encoding") == "base64":
        return {**read, "base64": base64.b64encode(data).decode()}
    if b"\0" in data:
        raise CallFailed("not_text", f"{path} holds bytes that are no text; read it with encoding base64")
    # A part may begin and end within a character.
    return {**read, "text": data.decode("utf-8", errors="replace")}


def write_file(order: Order) -> dict[str, Any]:
    """A whole file, at once or not at all, with the folders that lead to it; what was there is replaced."""
    path, arguments = order.arguments["path"], order.arguments
    place = find_place(order, path)
    if not place.is_writable or not place.steps:
        raise CallFailed("not_allowed", f"{path} may not be written")
    text: str = arguments["text"]
    data = base64.b64decode(text, validate=True) if arguments.get("encoding") == "base64" else text.encode()
    with folder_of(place, makes=True) as (folder, name):
        new = f".{secrets.token_hex(8)}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(new, flags, 0o644, dir_fd=folder), "wb") as file:
                file.write(data)
            os.replace(new, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            with suppress(OSError):
                os.unlink(new, dir_fd=folder)
            raise failure(name, error) from None
    return {"path": path, "size": len(data)}


def list_files(order: Order) -> dict[str, Any]:
    """What is in a folder and, to a depth, in those below it; sorted by path."""
    arguments = order.arguments
    most = arguments.get("max_entries", MOST_ENTRIES)
    entries: list[dict[str, Any]] = []
    with _opened(order, arguments.get("path", ".")) as root:
        for path, kind, size, _, _ in _walk(root.descriptor, "", arguments.get("depth", 1)):
            if len(entries) == most:
                return {"entries": entries, "is_whole": False}
            entries.append({"path": path, "kind": kind, **({"size": size} if kind == "file" else {})})
    return {"entries": entries, "is_whole": True}


def search_files(order: Order) -> dict[str, Any]:
    """Lines that match a regular expression, or hold a text, in the files of a folder and of all below it."""
    arguments = order.arguments
    pattern: str = arguments["pattern"]
    try:
        matches_line = re.compile(pattern if arguments.get("is_regex") else re.escape(pattern)).search
    except (re.error, RecursionError, OverflowError) as error:
        raise CallFailed("invalid_arguments", f"pattern: {error}") from None
    most, glob = arguments.get("max_matches", 100), arguments.get("glob", "*")
    matches: list[dict[str, Any]] = []
    searched = 0
    with _opened(order, arguments.get("path", ".")) as root:
        for path, kind, _, folder, name in _walk(root.descriptor, "", MOST_DEPTH):
            if kind != "file" or not (fnmatch.fnmatchcase(name, glob) or fnmatch.fnmatchcase(path, glob)):
                continue
            searched += 1
            if searched > MOST_SEARCHED:
                return {"matches": matches, "is_whole": False}
            for number, line in _lines(folder, name):
                if matches_line(line) is None:
                    continue
                if len(matches) == most:
                    return {"matches": matches, "is_whole": False}
                matches.append({"path": path, "line": number, "text": line[:_LINE]})
    return {"matches": matches, "is_whole": True}


class _opened:
    """A folder by its path, open for as long as it is needed."""

    def __init__(self, order: Order, path: str) -> None:
        place = find_place(order, path)
        with folder_of(place) as (folder, name):
            self.descriptor = open_folder(name, folder)

    def __enter__(self) -> "_opened":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


def _walk(folder: int, prefix: str, depth: int) -> Iterator[tuple[str, str, int, int, str]]:
    """Path, kind, size, the folder's descriptor and the name, in order of paths; links are shown and not followed."""
    for name in sorted(os.listdir(folder)):
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            continue  # gone meanwhile
        path = f"{prefix}{name}".encode(errors="replace").decode()
        if not stat.S_ISDIR(status.st_mode):
            kind = "file" if stat.S_ISREG(status.st_mode) else "link" if stat.S_ISLNK(status.st_mode) else "other"
            yield path, kind, status.st_size, folder, name
            continue
        yield path, "folder", 0, folder, name
        if depth > 1:
            try:
                below = open_folder(name, folder)
            except CallFailed:
                continue  # not ours to read, or no folder any more
            try:
                yield from _walk(below, f"{path}/", depth - 1)
            finally:
                os.close(below)


def _lines(folder: int, name: str) -> Iterator[tuple[int, str]]:
    """The numbered lines of a file of text; none of another, or of one that cannot be read."""
    try:
        descriptor = open_file(name, folder)
    except CallFailed:
        return
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(_SEARCHED_BYTES)
    if b"\0" not in data:
        yield from enumerate(data.decode("utf-8", errors="replace").splitlines(), 1)
