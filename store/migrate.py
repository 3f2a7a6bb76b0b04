"""Bringing a database to the newest migration, and refusing one that is newer still."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from asterism.orchestrator.core.errors import Misconfigured


def migrate(connection: sa.Connection) -> None:
    """Run the migrations that are missing; the caller's transaction holds them all."""
    config = _config()
    if _missing(connection, config):
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def need_newest(connection: sa.Connection) -> None:
    """Raise Misconfigured unless nothing is missing; for who may not migrate, because another process is at work."""
    if _missing(connection, _config()):
        raise Misconfigured("store", "the process that holds it is still preparing it, or is older; try again")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _missing(connection: sa.Connection, config: Config) -> bool:
    """Whether migrations are to be run; raises Misconfigured for a database that knows one which is not ours."""
    script = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None:
        try:
            script.get_revision(current)
        except CommandError as error:
            reason = f"its tables are at migration {current}, which a newer asterism made; start that one"
            raise Misconfigured("store", reason) from error
    return current != script.get_current_head()
