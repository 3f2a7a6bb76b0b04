"""Who someone is: a name, a role and an end. The secret itself is never kept, only its SHA-256."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a credential is for; `protocol/roles.py` says which RPC each may call."""

    CLIENT = "client"
    WORKER = "worker"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class StoredCredential:
    """One credential as the store keeps it."""

    name: str
    role: Role
    secret_sha256: bytes
    created_at: float
    expires_at: float
    revoked_at: float | None = None

    def is_valid(self, at: float) -> bool:
        """Whether it may be used at `at`, in seconds since the epoch."""
        return at < self.expires_at and self.revoked_at is None
