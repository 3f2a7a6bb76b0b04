"""A database that goes away, is full, or may not be written: a clear error, nothing lost, and on once it is mended.

`ASTERISM_RESTARTS` says how often PostgreSQL is restarted (2; `make soak` asks for 10).
"""

import asyncio
import ctypes
import os
import resource
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final, Literal

import pytest

from asterism.orchestrator.core.errors import AsterismError, Unreachable
from asterism.orchestrator.core.records import Record
from asterism.orchestrator.core.request import Request
from asterism.protocol.answers import StreamedText
from asterism.protocol.client import AsyncClient
from tests.e2e.conftest import LEASE_S
from tests.e2e.test_kill import chain, check_whole
from tests.postgres import VARIABLE, NoPostgres, server
from tests.processes import Fleet, attached, fleet

RESTARTS = int(os.environ.get("ASTERISM_RESTARTS", "2"))
NONE = ("--model", "none", "--slots", "4")
EXIT_APPEND_FAILED: Final = 70

pytestmark = pytest.mark.timeout(120 + 30 * RESTARTS)


@asynccontextmanager
async def supervised(running: Fleet) -> AsyncIterator[list[int]]:
    """What systemd does: an orchestrator that ends is started again. Gives the exit codes so far."""
    codes: list[int] = []

    async def supervise() -> None:
        child, number = running.children[0], 0
        while True:
            codes.append(await asyncio.to_thread(child.wait, 600.0))
            number += 1
            try:
                child = await asyncio.to_thread(running.start_orchestrator, f"serve-{number}")
            except RuntimeError:  # the database is not back yet
                child = running.children[-1]

    task = asyncio.create_task(supervise())
    try:
        yield codes
    finally:
        task.cancel()


@pytest.mark.skipif(VARIABLE in os.environ, reason="another's server is not ours to restart")
async def test_postgres_restarted_under_load_loses_nothing(tmp_path: Path) -> None:
    try:
        database = server()
        postgres = database.__enter__()
    except NoPostgres as error:
        pytest.skip(f"no PostgreSQL: {error}")
    try:
        with postgres.database() as url, fleet(tmp_path, serve=["--lease-s", str(LEASE_S), "--store", url]) as running:
            await _restart_under_load(running, postgres.restart)
    finally:
        database.__exit__(None, None, None)


async def _restart_under_load(running: Fleet, restart: Callable[[Literal["INT", "QUIT"]], None]) -> None:
    for name in ("ada", "bob"):
        running.start_worker(name, *NONE)
    async with AsyncClient(running.address) as client, supervised(running) as codes:
        await attached(client, 2)
        for number in range(RESTARTS):
            submitted = await client.submit(Request("plan", chain(80)), request_id=f"r{number}")
            seen: list[Record] = []
            async for record in client.watch(submitted.constellation, with_text=False):
                if isinstance(record, StreamedText):
                    continue
                seen.append(record)
                if len(seen) == 40:
                    await asyncio.to_thread(restart, "INT" if number % 2 else "QUIT")
            check_whole(seen, 81)
            repeated = await client.submit(Request("plan", chain(80)), request_id=f"r{number}")
            assert not repeated.is_new
    assert set(codes) <= {EXIT_APPEND_FAILED, 3}, codes
    told = "".join(child.read() for child in running.children if child.name.startswith("serve"))
    assert not codes or "the database was lost in a write" in told or "the lead is lost" in told, told


def small_files() -> None:
    """Let no file grow beyond a megabyte: for SQLite that is a full disk."""
    # Else the signal would end the process before the write has failed.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


async def test_a_full_disk_ends_the_process_and_keeps_what_was_accepted(tmp_path: Path) -> None:
    made = Fleet(tmp_path)
    accepted: list[str] = []
    try:
        child = made.start_orchestrator(prepare=small_files)
        async with AsyncClient(made.address) as client:
            try:
                async with asyncio.timeout(60):
                    while True:
                        name = f"r{len(accepted)}"
                        await client.submit(Request("plan", chain(50)), request_id=name)
                        accepted.append(name)
            except AsterismError as error:
                refusal = error
        assert isinstance(refusal, Unreachable)
        assert child.wait() == EXIT_APPEND_FAILED
        assert "the database cannot be written" in child.read()
        assert accepted
        with closing(sqlite3.connect(tmp_path / "data" / "asterism.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        made.start_orchestrator("serve-again")
        async with AsyncClient(made.address) as client:
            for name in accepted:
                assert not (await client.submit(Request("plan", chain(50)), request_id=name)).is_new
            assert (await client.submit(Request("plan", chain(50)), request_id="after")).is_new
    finally:
        made.end()


def without_override() -> None:
    """Let root obey the permissions of files, as everybody else does."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        drop_from_bounding_set, override, read_search = 24, 1, 2
        for capability in (override, read_search):
            if libc.prctl(drop_from_bounding_set, capability, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "prctl")


@pytest.mark.parametrize("locked", ["data/asterism.db", "data"])
def test_a_database_that_may_not_be_written_is_refused_with_what_to_mend(tmp_path: Path, locked: str) -> None:
    made = Fleet(tmp_path)
    try:
        child = made.start_orchestrator()
        child.signal(signal.SIGTERM)
        assert child.wait() == 0
        before = (tmp_path / "data" / "asterism.db").read_bytes()
        path = tmp_path / locked
        mode = path.stat().st_mode
        path.chmod(mode & ~0o222)
        try:
            refused = made.start("refused", ["serve", "--data-dir", str(tmp_path / "data")], prepare=without_override)
            assert refused.wait() in {2, 3}, refused.read()
        finally:
            path.chmod(mode)
        assert str(tmp_path / "data") in refused.read()
        assert "Traceback" not in refused.read()
        assert (tmp_path / "data" / "asterism.db").read_bytes() == before
        made.start_orchestrator("mended")
    finally:
        made.end()
