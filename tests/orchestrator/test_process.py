"""`asterism serve` and `asterism token` as real processes: signals, exit codes, TLS, and what survives."""

import asyncio
import json
import os
import resource
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from asterism.orchestrator.core.credential import Role
from asterism.protocol.channel import open_channel
from asterism.protocol.credentials import parse_credential
from asterism.protocol.v1 import fleet_pb2, fleet_pb2_grpc
from tests.orchestrator.serving import PLAN, Peer

pytestmark = pytest.mark.slow


async def start(folder: Path, *arguments: str, before: Callable[[], None] | None = None, **variables: str) -> Process:
    """One `asterism` process with its own folders and none of our settings."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ASTERISM_")}
    environment |= {"ASTERISM_CONFIG_HOME": str(folder), "ASTERISM_DATA_DIR": str(folder), **variables}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "asterism.protocol.cli",
        *arguments,
        stdout=PIPE,
        stderr=PIPE,
        env=environment,
        preexec_fn=before,
    )


async def output_of(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command that ends by itself."""
    process = await start(folder, *arguments)
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def serving(
    folder: Path, *flags: str, before: Callable[[], None] | None = None
) -> AsyncIterator[tuple[Process, str]]:
    """A server that has said that it is ready, and its address; killed at the end if it still runs."""
    process = await start(folder, "serve", "--listen", "127.0.0.1:0", *flags, before=before)
    assert process.stderr is not None
    try:
        said = list[str]()
        while line := (await process.stderr.readline()).decode():
            said.append(line)
            if line.startswith("{") and json.loads(line)["event"] == "ready":
                break
        else:
            raise AssertionError("".join(said))
        yield process, json.loads(said[-1])["address"]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_what_was_accepted_survives_sigkill_and_sigterm_ends_in_order(tmp_path: Path) -> None:
    async with serving(tmp_path) as (process, address), Peer(address) as peer:
        constellation = await peer.submit("r")
        process.kill()
        assert await process.wait() == -signal.SIGKILL
    async with serving(tmp_path) as (process, address), Peer(address) as peer:
        assert await peer.submit("r") == constellation
        worker = await peer.attach()
        assert (await worker.assignment()).constellation == constellation
        watching = peer.watch(constellation)
        assert (await watching.read()).records
        process.send_signal(signal.SIGTERM)
        assert (await worker.read()).going_away
        await worker.call.done_writing()
        assert await process.wait() == 0
        assert process.stderr is not None
        assert "Traceback" not in (await process.stderr.read()).decode()


async def test_second_orchestrator_on_the_same_database_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as (process, _):
        code, _, said = await output_of(tmp_path, "serve", "--listen", "127.0.0.1:0")
        assert code == 2
        assert f"in use by process {process.pid}" in said


async def test_disk_that_takes_no_more_ends_the_process_loudly(tmp_path: Path) -> None:
    async with serving(tmp_path) as (process, _):
        process.terminate()
        await process.wait()

    def limit_files() -> None:
        size = 512 * 1024
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    async with serving(tmp_path, before=limit_files) as (process, address), Peer(address) as peer:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _fill(peer)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert process.stderr is not None
        said = (await process.stderr.read()).decode()
        assert await process.wait() == 70
        assert "the loop has failed" in said


async def _fill(peer: Peer) -> None:
    for number in range(50):
        await peer.submit(f"r{number}", text=PLAN + " " * 100_000)


async def test_other_address_without_tls_is_a_usage_error(tmp_path: Path) -> None:
    code, _, said = await output_of(tmp_path, "serve", "--listen", "0.0.0.0:0")
    assert code == 2
    assert "needs TLS" in said
    assert "Traceback" not in said


async def test_join_token_is_all_that_a_peer_needs_to_trust_and_be_trusted(tmp_path: Path) -> None:
    code, printed, _ = await output_of(
        tmp_path, "token", "create", "--role", "admin", "--name", "root", "--tls", "self-made"
    )
    assert code == 0
    credential = parse_credential(printed.strip())
    assert credential.role is Role.ADMIN
    assert credential.fingerprint is not None
    async with serving(tmp_path, "--listen", "0.0.0.0:0", "--tls", "self-made") as (process, address):
        target = address.replace("0.0.0.0", "127.0.0.1")
        async with await open_channel(target, printed.strip()) as channel:
            answer = await fleet_pb2_grpc.FleetServiceStub(channel).ListWorkers(fleet_pb2.ListWorkersRequest())
            assert not answer.workers
        certificate = (tmp_path / "tls" / "cert.pem").read_bytes()
        async with grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(certificate)) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await fleet_pb2_grpc.FleetServiceStub(channel).ListWorkers(fleet_pb2.ListWorkersRequest())
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        process.terminate()
        assert process.stderr is not None
        assert credential.secret not in (await process.stderr.read()).decode()


async def test_config_prints_every_value_with_its_source(tmp_path: Path) -> None:
    (tmp_path / "orchestrator.toml").write_text("lease_s = 3.0\n")
    process = await start(tmp_path, "config", "--output", "json", "--", "--listen", "127.0.0.1:1", ASTERISM_DRAIN_S="4")
    out, _ = await process.communicate()
    printed = json.loads(out)
    assert printed["lease_s"] == {"value": "3.0", "source": f"file {tmp_path / 'orchestrator.toml'}"}
    assert printed["drain_s"] == {"value": "4.0", "source": "environment"}
    assert printed["listen"] == {"value": "127.0.0.1:1", "source": "flag"}
    assert printed["max_watches"] == {"value": "64", "source": "default"}
