"""The bytes of results that lie outside the graph: files named by their hash, in a folder or an object store.

`sha256/ab/cd/abcd...` under the root holds an artifact, whole and with just those bytes: it is written under another
name, in `new/`, and moved there once its hash has been found right. fsspec blocks, so its calls run in threads.
"""

import asyncio
import hashlib
import os
import secrets
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import fsspec.core
import structlog

from asterism.orchestrator.core.errors import AsterismError, DataLoss, InvalidField, Misconfigured, NotFound, Overloaded
from asterism.orchestrator.core.values import Artifact, is_sha256

PART_BYTES: Final = 256 * 1024
"""Of one piece that is read."""
THREADS: Final = 4
"""Calls to the file system at one time: a slow one must not hold up all, and a disk gains nothing from more."""
KEEP_S: Final = 86_400.0
"""Nothing younger is ever pruned: what was put, and is not in the graph yet, is at most as old as its attempt."""
RETRY_AFTER_S: Final = 1.0

T = TypeVar("T")
log = structlog.get_logger(__name__)


class ArtifactFiles:
    """Keeps artifacts. Safe to use from one event loop; several processes may share a root."""

    def __init__(self, location: str | Path) -> None:
        """`location`: a folder, or a URL that fsspec knows. Raises Misconfigured for any other."""
        try:
            # Any: fsspec has no types.
            found: tuple[Any, str] = fsspec.core.url_to_fs(str(location))
        except (ValueError, ImportError) as error:
            raise Misconfigured("artifacts", f"no artifacts can be kept there: {error}") from error
        self._files, self._root = found[0], found[1].rstrip("/")
        self._is_local = "file" in _names(self._files.protocol)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="artifacts")

    def check(self) -> None:
        """Raise Misconfigured for a folder that cannot be written. An object store says so at the first put."""
        if not self._is_local:
            return
        try:
            self._files.makedirs(self._root, exist_ok=True)
        except OSError as error:
            raise Misconfigured("artifacts", f"{self._root} cannot be made: {error.strerror}") from error
        if not os.access(self._root, os.W_OK | os.X_OK):
            raise Misconfigured("artifacts", f"{self._root} may not be written")

    def close(self) -> None:
        """Wait for what runs."""
        self._threads.shutdown()

    async def is_kept(self, artifact: Artifact) -> bool:
        """Whether it is there, with its size."""
        return await self._run(lambda: self._find_size(artifact)) == artifact.size

    async def is_fresh(self, artifact: Artifact) -> bool:
        """Whether it is there and will be for long enough, so that it need not be put again."""
        return await self._run(lambda: self._is_fresh(artifact))

    async def keep(self, artifact: Artifact, parts: AsyncIterator[bytes]) -> None:
        """Write it, whole and on disk when this returns; raises InvalidField unless the bytes are those it names."""
        writer = _Writer(self._files, f"{self._root}/new/{artifact.sha256}-{secrets.token_hex(8)}")
        size = 0
        try:
            await self._run(writer.open)
            async for part in parts:
                size += len(part)
                if size > artifact.size:
                    raise InvalidField("data", f"more than the {artifact.size} bytes that were announced")
                await self._run(lambda part=part: writer.write(part))  # type: ignore[misc]  # a default binds it
            if size < artifact.size:
                raise InvalidField("data", f"{size} bytes came of the {artifact.size} that were announced")
            await self._run(lambda: self._commit(writer, artifact))
        finally:
            # Not awaited: whoever is cancelled here must not have to wait, and the writer keeps the order.
            self._threads.submit(writer.abandon)

    async def read(self, artifact: Artifact) -> AsyncGenerator[bytes, None]:
        """Its bytes in order; raises NotFound, and DataLoss before the last part where they are not what they were."""
        size = await self._run(lambda: self._find_size(artifact))
        if size is None:
            raise NotFound("artifact", str(artifact))
        if size != artifact.size:
            raise _damaged(artifact, f"it has {size} bytes in place of {artifact.size}")
        file: Any = await self._run(lambda: self._files.open(self._path(artifact), "rb"))
        try:
            digest = hashlib.sha256()
            left = artifact.size
            while left:
                part: bytes = await self._run(lambda: file.read(PART_BYTES))
                left -= len(part)
                if not part or left < 0:
                    raise _damaged(artifact, "its file changed while it was read")
                digest.update(part)
                if left == 0 and digest.hexdigest() != artifact.sha256:
                    raise _damaged(artifact, f"its bytes have the hash {digest.hexdigest()}")
                yield part
        finally:
            self._threads.submit(file.close)

    async def prune(self, used: Callable[[], Collection[Artifact]], *, older_than_s: float = KEEP_S) -> tuple[int, int]:
        """Remove what nobody refers to and is older; gives how many files, and how many bytes.

        `used` is asked, in a thread, once the files have been listed: what came to be used before that counts.
        """
        return await self._run(lambda: self._prune(used, time.time() - older_than_s))

    def _path(self, artifact: Artifact) -> str:
        sha256 = artifact.sha256
        return f"{self._root}/sha256/{sha256[:2]}/{sha256[2:4]}/{sha256}"

    def _find_size(self, artifact: Artifact) -> int | None:
        try:
            size: int = self._files.info(self._path(artifact))["size"]
        except FileNotFoundError:
            return None
        return size

    def _is_fresh(self, artifact: Artifact) -> bool:
        if self._find_size(artifact) != artifact.size:
            return False
        with suppress(FileNotFoundError):
            return self._changed_at(self._path(artifact)) > time.time() - KEEP_S / 2
        return False

    def _changed_at(self, path: str) -> float:
        """Seconds since the epoch."""
        changed: datetime = self._files.modified(path)
        return (changed if changed.tzinfo is not None else changed.replace(tzinfo=UTC)).timestamp()

    def _is_older(self, path: str, before: float) -> bool:
        """Of what has been listed: by now it may have got its name, or have gone."""
        with suppress(FileNotFoundError):
            return self._changed_at(path) < before
        return False

    def _commit(self, writer: "_Writer", artifact: Artifact) -> None:
        found = writer.finish(is_synced=self._is_local)
        if found != artifact.sha256:
            raise InvalidField("artifact.sha256", f"the bytes that came have the hash {found}")
        path = self._path(artifact)
        folder = path.rpartition("/")[0]
        self._files.makedirs(folder, exist_ok=True)
        self._files.mv(writer.path, path)
        level = folder
        while self._is_local and len(level) >= len(self._root):
            _sync_folder(level)
            level = level.rpartition("/")[0]

    def _prune(self, used: Callable[[], Collection[Artifact]], before: float) -> tuple[int, int]:
        unfinished = [path for path in self._list("new") if self._is_older(path, before)]
        old = {
            path: size
            for path, size in self._list("sha256").items()
            if is_sha256(path.rpartition("/")[2]) and self._is_older(path, before)
        }
        kept = {artifact.sha256 for artifact in used()}
        for path in unfinished:
            with suppress(FileNotFoundError):
                self._files.rm_file(path)
        gone = [path for path in old if path.rpartition("/")[2] not in kept]
        sizes = [old[path] for path in gone if self._remove(path, before)]
        return len(sizes), sum(sizes)

    def _list(self, folder: str) -> dict[str, int]:
        """Path -> bytes of every file below."""
        with suppress(FileNotFoundError):
            found: dict[str, Any] = self._files.find(f"{self._root}/{folder}", detail=True)
            return {path: info["size"] for path, info in found.items()}
        return {}

    def _remove(self, path: str, before: float) -> bool:
        """Remove a file unless it has been put again meanwhile; whether it is gone."""
        try:
            if not self._is_local:
                if self._changed_at(path) >= before:
                    return False
                self._files.rm_file(path)
                return True
            # A rename takes hold of one file, however it came there, and keeps its age.
            held = f"{self._root}/new/{path.rpartition('/')[2]}-{secrets.token_hex(8)}"
            self._files.makedirs(f"{self._root}/new", exist_ok=True)
            self._files.mv(path, held)
            if self._changed_at(held) >= before:
                self._files.mv(held, path)
                return False
            self._files.rm_file(held)
            return True
        except FileNotFoundError:
            return False

    async def _run(self, call: Callable[[], T]) -> T:
        """The supervisor of what fsspec calls: a disk that is full or a store that is away is a reason to wait."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except AsterismError:
            raise
        except Exception as error:
            log.exception("artifacts are out of reach")
            reason = f"the place for artifacts does not work: {type(error).__name__}: {error}"
            raise Overloaded(reason[:500], RETRY_AFTER_S) from error


class _Writer:
    """A new file, from the threads that write it in turn; the lock is for an end that comes in the midst of a write."""

    def __init__(self, files: Any, path: str) -> None:
        self.path = path
        self._files = files
        self._file: Any = None
        self._digest = hashlib.sha256()
        self._lock = threading.Lock()
        self._has_ended = False

    def open(self) -> None:
        """Make it, unless it was given up before that."""
        with self._lock:
            if not self._has_ended:
                self._files.makedirs(self.path.rpartition("/")[0], exist_ok=True)
                self._file = self._files.open(self.path, "wb")

    def write(self, part: bytes) -> None:
        """Append."""
        with self._lock:
            if not self._has_ended:
                self._file.write(part)
                self._digest.update(part)

    def finish(self, *, is_synced: bool) -> str:
        """Close it, on disk (`is_synced`: that takes more); gives the hash of what was written."""
        with self._lock:
            if is_synced:
                self._file.flush()
                os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
            return self._digest.hexdigest()

    def abandon(self) -> None:
        """Leave nothing under this name."""
        with self._lock:
            self._has_ended = True
            # Of a file that could not be written to its end even this may fail; then a later prune removes it.
            with suppress(Exception):
                if self._file is not None:
                    self._file.close()
            with suppress(Exception):
                self._files.rm_file(self.path)


def _names(protocol: str | Collection[str]) -> Collection[str]:
    """fsspec's file systems have one name or several."""
    return (protocol,) if isinstance(protocol, str) else protocol


def _sync_folder(path: str) -> None:
    """Let a name in it survive a power cut."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _damaged(artifact: Artifact, reason: str) -> DataLoss:
    log.error("artifact damaged", artifact=str(artifact), reason=reason)
    return DataLoss("artifact", str(artifact), reason)
