"""Who the orchestrator is: its certificate, own or self-made, and the rule on where it may listen without one."""

import hashlib
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asterism.orchestrator.config import Settings
from asterism.orchestrator.core.errors import Misconfigured

_FIRST: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """A certificate chain with its private key, both PEM."""

    chain: bytes
    key: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the first certificate's DER form, in hex: what a join token carries. ValueError without one."""
        found = _FIRST.search(self.chain)
        if found is None:
            raise ValueError("there is no certificate in PEM")
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(found[0].decode("ascii"))).hexdigest()

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
                # 7 MB and 30 ms that an orchestrator with a certificate, or with none, does without.
                from asterism.orchestrator.self_made import make_certificate

                make_certificate(folder, settings.host)
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
    except ssl.SSLError as error:
        reason = f"the key is no private key in PEM, or one of another certificate ({error})"
        raise Misconfigured("tls_key", f"cannot use {cert} with {key}: {reason}") from error
    except (OSError, ValueError) as error:
        raise Misconfigured("tls_cert", f"cannot use {cert} with {key}: {error}") from error
    return certificate
