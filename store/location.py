"""Where a store is: a path, or a URL that names a database."""

from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from asterism.orchestrator.core.errors import Misconfigured
from asterism.store.database import Database, Synchronous

IN_MEMORY: Final = ":memory:"
SQLITE: Final = "sqlite"
POSTGRESQL: Final = "postgresql"


def database_at(location: str | Path, *, synchronous: Synchronous = "FULL") -> Database:
    """The database that a path, ":memory:", or a URL of SQLite or PostgreSQL names; raises Misconfigured for others."""
    # Each brings a driver that the other does without.
    if "://" not in str(location):
        from asterism.store.sqlite import SqliteDatabase

        return SqliteDatabase(None if str(location) == IN_MEMORY else Path(location), synchronous=synchronous)
    url = parse_url(str(location))
    if url.get_backend_name() == POSTGRESQL:
        from asterism.store.postgres import PostgresDatabase

        return PostgresDatabase(url)
    return database_at(url.database or IN_MEMORY, synchronous=synchronous)


def parse_url(text: str) -> sa.URL:
    """A URL of a database that this store knows; raises Misconfigured, without its password, for any other."""
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError) as error:
        raise Misconfigured("store", "it is no URL of a database; write postgresql://USER@HOST/NAME") from error
    kinds = {SQLITE: SQLITE, POSTGRESQL: POSTGRESQL, "postgres": POSTGRESQL}
    if url.drivername not in kinds:
        known = "a path, sqlite:///PATH or postgresql://USER@HOST/NAME"
        raise Misconfigured("store", f"{url.drivername} is not supported; give {known}")
    return url.set(drivername=kinds[url.drivername])


def shown(location: str | Path) -> str:
    """The location for logs and people: never with a password."""
    return str(location) if "://" not in str(location) else parse_url(str(location)).render_as_string()
