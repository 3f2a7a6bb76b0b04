"""How commands end: hints that fit the error, and refusals before the work."""

import json
import socket

import pytest

from asterism.orchestrator.core.errors import (
    AsterismError,
    Misconfigured,
    NotFound,
    NotLeading,
    StaleRevision,
    Unreachable,
)
from asterism.protocol.commands.ending import ExitCode, NoRequestYet, OutOfSight, advice
from asterism.protocol.v1 import client_pb2
from tests.cli.peer import Context, Peer, serving
from tests.cli.shell import Shell
from tests.cli.stories import ID


class EmptyPeer(Peer):
    """Nobody has submitted anything yet."""

    async def ListConstellations(
        self, request: client_pb2.ListConstellationsRequest, context: Context
    ) -> client_pb2.ListConstellationsResponse:
        return client_pb2.ListConstellationsResponse()


@pytest.mark.parametrize(
    ("error", "command", "hint"),
    [
        (NotFound("star", "x"), "fetch", "`asterism get ID`"),
        (NotFound("credential", "x"), "token", "`asterism token list`"),
        (NotFound("worker", "x"), "workers", "`asterism workers`"),
        (NotFound("request", "x"), "get", "`asterism list`"),
        (NoRequestYet(), "get", "`asterism submit`"),
        (Unreachable("h:1", "refused"), "list", "`asterism doctor`"),
        (Unreachable("h:1", "refused"), "doctor", "`asterism up`"),
        (Unreachable("h:1", "refused"), "work", "--join"),
        (Misconfigured("tls", "needs a file"), "serve", "`asterism config`"),
        (StaleRevision(2, 3, ["a"]), "edit", "`asterism edit ID --show`"),
        (OutOfSight(ID, NotLeading("")), "run", "`asterism watch c1` goes on and `asterism cancel c1` ends it"),
    ],
)
def test_hint_fits_what_was_asked(error: AsterismError, command: str, hint: str) -> None:
    assert hint in advice(error, command)


@pytest.mark.parametrize(
    ("error", "command"),
    [
        (NotFound("artifact", "x"), "fetch"),
        (Unreachable("db:5432", "refused"), "serve"),
        (Unreachable("/data/asterism.db", "the disk is full"), "token"),
        (Misconfigured("store", "disk I/O error"), "serve"),
        (Misconfigured("--to", "cannot write x"), "fetch"),
        (Misconfigured("address", "no HOST:PORT"), "list"),
    ],
)
def test_there_is_no_hint_where_the_error_says_it_all(error: AsterismError, command: str) -> None:
    assert advice(error, command) == ""


def test_doctor_does_not_send_to_the_doctor() -> None:
    assert "doctor" not in advice(Unreachable("h:1", "refused"), "doctor")


async def test_newest_of_no_requests_is_said_to_be_missing(shell: Shell) -> None:
    async with serving(EmptyPeer()) as peer:
        result = await shell.run("get", "--address", peer.address)
    assert (result.code, result.out) == (ExitCode.USAGE, "")
    assert result.err.splitlines()[0] == "error: there is no request yet"


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        ("submit hello --max-stars 4294967296", "1000000"),
        ("run hello --max-stars 1000001", "1000000"),
        ("run hello --max-tokens 1000000000000001", "1000000000000000"),
        ("submit hello --max-tokens 99999999999999999999", "1000000000000000"),
        ("submit hello --max-replans 4294967296", "100"),
        ("watch --output json --after 99999999999999999999", "9223372036854775807"),
    ],
)
async def test_number_that_is_too_large_is_refused_with_its_limit(
    shell: Shell, peer: Peer, words: str, limit: str
) -> None:
    result = await shell.run(*words.split(), "--address", peer.address)
    assert (result.code, result.out, peer.submitted) == (ExitCode.USAGE, "", [])
    *_, last = result.err.splitlines()
    assert last.startswith(f"Error: Invalid value for '{words.split()[-2]}': ")
    assert limit in last


async def test_help_says_that_another_input_limits_a_retry(shell: Shell) -> None:
    result = await shell.run("retry", "--help")
    assert "As --star does, it limits the retry to the star that it names." in " ".join(result.out.split())


async def test_largest_numbers_are_sent(shell: Shell, peer: Peer) -> None:
    largest = ("--max-stars", "1000000", "--max-tokens", "1000000000000000", "--max-replans", "100")
    submitted = await shell.run("submit", "hello", *largest, "--address", peer.address)
    watched = await shell.run("watch", "--output", "json", "--after", str(2**63 - 1), "--address", peer.address)
    budget = peer.submitted[0].budget
    assert (submitted.code, budget.stars, budget.tokens, budget.replans) == (0, 1_000_000, 10**15, 100)
    assert (watched.code, watched.err) == (0, "")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("x.bmp", "error: file: x.bmp: the suffix must be one of .json, .svg, .dot, .gv, .mmd, .mermaid, .txt"),
        ("nope/x.svg", "error: setting --graph: cannot write nope/x.svg: there is no folder nope"),
    ],
)
async def test_graph_that_cannot_be_written_is_refused_before_the_work(
    shell: Shell, peer: Peer, file: str, message: str
) -> None:
    result = await shell.run("run", "hello", "--graph", file, "--address", peer.address)
    assert (result.code, result.err.splitlines()[0]) == (2, message)
    assert peer.submitted == []


@pytest.mark.parametrize("words", ["graph", "history --revision 1"])
async def test_two_forms_at_once_are_refused(shell: Shell, peer: Peer, words: str) -> None:
    result = await shell.run(*words.split(), "--format", "mermaid", "--output", "json", "--address", peer.address)
    assert (result.code, result.out) == (2, "")
    assert "--output" in result.err


async def test_workers_are_drained_for_programs_too(shell: Shell, peer: Peer) -> None:
    result = await shell.run("workers", "drain", "w1", "--output", "json", "--address", peer.address)
    assert json.loads(result.out) == {"worker": "w1", "is_draining": True}
    misplaced = await shell.run("workers", "--output", "json", "label", "w1", "a=c", "--address", peer.address)
    assert (misplaced.code, peer.labelled) == (2, [])
    assert "give it after the word label" in misplaced.err


@pytest.mark.parametrize("form", ["text", "json"])
async def test_star_that_is_not_there_is_said(shell: Shell, peer: Peer, form: str) -> None:
    to = ("--address", peer.address)
    unknown = await shell.run("watch", "--star", "nope", "--output", form, *to)
    known = await shell.run("watch", "--star", "b01-a", "--output", form, "--after", "9", *to)
    assert unknown.err.splitlines()[-1] == "no star nope in c1; `asterism get c1` lists them"
    assert "no star" not in known.err


@pytest.mark.parametrize("words", ["list", "revoke me"])
async def test_credentials_of_no_database_are_none_to_list_or_revoke(shell: Shell, words: str) -> None:
    result = await shell.run("token", *words.split(), "--data-dir", "typo")
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[0] == "error: setting database: there is none at typo/asterism.db"
    assert not (shell.home / "typo").exists()


async def test_credential_of_no_name_is_refused(shell: Shell) -> None:
    for words in (("create", "--role", "client", "--name"), ("revoke",)):
        result = await shell.run("token", *words, "\udcff", "--data-dir", "data")
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith("error: name: '\\udcff' is not a name")


async def test_credential_that_does_not_name_the_certificate_is_warned_of(shell: Shell) -> None:
    where = ("--data-dir", "data")
    named = await shell.run("token", "create", "--role", "client", "--name", "a", "--tls", "self-made", *where)
    unnamed = await shell.run("token", "create", "--role", "client", "--name", "b", *where)
    assert "warning" not in named.err
    assert unnamed.code == 0
    assert unnamed.err.startswith("warning: this credential does not name data/tls/cert.pem")


async def test_certificate_that_is_none_is_said(shell: Shell) -> None:
    (shell.home / "README.md").write_text("# no certificate")
    result = await shell.run("serve", "--tls", "files", "--tls-cert", "README.md", "--tls-key", "README.md")
    assert result.code == 2
    assert "there is no certificate in PEM" in result.err.splitlines()[0]


async def test_address_that_is_taken_and_a_ready_file_that_cannot_be_are_said_before_it_serves(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        taken = await shell.run("serve", "--listen", f"127.0.0.1:{port}", "--data-dir", "data")
    assert (taken.code, taken.out) == (2, "")
    assert f"error: setting listen: cannot listen on 127.0.0.1:{port}: Address already in use" in taken.err.splitlines()
    nowhere = await shell.run("serve", "--listen", "127.0.0.1:0", "--data-dir", "data", "--ready-file", "nowhere/ready")
    assert (nowhere.code, nowhere.out) == (2, "")
    assert nowhere.err.startswith("error: setting ready_file: there is no folder nowhere")
