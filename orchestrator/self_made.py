"""Makes the certificate of an orchestrator that has none."""

import datetime
import ipaddress
import os
import socket
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SELF_MADE_DAYS: Final = 3650
"""Joiners pin the certificate itself, so its end protects nobody; replacing it means new join tokens."""


def make_certificate(folder: Path, host: str) -> None:
    """Write `cert.pem`, self-signed for `host` and this machine, and `key.pem`, which others can read at no moment."""
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
