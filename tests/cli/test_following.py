"""Following a request: how it ends for who follows it, and an orchestrator that goes away in between."""

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

import grpc
import pytest

from asterism.orchestrator.core.records import ConstellationEnded, ConstellationRecord
from asterism.orchestrator.core.request import ConstellationState
from asterism.protocol.convert import constellation_to_proto
from asterism.protocol.v1 import client_pb2, types_pb2
from tests.cli.peer import Context, Peer, serving
from tests.cli.shell import Shell, ended
from tests.cli.stories import constellation, story

GOES_ON = "`asterism watch c1` goes on and `asterism cancel c1` ends it"


class FailedPeer(Peer):
    """The story, with another end."""

    def _story(self) -> tuple[ConstellationRecord, ...]:
        *before, end = story()
        assert isinstance(end, ConstellationEnded)
        return (*before, replace(end, state=ConstellationState.FAILED, reason="no"))

    async def GetConstellation(
        self, request: client_pb2.GetConstellationRequest, context: Context
    ) -> types_pb2.Constellation:
        of = constellation()
        of.state, of.reason = ConstellationState.FAILED, "no"
        return constellation_to_proto(of, {}, self._story()[-1].seq)


class ForgetfulPeer(Peer):
    """It tells a request's story, and has gone when it is asked how the request stands."""

    async def GetConstellation(self, request: client_pb2.GetConstellationRequest, context: Context) -> NoReturn:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")


class SilentPeer(Peer):
    """It does not answer who cancels."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked = asyncio.Event()

    async def Cancel(self, request: client_pb2.CancelRequest, context: Context) -> client_pb2.CancelResponse:
        self.is_asked.set()
        await asyncio.Event().wait()
        return client_pb2.CancelResponse()


async def said(process: asyncio.subprocess.Process, beginning: str) -> str:
    """The next line on stderr that begins so."""
    assert process.stderr is not None
    async for line in process.stderr:
        if line.decode().startswith(beginning):
            return line.decode().rstrip()
    raise AssertionError(f"it has ended and not said {beginning!r}")


@pytest.mark.parametrize(
    "arguments", [(), ("--output", "json"), *(("--output", "json", "--after", seq) for seq in ("15", "16", "99999"))]
)
async def test_code_is_that_of_the_request_however_it_is_watched(shell: Shell, arguments: Sequence[str]) -> None:
    async with serving(FailedPeer()) as peer:
        result = await shell.run("watch", "c1", *arguments, "--address", peer.address)
    assert (result.code, "Traceback" in result.err) == (1, False)


@pytest.mark.parametrize("words", ["run slow", "watch c1", "watch c1 --output json"])
async def test_a_lost_connection_is_said_once_and_that_it_is_back(shell: Shell, words: str) -> None:
    async with serving(Peer()) as peer:
        await shell.run("submit", "slow", "--address", peer.address)
        process = await shell.start(*words.split(), "--address", peer.address)
        await peer.is_watched.wait()
    lost = await said(process, "no connection (")
    async with serving(peer, peer.address):
        await shell.run("cancel", "c1", "--address", peer.address)
        result = await ended(process)
    assert lost.startswith(f"no connection (cannot reach {peer.address}: ")
    assert lost.endswith("); it is tried again")
    assert "no connection" not in result.err
    assert result.err.splitlines().count("connected again") == 1
    assert result.code == 1


@pytest.mark.parametrize("words", ["run hello", "watch c1"])
async def test_a_request_that_is_lost_sight_of_is_named_with_how_to_go_on(shell: Shell, words: str) -> None:
    async with serving(ForgetfulPeer()) as peer:
        result = await shell.run(*words.split(), "--address", peer.address)
    error, hint = result.err.splitlines()[-2:]
    assert result.code == 3
    assert error.startswith(f"error: cannot reach {peer.address}: ")
    assert hint.startswith("hint: ")
    assert GOES_ON in hint


async def test_ctrl_c_while_nobody_is_there_says_that_nothing_was_cancelled(shell: Shell) -> None:
    async with serving(Peer()) as peer:
        process = await shell.start("run", "slow", "--address", peer.address)
        await peer.is_watched.wait()
    await said(process, "no connection (")
    process.send_signal(signal.SIGINT)
    result = await ended(process)
    assert (result.code, result.out, peer.cancelled) == (3, "", [])
    assert f"error: c1 was NOT cancelled: cannot reach {peer.address}: " in result.err
    assert GOES_ON in result.err


async def test_leaving_before_the_cancellation_is_answered_says_so(shell: Shell) -> None:
    async with serving(SilentPeer()) as peer:
        assert isinstance(peer, SilentPeer)
        process = await shell.start("run", "slow", "--address", peer.address)
        await peer.is_watched.wait()
        process.send_signal(signal.SIGINT)
        await peer.is_asked.wait()
        process.send_signal(signal.SIGINT)
        result = await ended(process)
    assert (result.code, result.out) == (130, "")
    assert "error: c1 was NOT cancelled: " in result.err
    assert GOES_ON in result.err
