"""An orchestrator and its workers as child processes of this one: what `up` keeps, and `run` has for one request."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO, TypeVar

from asterism.orchestrator.core.errors import AsterismError, Misconfigured
from asterism.protocol.commands.actions.running import beside
from asterism.protocol.folders import data_folder
from asterism.protocol.view.wording import one_line

if TYPE_CHECKING:
    from asterism.protocol.client import AsyncClient

_READY_S: Final = 30.0
"""Longest start of an orchestrator, in seconds: recovery of a large journal on a slow disk included."""
_READY: Final = "ready-"
"""Begins the name of the file in which an orchestrator says its address; the id of who waits for it ends it."""
_DRAIN_S: Final = 10.0
"""How long a child may take to end after SIGTERM, in seconds, before it is killed."""
_WORKER_DRAIN_S: Final = 8.0
"""How long a worker lets its stars go on, in seconds: less than `_DRAIN_S`, so that it says goodbye."""
_LOOK_S: Final = 0.02
"""Time between two looks for the ready file: a file that another process writes has no event to wait for."""
_LOOK_AT_FLEET_S: Final = 0.1
"""Time between two looks at the fleet while its workers join, in seconds: the fleet service has no watch."""
_LOG_TAIL: Final = 5
"""Lines of a dead child's log that the error repeats."""
_PRIVATE: Final = ("ASTERISM_ADDRESS", "ASTERISM_TOKEN", "ASTERISM_TOKEN_FILE", "ASTERISM_CA_FILE", "ASTERISM_LISTEN")
"""Variables that speak of another orchestrator than the one that is started here."""


T = TypeVar("T")


class ChildEnded(AsterismError):
    """A child process ended by itself; `log` is the file with all that it said."""

    def __init__(self, child: str, code: int, log: Path) -> None:
        said = " / ".join(one_line(line, 300) for line in _last_lines(log))
        super().__init__(f"{child} ended with code {code}: {said or 'it said nothing'} (log: {log})")
        self.child = child
        self.code = code
        self.log = log


@dataclass(frozen=True, slots=True)
class LocalSetup:
    """What to start."""

    data_folder: Path
    """Holds the database and the logs."""
    listen: str = "127.0.0.1:0"
    """Port 0: any free one."""
    workers: int = 3
    slots: int | None = None
    """Stars at once on each worker; None: an equal share of the cores."""
    worker_arguments: tuple[str, ...] = ()
    """Further flags of `asterism work`."""


@dataclass(slots=True)
class Child:
    """A process of the fleet, in a session of its own."""

    name: str
    process: asyncio.subprocess.Process
    log: Path
    is_ending: bool = False
    """Whether it was told to end."""


@dataclass(slots=True)
class LocalFleet:
    """The running children."""

    address: str
    children: list[Child] = field(default_factory=list)
    """The orchestrator first, then the workers."""

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Of the orchestrator first, then of the workers."""
        return tuple(child.process.pid for child in self.children)

    async def guard(self, work: Coroutine[object, object, T]) -> T:
        """The result of `work`, unless a child ends before it: then `ChildEnded`."""
        return await beside(work, *(_guard(child) for child in self.children))

    def kill(self) -> None:
        """Ends every child at once, with all that it started."""
        for child in self.children:
            child.is_ending = True
            _signal_group(child, signal.SIGKILL)

    async def stop(self) -> None:
        """Drains the workers, then the orchestrator, and kills what does not end in time."""
        try:
            await _end([child for child in self.children if child is not self.children[0]])
            await _end(self.children[:1])
        finally:
            self.kill()
            for child in self.children:
                await child.process.wait()


@dataclass(frozen=True, slots=True)
class Claim:
    """The user's data folder, or what to use in its place."""

    folder: Path
    held_by: str | None = None
    """Address of the orchestrator that `up` keeps on the folder already: use this one."""
    lock: TextIO | None = None

    def publish(self, address: str) -> None:
        """Tells others that this fleet is for them too."""
        if self.lock is not None:
            self.lock.write(address)
            self.lock.flush()


@contextmanager
def claim_data_folder() -> Iterator[Claim]:
    """The folder of local fleets in the user's data folder, for one fleet at a time.

    It is not that of `serve`: a second orchestrator on one database would end the first, and the credentials that
    were made there are not asked for here.

    A folder that another fleet holds gives that fleet's address where it has published one (`up` does), else a folder
    for the time being.
    """
    folder = data_folder() / "local"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "in-use").open("a+")
    except OSError as error:
        raise Misconfigured("data_dir", f"cannot write {folder}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system takes it back however this process ends
        except BlockingIOError:
            lock.seek(0)
            held_by = lock.read().strip()
            if held_by:
                yield Claim(folder, held_by)
                return
            with tempfile.TemporaryDirectory(prefix="asterism-") as own:
                yield Claim(Path(own))
            return
        lock.truncate(0)
        try:
            yield Claim(folder, lock=lock)
        finally:
            lock.truncate(0)


@asynccontextmanager
async def local_fleet(setup: LocalSetup) -> AsyncIterator[LocalFleet]:
    """Starts the children and stops them all at the end, however it comes.

    Raises `ChildEnded` when the orchestrator does not come up. Workers may still be joining when it yields.
    """
    logs = setup.data_folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    _remove_left_behind(setup.data_folder)
    ready = setup.data_folder / f"{_READY}{os.getpid()}"
    ready.unlink(missing_ok=True)
    fleet = LocalFleet(address="")
    try:
        database = setup.data_folder / "asterism.db"
        folders = ["--data-dir", str(setup.data_folder), "--database", str(database), "--ready-file", str(ready)]
        # On loopback, for this user: whatever the settings of a real `serve` on this machine may be.
        serve = ["serve", "--listen", setup.listen, *folders, "--tls", "off", "--credentials", "auto"]
        orchestrator = await _start("asterism serve", serve, logs / "serve.log")
        fleet.children.append(orchestrator)
        fleet.address = await _address_when_ready(orchestrator, ready)
        for number in range(1, setup.workers + 1):
            name = f"local-{number}"
            work = ["work", "--join", fleet.address, "--name", name, *_shares(setup), *setup.worker_arguments]
            fleet.children.append(await _start(f"asterism work ({name})", work, logs / f"{name}.log"))
        yield fleet
    finally:
        try:
            await fleet.stop()
        finally:
            ready.unlink(missing_ok=True)  # not earlier: an orchestrator that still starts would write it again


async def all_joined(client: "AsyncClient", workers: int) -> None:
    """Waits until so many workers are attached; a child that dies in the meantime is the guard's business."""
    while sum(worker.is_attached for worker in await client.workers()) < workers:  # noqa: ASYNC110 - nothing to wait on
        await asyncio.sleep(_LOOK_AT_FLEET_S)


def missing_extras() -> tuple[str, ...]:
    """Extras that a local fleet needs and this installation lacks."""
    needs = (("orchestrator", "sqlalchemy"), ("worker", "pydantic_settings"))
    return tuple(dict.fromkeys(extra for extra, module in needs if find_spec(module) is None))


def _shares(setup: LocalSetup) -> list[str]:
    """Slots and torch's threads for each worker, so that together they take the machine and not more."""
    share = max((os.cpu_count() or 1) // max(setup.workers, 1), 1)
    slots = setup.slots or max(share, 2)
    return ["--slots", str(slots), "--threads", str(share), "--drain-s", f"{_WORKER_DRAIN_S:g}"]


async def _start(name: str, arguments: Sequence[str], log: Path) -> Child:
    """One child in a session of its own: the terminal's Ctrl-C reaches this process only, which then decides."""
    environment = {key: value for key, value in os.environ.items() if key not in _PRIVATE}
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "asterism.protocol.cli",
            *arguments,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            preexec_fn=_dies_with_parent(),
        )
    return Child(name, process, log)


def _dies_with_parent() -> Callable[[], None] | None:
    """On Linux, what makes a child get SIGTERM when this process dies, even by SIGKILL; elsewhere None."""
    if sys.platform != "linux":
        return None
    import ctypes

    set_death_signal = 1  # PR_SET_PDEATHSIG of linux/prctl.h
    library = ctypes.CDLL(None, use_errno=True)  # loaded here: after the fork only the call itself is safe
    return partial(_call, library.prctl, set_death_signal, int(signal.SIGTERM))


def _call(function: Callable[[int, int], int], option: int, value: int) -> None:
    function(option, value)


async def _address_when_ready(orchestrator: Child, ready: Path) -> str:
    """The address in the ready file, once the orchestrator has written it."""
    try:
        async with asyncio.timeout(_READY_S):
            while not (address := _first_line(ready)):
                if orchestrator.process.returncode is not None:
                    raise ChildEnded(orchestrator.name, orchestrator.process.returncode, orchestrator.log)
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        raise AsterismError(
            f"{orchestrator.name} was not ready within {_READY_S:g} s (log: {orchestrator.log})"
        ) from None
    return address


async def _end(children: Sequence[Child]) -> None:
    """SIGTERM, and time to drain."""
    for child in children:
        child.is_ending = True
        if child.process.returncode is None:
            child.process.terminate()
    try:
        async with asyncio.timeout(_DRAIN_S):
            for child in children:
                await child.process.wait()
    except TimeoutError:
        return  # the caller kills what is left


async def _guard(child: Child) -> None:
    code = await child.process.wait()
    if not child.is_ending:
        raise ChildEnded(child.name, code, child.log)


def _signal_group(child: Child, number: signal.Signals) -> None:
    """To the child's whole group, which is there as long as any process of it is."""
    try:
        os.killpg(child.process.pid, number)
    except ProcessLookupError:
        return


def _remove_left_behind(folder: Path) -> None:
    """Removes the ready files of processes that are no more: who is killed cannot do it."""
    for file in folder.glob(f"{_READY}*"):
        process_id = file.name.removeprefix(_READY)
        if process_id.isdecimal() and not _is_alive(int(process_id)):
            file.unlink(missing_ok=True)


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # somebody else's
    return True


def _first_line(file: Path) -> str:
    """A few bytes of a local file: too little to leave the event loop for."""
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return ""


def _last_lines(log: Path) -> list[str]:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()][-_LOG_TAIL:]
