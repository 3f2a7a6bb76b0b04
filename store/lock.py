"""A lock that one process holds beside a database: it ends with the process, however that ends."""

import fcntl
import os
from pathlib import Path

from asterism.orchestrator.core.errors import Misconfigured


class FileLock:
    """An advisory lock on a file of its own, which holds the pid of the process that has it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def acquire(self) -> str | None:
        """Take it; gives None, or the pid of the process that holds it. Never waits."""
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Misconfigured("store", f"{self._path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 32, 0).decode("ascii", "replace").strip()
            os.close(file)
            return holder or "unknown"
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode("ascii"), 0)
        self._file = file
        return None

    def release(self) -> None:
        """Let it go, if it is held. The file stays: removing it could split two holders."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
