"""The credentials table by itself, for a command that runs beside an orchestrator; and what both stores do with it."""

from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from asterism.orchestrator.core.credential import Role, StoredCredential
from asterism.orchestrator.core.errors import AlreadyExists, NotFound
from asterism.store.location import database_at
from asterism.store.schema import credentials

FIND: Final = sa.select(credentials).where(credentials.c.secret_sha256 == sa.bindparam("secret"))
FIND_NAME: Final = sa.select(credentials).where(
    credentials.c.name == sa.bindparam("name"), credentials.c.revoked_at.is_(None)
)
LIST: Final = sa.select(credentials).order_by(credentials.c.created_at, credentials.c.name)
REVOKE: Final = (
    sa.update(credentials)
    .where(credentials.c.name == sa.bindparam("of_name"), credentials.c.revoked_at.is_(None))
    .values(revoked_at=sa.bindparam("revoked_at"))
)


def add_credential(connection: sa.Connection, credential: StoredCredential) -> None:
    """Keep it; AlreadyExists where its name is that of one still valid, or its secret is known."""
    for row in connection.execute(FIND_NAME, {"name": credential.name}):
        if _credential(row).is_valid(credential.created_at):
            raise AlreadyExists("credential", credential.name, "revoke it first, or take another name")
    if find_credential(connection, credential.secret_sha256) is not None:
        raise AlreadyExists("credential", credential.name, "its secret is in use; make another")
    connection.execute(
        sa.insert(credentials),
        {
            "secret_sha256": credential.secret_sha256,
            "name": credential.name,
            "role": credential.role.value,
            "created_at": credential.created_at,
            "expires_at": credential.expires_at,
            "revoked_at": credential.revoked_at,
        },
    )


def find_credential(connection: sa.Connection, secret_sha256: bytes) -> StoredCredential | None:
    """The one with that secret, valid or not."""
    row = connection.execute(FIND, {"secret": secret_sha256}).one_or_none()
    return None if row is None else _credential(row)


def list_credentials(connection: sa.Connection) -> list[StoredCredential]:
    """All of them, oldest first."""
    return [_credential(row) for row in connection.execute(LIST)]


def revoke_credential(connection: sa.Connection, name: str, at: float) -> None:
    """End it at once; NotFound where none of that name is left to revoke."""
    if connection.execute(REVOKE, {"of_name": name, "revoked_at": at}).rowcount == 0:
        raise NotFound("credential", name)


def _credential(row: sa.Row[Any]) -> StoredCredential:
    return StoredCredential(row.name, Role(row.role), row.secret_sha256, row.created_at, row.expires_at, row.revoked_at)


class SqlCredentials:
    """Credentials in a database that another process may hold; it may also be none yet."""

    def __init__(self, location: str | Path) -> None:
        self._database = database_at(location)

    async def open(self) -> None:
        """Make the tables where there are none; raises Misconfigured like the whole store."""
        await self._database.open(exclusive=False)

    async def close(self) -> None:
        """Let go."""
        await self._database.close()

    async def add_credential(self, credential: StoredCredential) -> None:
        """Keep it; AlreadyExists where its name is that of one still valid, or its secret is known."""
        await self._database.write(lambda connection: add_credential(connection, credential))

    async def find_credential(self, secret_sha256: bytes) -> StoredCredential | None:
        """The one with that secret, valid or not."""
        return await self._database.read(lambda connection: find_credential(connection, secret_sha256))

    async def list_credentials(self) -> list[StoredCredential]:
        """All of them, oldest first."""
        return await self._database.read(list_credentials)

    async def revoke_credential(self, name: str, at: float) -> None:
        """End it at once; NotFound where none of that name is left to revoke."""
        await self._database.write(lambda connection: revoke_credential(connection, name, at))
