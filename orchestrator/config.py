"""The orchestrator's settings: a file, then the environment, then flags; what comes later wins."""

import ipaddress
import os
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from asterism.orchestrator.core.errors import Misconfigured
from asterism.orchestrator.core.values import MAX_ARTIFACT_BYTES, MAX_INLINE_BYTES
from asterism.protocol.folders import config_folder, data_folder

FILE_NAME: Final = "orchestrator.toml"


def _check_listen(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("write HOST:PORT, such as 127.0.0.1:7465 or [::]:7465; port 0 takes a free one")
    return text


def _check_store(text: str) -> str:
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError("write postgresql://USER:PASSWORD@HOST/NAME; a SQLite file goes into `database`")
    return text


class Settings(BaseSettings):
    """What `asterism serve` can be told. Spans are in seconds, rates in events a second."""

    model_config = SettingsConfigDict(env_prefix="ASTERISM_", extra="forbid", frozen=True)

    listen: Annotated[str, AfterValidator(_check_listen)] = "127.0.0.1:7465"
    data_dir: Path = Field(default_factory=data_folder)
    database: Path | None = None
    """A SQLite file; by default `asterism.db` in the data folder."""
    store: Annotated[str, AfterValidator(_check_store)] | None = Field(default=None, repr=False)
    """A PostgreSQL database in place of the file, as a URL. It may hold a password, which is never shown."""
    artifacts: str | None = Field(default=None, repr=False)
    """Where results lie that are too large for the graph: a folder, by default `artifacts` in the data folder, or a URL
    that fsspec knows, such as s3://BUCKET/PREFIX. Several orchestrators on one PostgreSQL must share it."""
    max_artifact_bytes: int = Field(default=MAX_ARTIFACT_BYTES, ge=MAX_INLINE_BYTES, le=2**30)
    """Of one result."""
    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    """NORMAL survives a crash of the process, but not a power cut. Of the file: PostgreSQL always survives both."""
    lease_s: float = Field(default=10.0, ge=0.5, le=3600)
    """A worker that is silent for longer has lost what it runs."""
    retention_s: float | None = Field(default=None, ge=1, le=100 * 366 * 86400)
    """How long a request is kept after its end, and what the journal says of workers; by default for ever."""
    advertise: Annotated[str, AfterValidator(_check_listen)] | None = None
    """Of several orchestrators on one PostgreSQL: where the others send clients and workers while this one leads."""
    leader_lease_s: float = Field(default=10.0, ge=1, le=3600)
    """A leader that has not renewed its lease for longer may be replaced."""
    drain_s: float = Field(default=10.0, ge=0, le=3600)
    """Longest time from SIGTERM to the end."""
    max_mailbox: int = Field(default=4096, ge=16, le=1_000_000)
    max_workers: int = Field(default=1024, ge=1, le=65536)
    """Attached at one time."""
    max_watches: int = Field(default=64, ge=1, le=4096)
    """At one time, of one identity."""
    changes_per_s: float = Field(default=50.0, gt=0)
    """Submits, edits and retries of one identity, in the long run."""
    change_burst: int = Field(default=200, ge=1)
    """As many of them as may come at once."""
    reuse_results: bool = False
    """Whether pure stars of one identity share their results, for as long as their tool allows."""
    tls: Literal["off", "self-made", "files"] = "off"
    """`self-made` makes a certificate in the data folder once; `files` takes tls_cert and tls_key."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    credentials: Literal["auto", "required"] = "auto"
    """`auto` asks for one where there is one at the start, and always on an address other than loopback."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "text", "json"] = "auto"
    """`auto` is text on a terminal and JSON elsewhere."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing but what `load` has merged: it knows where each value came from."""
        return (init_settings,)

    @model_validator(mode="after")
    def _check_one_database(self) -> Self:
        if self.store is not None and self.database is not None:
            raise ValueError("store and database exclude each other: one is PostgreSQL, the other a SQLite file")
        if self.store is not None and self.synchronous != "FULL":
            raise ValueError("synchronous is a setting of SQLite; PostgreSQL is always as durable as FULL")
        return self

    @property
    def location(self) -> str | Path:
        """Where the store is: a URL of PostgreSQL or a SQLite file."""
        return self.store or self.database or self.data_dir / "asterism.db"

    @property
    def artifact_location(self) -> str | Path:
        """Where artifacts are kept: a folder or a URL."""
        return self.artifacts or self.data_dir / "artifacts"

    def advertised(self, address: str) -> str:
        """Where others find this one, which listens at `address`: by its name, where that is every address."""
        if self.advertise is not None:
            return self.advertise
        host, _, port = address.rpartition(":")
        return f"{socket.gethostname()}:{port}" if host in ("0.0.0.0", "[::]", "::") else address

    @property
    def host(self) -> str:
        """Where it listens, without the brackets of an IPv6 address."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A host name other than localhost may point anywhere."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class Source(StrEnum):
    """Where a value came from."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, and for each its source in words."""

    settings: Settings
    sources: Mapping[str, str]


def load(flags: Mapping[str, object], *, file: Path | None = None) -> Loaded:
    """Merge the sources; flags that are None were not given. Raises Misconfigured, naming the setting and its source.

    `file` or else ASTERISM_CONFIG must exist; the one in the user's folder need not.
    """
    named = file or (Path(os.environ["ASTERISM_CONFIG"]) if os.environ.get("ASTERISM_CONFIG") else None)
    path = named or config_folder() / FILE_NAME
    layers: list[tuple[str, Mapping[str, object]]] = [
        (f"{Source.FILE} {path}", _read_file(path, must_exist=named is not None)),
        (Source.ENVIRONMENT.value, EnvSettingsSource(Settings)()),
        (Source.FLAG.value, {name: value for name, value in flags.items() if value is not None}),
    ]
    merged: dict[str, Any] = {}  # pydantic checks the types, that is its job here
    sources = dict.fromkeys(Settings.model_fields, Source.DEFAULT.value)
    for name, layer in layers:
        for one, other in (("store", "database"), ("database", "store")):
            # Each says where the store is, so that the later source wins here too.
            if one in layer and other not in layer and merged.pop(other, None) is not None:
                sources[other] = Source.DEFAULT.value
        merged.update(layer)
        sources.update(dict.fromkeys(layer, name))
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        first = error.errors()[0]
        setting = ".".join(str(part) for part in first["loc"]) or "store"
        raise Misconfigured(setting, f"{first['msg']} (from: {sources.get(setting, 'unknown')})") from error
    return Loaded(settings, sources)


def _read_file(path: Path, *, must_exist: bool) -> Mapping[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if must_exist:
            raise Misconfigured("config", f"there is no file {path}") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Misconfigured("config", f"cannot read {path}: {error}") from error
