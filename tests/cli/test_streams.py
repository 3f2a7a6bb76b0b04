"""What comes of a command whose streams, files or folders cannot be used: one line, a code, and never a traceback."""

import json

import pytest

from tests.cli.peer import Peer
from tests.cli.shell import Shell

UNUSABLE = "cannot write to standard output: Bad file descriptor"
BUFFERED = {"PYTHONUNBUFFERED": ""}
"""As users have it: what is written fails later than its writing."""


@pytest.mark.parametrize("redirect", [">&-", "1<stdout"])
@pytest.mark.parametrize("words", ["list", "get --output json", "watch --output json"])
async def test_output_that_cannot_be_written_is_said(shell: Shell, peer: Peer, words: str, redirect: str) -> None:
    (shell.home / "stdout").touch()
    to = ("--address", peer.address)
    result = await shell.run(*words.split(), *to, redirect=redirect, **BUFFERED)
    assert (result.code, result.out, result.err.splitlines()[-1]) == (2, "", f"error: {UNUSABLE}")
    assert "Traceback" not in result.err


async def test_closed_stderr_keeps_nothing_from_being_done(shell: Shell, peer: Peer) -> None:
    result = await shell.run("run", "1 2 3 4", "--address", peer.address, redirect="2>&-")
    assert (result.code, result.out) == (0, "1 2 3 4: (1+2+3)*4\n")


async def test_closed_stdin_is_no_request(shell: Shell, peer: Peer) -> None:
    result = await shell.run("submit", "-", "--address", peer.address, redirect="<&-")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: request: cannot read standard input: Bad file descriptor\n")


async def test_reader_that_leaves_is_no_error(shell: Shell, peer: Peer) -> None:
    result = await shell.run("list", "--address", peer.address, redirect="| :")
    assert (result.out, result.err) == ("", "")


async def test_what_an_encoding_lacks_is_escaped(shell: Shell, peer: Peer) -> None:
    tree = await shell.run("graph", "--address", peer.address, PYTHONIOENCODING="ascii")
    assert (tree.code, tree.err) == (0, "")
    assert tree.out.splitlines()[0] == "boards.txt \\u2014 SUCCEEDED, revision 3"
    dot = await shell.run("graph", "--output", "json", "--address", peer.address, PYTHONIOENCODING="ascii")
    assert json.loads(dot.out)["name"] == "boards.txt"


@pytest.mark.parametrize("words", ["serve", "token create --role client --name me"])
async def test_data_folder_that_is_none_is_said(shell: Shell, words: str) -> None:
    (shell.home / "file").touch()
    result = await shell.run(*words.split(), "--data-dir", "file")
    assert (result.code, result.out, result.err) == (2, "", "error: cannot use file: File exists\n")


async def test_credential_that_is_no_text_is_said(shell: Shell) -> None:
    (shell.home / "bad.bin").write_bytes(b"\xff\xfe")
    result = await shell.run("list", "--token-file", "bad.bin")
    assert (result.code, result.err) == (2, "error: setting --token-file: cannot read bad.bin: it is not text\n")
