"""Credentials, made and taken back beside a running orchestrator: they share the database, not the process."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from asterism.orchestrator.config import Settings
from asterism.orchestrator.core.credential import Role, StoredCredential
from asterism.orchestrator.core.errors import Misconfigured
from asterism.orchestrator.identity import load_certificate
from asterism.protocol.credentials import new_credential
from asterism.store.credentials import SqlCredentials

T = TypeVar("T")

DAY_S: Final = 86400.0


def create(settings: Settings, *, role: Role, name: str, days: float) -> str:
    """Make a credential, keep its hash, and give its text; with TLS, followed by the certificate's fingerprint."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    certificate = load_certificate(settings)
    made = new_credential(role, None if certificate is None else certificate.fingerprint)
    at = time.time()
    stored = StoredCredential(name, role, made.secret_sha256, at, at + days * DAY_S)
    _do(settings, lambda credentials: credentials.add_credential(stored))
    return made.text


def find_unnamed_certificate(settings: Settings) -> Path | None:
    """The certificate in the data folder, where the settings do without: credentials made so do not name it."""
    certificate = settings.data_dir / "tls" / "cert.pem"
    return certificate if settings.tls == "off" and certificate.exists() else None


def check_database(settings: Settings) -> None:
    """Raises Misconfigured where there is no database that could hold a credential; none is made."""
    if isinstance(settings.location, Path) and not settings.location.exists():
        raise Misconfigured("database", f"there is none at {settings.location}")


def rows(settings: Settings) -> Sequence[dict[str, str]]:
    """Name, role, state and end of each, for people; there are none where there is no database yet."""
    if isinstance(settings.location, Path) and not settings.location.exists():
        return []
    at = time.time()
    return [
        {
            "name": credential.name,
            "role": credential.role.value,
            "state": _state(credential, at),
            "expires_at": datetime.fromtimestamp(credential.expires_at, UTC).isoformat(timespec="minutes"),
        }
        for credential in _do(settings, lambda credentials: credentials.list_credentials())
    ]


def revoke(settings: Settings, name: str) -> None:
    """Take back the valid credential of that name; NotFound where there is none."""
    at = time.time()
    _do(settings, lambda credentials: credentials.revoke_credential(name, at))


def _do(settings: Settings, work: Callable[[SqlCredentials], Awaitable[T]]) -> T:
    async def opened() -> T:
        credentials = SqlCredentials(settings.location)
        await credentials.open()
        try:
            return await work(credentials)
        finally:
            await credentials.close()

    return asyncio.run(opened())


def _state(credential: StoredCredential, at: float) -> str:
    if credential.revoked_at is not None:
        return "revoked"
    return "valid" if credential.is_valid(at) else "ended"
