"""The certificate, and the rule on where an orchestrator may listen."""

import hashlib
import ssl
from pathlib import Path

import pytest
import trustme

from asterism.orchestrator.config import Settings
from asterism.orchestrator.core.errors import Misconfigured
from asterism.orchestrator.identity import check_exposure, load_certificate


def test_self_made_certificate_is_made_once_and_its_key_is_private(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, tls="self-made", listen="0.0.0.0:0")
    first = load_certificate(settings)
    assert first is not None
    assert load_certificate(settings) == first
    assert (tmp_path / "tls" / "key.pem").stat().st_mode & 0o777 == 0o600
    der = ssl.PEM_cert_to_DER_cert(first.chain.decode())
    assert first.fingerprint == hashlib.sha256(der).hexdigest()
    assert "PRIVATE" not in repr(first)


def test_own_certificate_is_taken_with_its_key_only(tmp_path: Path) -> None:
    authority = trustme.CA()
    paths = []
    for name in ("one", "two"):
        issued = authority.issue_cert("localhost")
        issued.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
        paths.append((tmp_path / f"{name}.pem", tmp_path / f"{name}.key"))
    (cert, key), (_, other_key) = paths
    assert load_certificate(Settings(tls="files", tls_cert=cert, tls_key=key)) is not None
    with pytest.raises(Misconfigured, match="cannot use"):
        load_certificate(Settings(tls="files", tls_cert=cert, tls_key=other_key))


@pytest.mark.parametrize(
    "settings",
    [
        Settings(tls="files"),
        Settings(tls="files", tls_cert=Path("cert.pem")),
        Settings(tls="off", tls_cert=Path("cert.pem"), tls_key=Path("key.pem")),
        Settings(tls="files", tls_cert=Path("missing.pem"), tls_key=Path("missing.key")),
    ],
)
def test_half_a_certificate_is_refused(settings: Settings) -> None:
    with pytest.raises(Misconfigured):
        load_certificate(settings)


def test_only_loopback_may_do_without_tls_and_credentials() -> None:
    check_exposure(Settings(listen="127.0.0.1:0"), has_credential=False)
    with pytest.raises(Misconfigured, match="needs TLS"):
        check_exposure(Settings(listen="0.0.0.0:0"), has_credential=True)
    with pytest.raises(Misconfigured, match="asterism token create"):
        check_exposure(Settings(listen="0.0.0.0:0", tls="self-made"), has_credential=False)
    check_exposure(Settings(listen="0.0.0.0:0", tls="self-made"), has_credential=True)
