"""Credentials as text: `asterism_ROLE_SECRET`, and with `.FINGERPRINT` of a server's certificate a join token."""

import hashlib
import re
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Final

from asterism.orchestrator.core.credential import Role
from asterism.orchestrator.core.errors import Unauthenticated

SECRET_BYTES: Final = 32
_FORM: Final = re.compile(r"asterism_(client|worker|admin)_([A-Za-z0-9_-]{43})(?:\.([0-9a-f]{64}))?")


@dataclass(frozen=True, slots=True)
class Credential:
    """Proof of a role, to be presented with every call. Its secret is in no `repr`."""

    role: Role
    secret: str = field(repr=False)
    """43 characters of URL-safe base64: 32 random bytes."""
    fingerprint: str | None = None
    """SHA-256 of the server's certificate in DER form, as 64 lower-case hex digits: whom to join."""

    @property
    def bearer(self) -> str:
        """What is sent: the text without the fingerprint, which the server knows."""
        return f"asterism_{self.role.value}_{self.secret}"

    @property
    def text(self) -> str:
        """What is handed to a person, once."""
        return self.bearer if self.fingerprint is None else f"{self.bearer}.{self.fingerprint}"

    @property
    def secret_sha256(self) -> bytes:
        """What is kept of it. A plain hash will do: 32 random bytes cannot be guessed from a dictionary."""
        return hashlib.sha256(self.bearer.encode()).digest()

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call."""
        return (("authorization", f"Bearer {self.bearer}"),)


def new_credential(role: Role, fingerprint: str | None = None) -> Credential:
    """A new one that nobody has."""
    secret = urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).rstrip(b"=").decode()
    return Credential(role, secret, fingerprint)


def parse_credential(text: str) -> Credential:
    """Read a credential's text; raises Unauthenticated, without repeating the text, when it is none."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise Unauthenticated(
            "the credential is malformed: expected asterism_ROLE_SECRET or asterism_ROLE_SECRET.FINGERPRINT, "
            "as `asterism token create` prints it"
        )
    role, secret, fingerprint = found.groups()
    return Credential(Role(role), secret, fingerprint)
