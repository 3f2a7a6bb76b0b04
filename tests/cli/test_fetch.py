"""`asterism fetch`: a file that is whole or not there, whatever ends the transfer."""

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import pytest

from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.values import Artifact
from asterism.protocol.convert import artifact_to_proto, constellation_to_proto
from asterism.protocol.v1 import artifact_pb2, artifact_pb2_grpc, client_pb2, client_pb2_grpc, types_pb2
from tests.cli.peer import Context, Peer
from tests.cli.shell import Shell, ended
from tests.cli.stories import constellation

DATA = b'"' + b"x" * 300_000 + b'"'
ARTIFACT = Artifact(hashlib.sha256(DATA).hexdigest(), len(DATA))


@dataclass
class ArtifactPeer(Peer, artifact_pb2_grpc.ArtifactServiceServicer):
    """The story, whose report is an artifact."""

    hangs: bool = False
    has_sent: asyncio.Event = field(default_factory=asyncio.Event)

    async def GetConstellation(
        self, request: client_pb2.GetConstellationRequest, context: Context
    ) -> types_pb2.Constellation:
        of = constellation(16)
        of.stars[StarId("report")].result = ARTIFACT
        return constellation_to_proto(of, {}, 16)

    async def GetResult(self, request: Any, context: Any) -> None:  # type: ignore[override]
        await context.write(artifact_pb2.ArtifactPart(header=artifact_to_proto(ARTIFACT)))
        await context.write(artifact_pb2.ArtifactPart(data=DATA[:200_000]))
        self.has_sent.set()
        if self.hangs:
            await asyncio.Event().wait()
        await context.write(artifact_pb2.ArtifactPart(data=DATA[200_000:]))

    async def Put(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        raise AssertionError("that is for workers")

    async def GetInput(self, request: Any, context: Any) -> None:  # type: ignore[override]
        raise AssertionError("that is for workers")


@pytest.fixture
async def peer() -> AsyncIterator[ArtifactPeer]:
    one = ArtifactPeer()
    server = grpc.aio.server()
    client_pb2_grpc.add_ClientServiceServicer_to_server(one, server)
    artifact_pb2_grpc.add_ArtifactServiceServicer_to_server(one, server)
    one.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield one
    await server.stop(None)


async def test_result_goes_to_stdout_or_to_a_file_as_it_is(shell: Shell, peer: ArtifactPeer) -> None:
    result = await shell.run("fetch", "report", "--address", peer.address)
    assert (result.code, result.out, result.err) == (0, DATA.decode(), "")
    result = await shell.run("fetch", "report", "c1", "--to", "out.json", "--address", peer.address)
    assert (result.code, result.out) == (0, "")
    assert (shell.home / "out.json").read_bytes() == DATA


async def test_result_in_the_graph_is_saved_the_same_way(shell: Shell, peer: ArtifactPeer) -> None:
    star = next(star for star in constellation(16).stars if star.startswith("b01"))
    result = await shell.run("fetch", star, "--to", "out.json", "--address", peer.address)
    assert result.code == 0, result.err
    assert (shell.home / "out.json").read_text().startswith(("{", '"', "["))


async def test_link_stays_one_and_its_target_is_written(shell: Shell, peer: ArtifactPeer) -> None:
    (shell.home / "folder").mkdir()
    (shell.home / "link.json").symlink_to("folder/out.json")
    for _ in ("into a target that is not there yet", "over one that is"):
        result = await shell.run("fetch", "report", "--to", "link.json", "--address", peer.address)
        assert (result.code, result.err) == (0, "")
        assert (shell.home / "link.json").is_symlink()
        assert [path.name for path in (shell.home / "folder").iterdir()] == ["out.json"]
        assert (shell.home / "folder" / "out.json").read_bytes() == DATA


async def test_pipe_is_written_into_and_stays_one(shell: Shell, peer: ArtifactPeer) -> None:
    os.mkfifo(shell.home / "pipe")
    (shell.home / "link").symlink_to("pipe")
    reader = await asyncio.create_subprocess_exec("cat", shell.home / "pipe", stdout=asyncio.subprocess.PIPE)
    try:
        process = await shell.start("fetch", "report", "--to", "link", "--address", peer.address)
        read, _ = await reader.communicate()
        assert ((await ended(process)).code, read) == (0, DATA)
        assert (shell.home / "pipe").is_fifo()
    finally:
        if reader.returncode is None:
            reader.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_leaves_no_half_file(shell: Shell, peer: ArtifactPeer, number: signal.Signals) -> None:
    peer.hangs = True
    process = await shell.start("fetch", "report", "--to", "out.json", "--address", peer.address)
    await peer.has_sent.wait()
    process.send_signal(number)
    assert (await ended(process)).code == 130
    assert [path.name for path in shell.home.iterdir() if "out.json" in path.name] == []


async def test_what_has_no_result_is_refused(shell: Shell, peer: ArtifactPeer) -> None:
    result = await shell.run("fetch", "nobody", "--address", peer.address)
    assert result.code == 2
    assert "no star named 'nobody'" in result.err


async def test_file_that_cannot_be_written_is_said(shell: Shell, peer: ArtifactPeer) -> None:
    result = await shell.run("fetch", "report", "--to", "nowhere/out.json", "--address", peer.address)
    assert result.code == 2
    assert result.err == "error: setting --to: cannot write nowhere/out.json: No such file or directory\n"
    result = await shell.run("fetch", "report", "--to", ".", "--address", peer.address)
    assert result.err == "error: setting --to: cannot write .: Is a directory\n"
