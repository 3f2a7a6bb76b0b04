"""Channels to an orchestrator: plaintext on loopback only, else TLS, pinned where a join token says to whom."""

import asyncio
import hashlib
import hmac
import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from asterism.orchestrator.core.errors import Misconfigured, Unauthenticated, Unreachable
from asterism.protocol.credentials import Credential, parse_credential
from asterism.protocol.limits import CHANNEL_OPTIONS
from asterism.protocol.presenting import presenting_interceptors

CERTIFICATE_TIMEOUT_S: Final = 10.0
"""From dialling to having the server's certificate."""


async def open_channel(
    address: str, credential: Credential | str | None = None, ca_file: Path | None = None
) -> grpc.aio.Channel:
    """A channel to `HOST:PORT` that presents `credential` with every call.

    With a fingerprint in the credential, the server's certificate must be just that one. With `ca_file` (PEM), one of
    those must have signed it. Without both, loopback is spoken to in plaintext, and any other host must have a
    certificate that this machine trusts: nothing is ever sent in the clear over a network.

    Raises Misconfigured for an address that is none, Unauthenticated where the server is not the one that the
    credential names, Unreachable where its certificate cannot be had. Else the first call connects.
    """
    host, port = split_address(address)
    presented = parse_credential(credential) if isinstance(credential, str) else credential
    interceptors = [] if presented is None else presenting_interceptors(presented)
    options: list[tuple[str, int | str]] = list(CHANNEL_OPTIONS)
    if presented is not None and presented.fingerprint is not None:
        certificate, name = await asyncio.to_thread(_fetch_certificate, host, port, presented.fingerprint)
        if name is not None:
            options.append(("grpc.ssl_target_name_override", name))
        tls = grpc.ssl_channel_credentials(ssl.DER_cert_to_PEM_cert(certificate).encode())
    elif ca_file is not None:
        tls = grpc.ssl_channel_credentials(_read(ca_file))
    elif is_loopback(host):
        return grpc.aio.insecure_channel(address, options=options, interceptors=interceptors)
    else:
        tls = grpc.ssl_channel_credentials()
    return grpc.aio.secure_channel(address, tls, options=options, interceptors=interceptors)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[IPV6]:PORT`; raises Misconfigured for anything else."""
    host, colon, port = address.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if is_bracketed:
        host = host[1:-1]
    if not colon or not host or (":" in host and not is_bracketed) or "/" in host or not host.isprintable():
        raise Misconfigured("address", f"{address!r} is not HOST:PORT")
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise Misconfigured("address", f"{address!r} has no port from 1 to 65535")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine and nothing else; a name other than localhost may be anybody."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _read(ca_file: Path) -> bytes:
    try:
        return ca_file.read_bytes()
    except OSError as error:
        raise Misconfigured("ca_file", f"cannot read {ca_file}: {error.strerror}") from error


def _fetch_certificate(host: str, port: int, fingerprint: str) -> tuple[bytes, str | None]:
    """The server's certificate (DER), which has that fingerprint, and a name that it is valid for, if any.

    Two handshakes: the first takes whatever is there, to compare it; the second trusts just that and so proves that
    the server holds its key. No secret is sent before both.
    """
    whoever = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    whoever.check_hostname = False
    whoever.verify_mode = ssl.CERT_NONE
    certificate, _ = _handshake(host, port, whoever)
    found = hashlib.sha256(certificate).hexdigest()
    if not hmac.compare_digest(found, fingerprint):
        raise Unauthenticated(
            f"{host}:{port} is not the server that the credential names: its certificate has the SHA-256 fingerprint "
            f"{found}, the credential says {fingerprint}; ask who gave it to you for a new one"
        )
    pinned = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The fingerprint says who it is; the name it goes by on this network says nothing more.
    pinned.check_hostname = False
    pinned.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    pinned.load_verify_locations(cadata=certificate)
    again, names = _handshake(host, port, pinned)
    if again != certificate:
        raise Unauthenticated(f"{host}:{port} changed its certificate while it was being checked")
    return certificate, names[0] if names else None


def _handshake(host: str, port: int, context: ssl.SSLContext) -> tuple[bytes, list[str]]:
    """The peer's certificate (DER), and the names in it where the context verifies it."""
    context.set_alpn_protocols(["h2"])
    address = f"{host}:{port}"
    try:
        with (
            socket.create_connection((host, port), timeout=CERTIFICATE_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            certificate = secured.getpeercert(binary_form=True)
            parsed = secured.getpeercert() or {}
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        raise Unreachable(address, f"no TLS there, which a credential with a fingerprint needs: {reason}") from error
    except OSError as error:
        raise Unreachable(address, error.strerror or str(error)) from error
    if certificate is None:
        raise Unreachable(address, "it showed no certificate")
    # A wildcard stands for any one label.
    alternatives = parsed.get("subjectAltName", ())
    found = [entry[1] for entry in alternatives if isinstance(entry, tuple) and entry[0] == "DNS"]
    return certificate, [str(name).replace("*", "asterism") for name in found]
