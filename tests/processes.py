"""Starts the real commands on loopback for benchmarks and end-to-end tests, and ends them whatever happens."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from asterism.protocol.client import AsyncClient

PROGRAM: Final = Path(sys.executable).with_name("asterism")
START_S: Final = 60.0


class Process:
    """One child process of ours, its output in a file."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """`prepare` runs in the child before the program does."""
        self.name = name
        self.log = folder / f"{name}.log"
        # Nothing of the user's own settings, so that a run is the same everywhere.
        clean = {key: value for key, value in os.environ.items() if not key.startswith("ASTERISM_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(PROGRAM), *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=folder,
                preexec_fn=prepare,
                env={
                    **clean,
                    "ASTERISM_CONFIG_HOME": str(folder),
                    "ASTERISM_DATA_DIR": str(folder / "data"),
                    "OMP_NUM_THREADS": "1",
                    **environment,
                },
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout_s: float = START_S) -> int:
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self.is_alive:
            self._process.kill()
        self._process.wait()

    def read(self) -> str:
        return self.log.read_text(errors="replace")


class Fleet:
    """An orchestrator and its workers, in a folder of their own."""

    def __init__(self, folder: Path, *, serve: Sequence[str] = ()) -> None:
        self.folder = folder
        self._serve = serve
        self.children: list[Process] = []
        self.address = f"127.0.0.1:{free_port()}"

    def start_orchestrator(self, name: str = "serve", *, prepare: Callable[[], None] | None = None) -> Process:
        """Start it, or start it again at the same address, and wait until it serves."""
        child, self.address = self.start_another(name, self.address, prepare=prepare)
        return child

    def start_another(
        self, name: str, listen: str = "127.0.0.1:0", *, prepare: Callable[[], None] | None = None
    ) -> tuple[Process, str]:
        """Start one, wait until it serves or stands by, and give its address too."""
        ready = self.folder / f"{name}.ready"
        ready.unlink(missing_ok=True)
        arguments = ["serve", "--listen", listen, "--data-dir", str(self.folder / "data")]
        child = self.start(name, [*arguments, "--ready-file", str(ready), *self._serve], prepare=prepare)
        return child, wait_for_file(ready, child)

    def start_worker(self, name: str, *options: str) -> Process:
        """Start a worker; it attaches when it is ready."""
        return self.start(name, ["work", "--join", self.address, "--name", name, *options])

    def start(
        self, name: str, arguments: Sequence[str], *, prepare: Callable[[], None] | None = None, **environment: str
    ) -> Process:
        """Start any of our commands."""
        child = Process(name, arguments, self.folder, environment, prepare)
        self.children.append(child)
        return child

    def end(self) -> None:
        """No process of ours is left."""
        for child in reversed(self.children):
            if child.is_alive:
                child.signal(signal.SIGTERM)
        for child in self.children:
            try:
                child.wait(15.0)
            except subprocess.TimeoutExpired:
                child.kill()


@contextmanager
def fleet(folder: Path, *, serve: Sequence[str] = ()) -> Iterator[Fleet]:
    """A fleet with a running orchestrator and no workers yet."""
    made = Fleet(folder, serve=serve)
    try:
        made.start_orchestrator()
        yield made
    finally:
        made.end()


def free_port() -> int:
    """A port that a killed process of ours can have again.

    One that the system chooses may be the near end of anybody's connection in the moment when nobody listens on it.
    """
    while True:
        port = random.randrange(10_000, 32_768)  # Below what Linux, macOS and Windows give to connections.
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


async def attached(client: AsyncClient, count: int) -> None:
    """Return once that many workers are attached."""
    deadline = time.monotonic() + START_S
    while sum(worker.is_attached for worker in await client.workers()) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"there are not {count} workers after {START_S} s")
        await asyncio.sleep(0.05)


def wait_for_line(child: Process, text: str) -> None:
    """Return once the child has written `text`; its death before that is an error."""
    deadline = time.monotonic() + 2 * START_S
    while text not in child.read():
        if not child.is_alive:
            raise RuntimeError(f"{child.name} ended before it wrote {text!r}:\n{child.read()}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{child.name} has not written {text!r}:\n{child.read()}")
        time.sleep(0.02)


def wait_for_file(path: Path, child: Process) -> str:
    """The content of a file that `child` writes when it is ready; watches the child, so that its death is seen."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if path.exists() and (text := path.read_text().strip()):
            return text
        if not child.is_alive:
            raise RuntimeError(f"{child.name} ended before it was ready:\n{child.read()}")
        time.sleep(0.02)
    raise TimeoutError(f"{child.name} was not ready within {START_S} s:\n{child.read()}")
