"""The commands `serve`, `config`, `token` and `artifacts`. Light at import: the rest is imported when one runs."""

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from asterism.orchestrator.core.credential import Role
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import is_name
from asterism.protocol.commands.options import Output, OutputFormat

if TYPE_CHECKING:
    from asterism.orchestrator.config import Loaded


class Synchronous(StrEnum):
    """How much a power cut may cost."""

    FULL = "FULL"
    NORMAL = "NORMAL"


class Tls(StrEnum):
    """Which certificate is used."""

    OFF = "off"
    SELF_MADE = "self-made"
    FILES = "files"


class Asked(StrEnum):
    """When a credential is asked for."""

    AUTO = "auto"
    REQUIRED = "required"


class LogLevel(StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How logs are written."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


ConfigFile: TypeAlias = Annotated[Path | None, typer.Option("--config", help="TOML file; it must exist.")]
Listen: TypeAlias = Annotated[str | None, typer.Option(help="HOST:PORT; port 0 takes a free one.")]
DataDir: TypeAlias = Annotated[Path | None, typer.Option(help="Folder for the database and the certificate.")]
Database: TypeAlias = Annotated[Path | None, typer.Option(help="SQLite file.")]
Store: TypeAlias = Annotated[
    str | None,
    typer.Option(help="postgresql://USER@HOST/NAME, not a file; a password belongs in ASTERISM_STORE."),
]
TlsMode: TypeAlias = Annotated[Tls | None, typer.Option(help="off, self-made, or files with --tls-cert and --tls-key.")]
TlsCert: TypeAlias = Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")]
TlsKey: TypeAlias = Annotated[Path | None, typer.Option(help="Private key, PEM.")]

token = typer.Typer(help="Credentials of workers, clients and admins.", no_args_is_help=True)
artifacts = typer.Typer(help="Results too large for the graph.", no_args_is_help=True)


def serve(
    config: ConfigFile = None,
    listen: Listen = None,
    data_dir: DataDir = None,
    database: Database = None,
    store: Store = None,
    artifacts: Annotated[
        str | None, typer.Option(help="Folder or fsspec URL for results too large for the graph.")
    ] = None,
    max_artifact_bytes: Annotated[int | None, typer.Option(help="Of one result.")] = None,
    synchronous: Annotated[Synchronous | None, typer.Option(help="NORMAL: a power cut may cost moments.")] = None,
    lease_s: Annotated[float | None, typer.Option(help="Silence after which a worker has lost its work.")] = None,
    retention_s: Annotated[
        float | None, typer.Option(help="How long requests are kept after their end; for ever by default.")
    ] = None,
    advertise: Annotated[str | None, typer.Option(help="HOST:PORT at which others find this one.")] = None,
    leader_lease_s: Annotated[float | None, typer.Option(help="Silence after which another may lead.")] = None,
    drain_s: Annotated[float | None, typer.Option(help="Longest time from SIGTERM to the end.")] = None,
    max_mailbox: Annotated[int | None, typer.Option(help="Events that may wait.")] = None,
    max_workers: Annotated[int | None, typer.Option(help="Workers attached at one time.")] = None,
    max_watches: Annotated[int | None, typer.Option(help="Watches of one identity at one time.")] = None,
    changes_per_s: Annotated[float | None, typer.Option(help="Submits, edits and retries of one identity.")] = None,
    change_burst: Annotated[int | None, typer.Option(help="As many of them at once.")] = None,
    reuse_results: Annotated[
        bool | None,
        typer.Option("--reuse-results/--no-reuse-results", help="Pure stars of one identity share results."),
    ] = None,
    tls: TlsMode = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    credentials: Annotated[Asked | None, typer.Option(help="auto: where there is one at the start.")] = None,
    log_level: Annotated[LogLevel | None, typer.Option()] = None,
    log_format: Annotated[LogFormat | None, typer.Option()] = None,
    ready_file: Annotated[Path | None, typer.Option(help="Gets the actual address once it serves.")] = None,
) -> None:
    """Run the orchestrator until SIGTERM or Ctrl-C; a second one ends it at once, which is always safe."""
    flags = {name: value for name, value in locals().items() if name not in ("config", "ready_file")}
    from asterism.orchestrator.config import load
    from asterism.orchestrator.logs import configure_logs
    from asterism.orchestrator.process import run_until_signal

    settings = load(flags, file=config).settings
    configure_logs(settings)
    run_until_signal(settings, ready_file=ready_file)


def config(
    flags: Annotated[list[str] | None, typer.Argument(help="After `--`: flags as `serve` takes them.")] = None,
    config: ConfigFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Print every setting of `serve`, and where its value came from: default, file, environment or flag."""
    from asterism.orchestrator.config import load

    loaded = load(read_flags(flags or []), file=config)
    rows = _rows(loaded)
    if output is Output.JSON:
        typer.echo(json.dumps({name: {"value": value, "source": source} for name, value, source in rows}))
        return
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, source in rows:
        typer.echo(f"{name.ljust(widths[0])}  {value.ljust(widths[1])}  {source}")


def read_flags(words: Sequence[str]) -> dict[str, object]:
    """The settings that `--some-name value` pairs give; raises InvalidField for what is no such pair."""
    names, values = words[::2], words[1::2]
    for name in names:
        if not name.startswith("--"):
            raise InvalidField("flags", f"{name!r} is no flag: write --name value")
    if len(names) > len(values):
        raise InvalidField("flags", f"{names[-1]} has no value")
    return {name[2:].replace("-", "_"): value for name, value in zip(names, values, strict=True)}


def _rows(loaded: "Loaded") -> list[tuple[str, str, str]]:
    """Name, value, source. None of the settings is a secret, but for a password in the store's URL: keys are files."""
    from asterism.store.location import shown

    settings = loaded.settings
    values = settings.model_dump(mode="json")
    if settings.store is None:
        values["database"] = str(settings.location)
    else:
        values["store"] = shown(settings.store)
    values["artifacts"] = _without_password(str(settings.artifact_location))
    return [(name, "" if value is None else str(value), loaded.sources[name]) for name, value in values.items()]


def _without_password(url: str) -> str:
    """As it may be shown: fsspec's URLs may hold a user's password."""
    scheme, separator, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    return f"{scheme}://{user.partition(':')[0]}@{place}" if separator and at else url


def _check_holder(name: str) -> None:
    if not is_name(name) or name == "local":
        raise InvalidField("name", f"{name!r} is not a name: letters, digits, '_', '.', '~', '-', and not 'local'")


@token.command("create")
def create(
    role: Annotated[Role, typer.Option(help="What it is for.")],
    name: Annotated[str, typer.Option(help="Who holds it; of a worker, its name in the fleet.")],
    days: Annotated[float, typer.Option(min=0.001, max=3650, help="Until it ends.")] = 90,
    config: ConfigFile = None,
    listen: Listen = None,
    data_dir: DataDir = None,
    database: Database = None,
    store: Store = None,
    tls: TlsMode = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Make a credential and print it, this once; with TLS it carries the fingerprint of the certificate."""
    from asterism.orchestrator import tokens
    from asterism.orchestrator.config import load

    _check_holder(name)
    flags = {"listen": listen, "data_dir": data_dir, "database": database, "store": store}
    flags |= {"tls": tls, "tls_cert": tls_cert, "tls_key": tls_key}
    settings = load(flags, file=config).settings
    made = tokens.create(settings, role=role, name=name, days=days)
    if (certificate := tokens.find_unnamed_certificate(settings)) is not None:
        typer.echo(
            f"warning: this credential does not name {certificate}, so that no server with TLS can be joined with it; "
            "where `serve` has --tls, make another with the same --tls",
            err=True,
        )
    if output is Output.JSON:
        typer.echo(json.dumps({"name": name, "role": role.value, "credential": made}))
        return
    typer.echo(made)
    typer.echo(f"{role.value} {name!r}, for {days:g} days; it is not shown again", err=True)


@token.command("list")
def list_tokens(
    config: ConfigFile = None,
    data_dir: DataDir = None,
    database: Database = None,
    store: Store = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """List the credentials, without their secrets."""
    from asterism.orchestrator import tokens
    from asterism.orchestrator.config import load

    settings = load({"data_dir": data_dir, "database": database, "store": store}, file=config).settings
    tokens.check_database(settings)
    rows = tokens.rows(settings)
    if output is Output.JSON:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        typer.echo(f"{row['name']:<24} {row['role']:<8} {row['state']:<8} ends {row['expires_at']}")


@token.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(help="As `asterism token list` shows it.")],
    config: ConfigFile = None,
    data_dir: DataDir = None,
    database: Database = None,
    store: Store = None,
) -> None:
    """Take a credential back: new calls with it are refused within seconds, streams end within half a minute."""
    from asterism.orchestrator import tokens
    from asterism.orchestrator.config import load

    _check_holder(name)
    settings = load({"data_dir": data_dir, "database": database, "store": store}, file=config).settings
    tokens.check_database(settings)
    tokens.revoke(settings, name)


@artifacts.callback()
def _artifacts() -> None:
    """Makes `prune` a name to be given, though it is the only one."""


@artifacts.command("prune")
def prune(
    hours: Annotated[float, typer.Option("--older-than-hours", min=24, help="Only those put before that.")] = 24,
    location: Annotated[str | None, typer.Option("--artifacts", help="Folder or URL, as `serve` has it.")] = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    database: Database = None,
    store: Store = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Remove artifacts that no request refers to; safe beside a running orchestrator."""
    from asterism.orchestrator import pruning
    from asterism.orchestrator.config import load

    flags = {"data_dir": data_dir, "database": database, "store": store, "artifacts": location}
    count, size = pruning.prune(load(flags, file=config).settings, older_than_s=hours * 3600)
    if output is Output.JSON:
        typer.echo(json.dumps({"removed": count, "bytes": size}))
        return
    typer.echo(f"removed {count} artifacts, {size} bytes")
