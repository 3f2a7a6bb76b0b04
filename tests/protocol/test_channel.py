"""Channels: who is spoken to, and how."""

import hashlib
import ssl
from importlib.util import find_spec
from pathlib import Path

import pytest
import trustme

from asterism.orchestrator.core.credential import Role
from asterism.orchestrator.core.errors import Misconfigured, Unauthenticated, Unreachable
from asterism.protocol.channel import is_loopback, open_channel, split_address
from asterism.protocol.client import AsyncClient
from asterism.protocol.commands.ending import advice
from asterism.protocol.credentials import new_credential
from asterism.protocol.limits import CHANNEL_OPTIONS, SERVER_OPTIONS
from tests.protocol.peer import CONSTELLATION, WORKER, Script, serving


class Certificate:
    """A server's, signed by an authority of its own."""

    def __init__(self, *names: str) -> None:
        self.authority = trustme.CA()
        issued = self.authority.issue_cert(*names)
        self.files = issued.private_key_pem.bytes(), b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        first = issued.cert_chain_pems[0].bytes().decode()
        self.fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()


async def test_credential_goes_with_every_call_on_loopback() -> None:
    script, credential = Script(break_after=[1]), new_credential(Role.CLIENT)
    async with serving(script) as port, AsyncClient(f"127.0.0.1:{port}", credential.text) as client:
        await client.workers()
        assert [item async for item in client.watch(CONSTELLATION, with_text=False)] == script.journal
    assert set(script.authorization) == {f"Bearer {credential.bearer}"}
    assert len(script.authorization) == 3


@pytest.mark.parametrize("names", [("asterism",), ("other.example",), ("*.example",), ("127.0.0.1",)], ids=str)
async def test_fingerprint_is_enough_to_trust_a_certificate(names: tuple[str, ...]) -> None:
    certificate, script = Certificate(*names), Script()
    credential = new_credential(Role.WORKER, certificate.fingerprint)
    async with serving(script, tls=certificate.files) as port, AsyncClient(f"127.0.0.1:{port}", credential) as client:
        assert await client.workers() == (WORKER,)
    assert script.authorization == [f"Bearer {credential.bearer}"]


async def test_server_with_another_fingerprint_is_refused_before_it_hears_the_secret() -> None:
    expected, script = Certificate("asterism"), Script()
    credential = new_credential(Role.WORKER, expected.fingerprint)
    async with serving(script, tls=Certificate("asterism").files) as port:
        with pytest.raises(Unauthenticated, match="not the server that the credential names") as refused:
            await open_channel(f"127.0.0.1:{port}", credential)
    assert credential.secret not in str(refused.value)
    assert script.authorization == []


async def test_plaintext_server_is_no_match_for_a_fingerprint() -> None:
    credential = new_credential(Role.WORKER, Certificate("asterism").fingerprint)
    async with serving(Script()) as port:
        with pytest.raises(Unreachable, match="no TLS there"):
            await open_channel(f"127.0.0.1:{port}", credential)


async def test_credential_without_a_fingerprint_on_a_server_with_tls_is_hinted_at() -> None:
    tls = Certificate("asterism").files
    async with (
        serving(Script(), tls=tls) as port,
        AsyncClient(f"127.0.0.1:{port}", new_credential(Role.CLIENT)) as client,
    ):
        with pytest.raises(Unreachable) as refused:
            await client.workers()
    assert "may speak TLS" in advice(refused.value, "workers")


async def test_nobody_there_is_unreachable_when_a_certificate_is_to_be_compared() -> None:
    credential = new_credential(Role.WORKER, Certificate("asterism").fingerprint)
    async with serving(Script()) as port:
        pass
    with pytest.raises(Unreachable, match=f"127.0.0.1:{port}"):
        await open_channel(f"127.0.0.1:{port}", credential)


async def test_authority_file_is_enough_to_trust_what_it_signed(tmp_path: Path) -> None:
    certificate, script = Certificate("127.0.0.1"), Script()
    authority = tmp_path / "ca.pem"
    certificate.authority.cert_pem.write_to_path(str(authority))
    credential = new_credential(Role.CLIENT)
    async with serving(script, tls=certificate.files) as port:
        async with AsyncClient(f"127.0.0.1:{port}", credential, authority) as client:
            assert await client.workers() == (WORKER,)
        Certificate("127.0.0.1").authority.cert_pem.write_to_path(str(authority))
        async with AsyncClient(f"127.0.0.1:{port}", credential, authority) as client:
            with pytest.raises(Unreachable):
                await client.workers()
    assert script.authorization == [f"Bearer {credential.bearer}"]


async def test_authority_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="ca_file"):
        await open_channel("127.0.0.1:1", None, tmp_path / "none.pem")


@pytest.mark.parametrize(
    ("address", "parts"),
    [("h:1", ("h", 1)), ("127.0.0.1:65535", ("127.0.0.1", 65535)), ("[::1]:7465", ("::1", 7465))],
)
def test_address_is_host_and_port(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize(
    "address", ["", "h", ":1", "h:", "h:0", "h:65536", "h:x", "::1:7465", "http://h:1", "h:\N{ARABIC-INDIC DIGIT ONE}"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(Misconfigured, match="address"):
        split_address(address)


def test_only_this_machine_is_loopback() -> None:
    assert all(map(is_loopback, ["localhost", "127.0.0.1", "127.9.9.9", "::1"]))
    assert not any(map(is_loopback, ["0.0.0.0", "10.0.0.1", "localhost.example", "::", "127.0.0.1.nip.io"]))


@pytest.mark.parametrize("name", sorted({name for name, _ in (*CHANNEL_OPTIONS, *SERVER_OPTIONS)}))
def test_option_is_one_that_grpc_knows(name: str) -> None:
    """It ignores others in silence: one that was misspelt let servers cut whoever had pinged for half a minute."""
    spec = find_spec("grpc._cython.cygrpc")
    assert spec is not None
    assert spec.origin is not None
    assert f"{name}\0".encode() in Path(spec.origin).read_bytes()
