"""Who the orchestrator is: its certificate, own or self-made, and the rule on where it may listen without one."""

import datetime
import hashlib
import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from asterism.orchestrator.config import Settings
from asterism.orchestrator.core.errors import Misconfigured

SELF_MADE_DAYS: Final = 3650
"""Joiners pin the certificate itself, so its end protects nobody; replacing it means new join tokens."""


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """A certificate chain with its private key, both PEM."""

    chain: bytes
    key: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the first certificate's DER form, in hex: what a join token carries."""
        text = self.chain.decode("ascii")
        end = "-----END CERTIFICATE-----"
        first = text[text.index("-----BEGIN CERTIFICATE-----") : text.index(end) + len(end)]
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()

    def __repr__(self) -> str:
        return f"ServerCertificate(fingerprint={self.fingerprint})"


def load_certificate(settings: Settings) -> ServerCertificate | None:
    """The certificate that the settings ask for (made now, if it is to be self-made and is not there), or None."""
    match settings.tls:
        case "off":
            if settings.tls_cert is not None or settings.tls_key is not None:
                raise Misconfigured("tls", "tls_cert and tls_key need tls = 'files'")
            return None
        case "files":
            if settings.tls_cert is None or settings.tls_key is None:
                raise Misconfigured("tls", "'files' needs both tls_cert and tls_key")
            return _read(settings.tls_cert, settings.tls_key)
        case "self-made":
            folder = settings.data_dir / "tls"
            if not (folder / "cert.pem").exists():
                _make(folder, settings.host)
            return _read(folder / "cert.pem", folder / "key.pem")


def check_exposure(settings: Settings, *, has_credential: bool) -> None:
    """Refuse an address other than loopback without TLS and a credential that somebody could present."""
    if settings.is_loopback:
        return
    if settings.tls == "off":
        raise Misconfigured(
            "listen", f"{settings.listen} is not loopback: that needs TLS; set tls to 'self-made', or to 'files'"
        )
    if not has_credential:
        raise Misconfigured(
            "listen",
            f"{settings.listen} is not loopback: that needs credentials; make one first with "
            "`asterism token create --role admin --name NAME`",
        )


def _read(cert: Path, key: Path) -> ServerCertificate:
    try:
        certificate = ServerCertificate(cert.read_bytes(), key.read_bytes())
        _ = certificate.fingerprint
        # Refuses a key that belongs to another certificate.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except (OSError, ValueError) as error:
        raise Misconfigured("tls_cert", f"cannot use {cert} with {key}: {error}") from error
    return certificate


def _make(folder: Path, host: str) -> None:
    """Write a self-signed certificate and its key; the key is never readable by others, not even for a moment."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "asterism")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # clocks of joiners may lag
        .not_valid_after(now + datetime.timedelta(days=SELF_MADE_DAYS))
        .add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(folder / "key.pem", key_pem, 0o600)
    _write(folder / "cert.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _names(host: str) -> list[x509.GeneralName]:
    """`asterism` is the name that joiners who pin the certificate ask for."""
    names: list[x509.GeneralName] = [x509.DNSName("asterism"), x509.DNSName("localhost")]
    addresses = ["127.0.0.1", "::1"]
    try:
        ipaddress.ip_address(host)
        addresses.append(host)
    except ValueError:
        names.append(x509.DNSName(host))
    own = socket.gethostname()
    if own.isascii() and own not in ("", "localhost", host):
        names.append(x509.DNSName(own))
    return names + [x509.IPAddress(ipaddress.ip_address(address)) for address in dict.fromkeys(addresses)]


def _write(path: Path, data: bytes, mode: int) -> None:
    """Put the file in place whole, or not at all."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
