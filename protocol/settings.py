"""The client's settings: a flag wins over the environment, that over the user's file, that over the default."""

import os
import stat
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from asterism.orchestrator.core.errors import Misconfigured
from asterism.protocol.folders import config_folder

DEFAULT_ADDRESS: Final = "127.0.0.1:7465"
FILE_NAME: Final = "client.toml"
_KEYS: Final = frozenset({"address", "token", "token_file", "ca_file"})


class Source(StrEnum):
    """Where a setting's value comes from."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, and who said so: a flag, the name of an environment variable, or a file."""

    value: str
    source: Source
    detail: str = ""
    """The variable's name or the file's path."""

    @property
    def is_default(self) -> bool:
        """Whether nobody has configured it."""
        return self.source is Source.DEFAULT


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Where the orchestrator is, and how to prove who we are."""

    address: Setting
    """HOST:PORT, or several with commas between them."""
    token: Setting | None = field(default=None, repr=False)
    """A credential's text."""
    ca_file: Setting | None = None
    """PEM certificates of which one has signed the server's."""
    warnings: tuple[str, ...] = ()
    """What the user should know and mend, such as a secret that others can read."""

    @property
    def ca_path(self) -> Path | None:
        """The file of certificates, if one is set."""
        return None if self.ca_file is None else Path(self.ca_file.value)


def config_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the user's file is looked for, by the platform's convention; it need not be there."""
    return config_folder(environment) / FILE_NAME


def load_settings(
    address: str | None = None,
    token: str | None = None,
    ca_file: Path | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
) -> ClientSettings:
    """The settings, where the arguments are flags; raises Misconfigured for a file that cannot be used."""
    path = config_file(environment)
    in_file = _read_toml(path)
    warnings: list[str] = []

    def find(key: str, flag: str | None, variable: str) -> Setting | None:
        if flag is not None:
            return Setting(flag, Source.FLAG)
        if value := environment.get(variable):
            return Setting(value, Source.ENVIRONMENT, variable)
        if key in in_file:
            return Setting(in_file[key], Source.FILE, str(path))
        return None

    def find_token() -> Setting | None:
        found = find("token", token, "ASTERISM_TOKEN")
        file = find("token_file", None, "ASTERISM_TOKEN_FILE")
        if found is not None and (file is None or found.source is not Source.FILE or file.source is Source.FILE):
            if found.source is Source.FILE:
                warnings.extend(_exposed(path))
            return found
        if file is None:
            return None
        secret = Path(file.value).expanduser()
        warnings.extend(_exposed(secret))
        return Setting(read_secret(secret, "token_file"), file.source, str(secret))

    return ClientSettings(
        address=find("address", address, "ASTERISM_ADDRESS") or Setting(DEFAULT_ADDRESS, Source.DEFAULT),
        token=find_token(),
        ca_file=find("ca_file", None if ca_file is None else str(ca_file), "ASTERISM_CA_FILE"),
        warnings=tuple(warnings),
    )


def read_secret(path: Path, setting: str) -> str:
    """What a file holds that `setting` names, without white space around it; raises Misconfigured."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Misconfigured(setting, f"cannot read {path}: {reason}") from error


def _read_toml(path: Path) -> Mapping[str, str]:
    """The file's settings; none where there is no file."""
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise Misconfigured(str(path), f"cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(str(path), f"is not TOML: {error}") from error
    settings: dict[str, str] = {}
    for key, value in found.items():
        if key not in _KEYS:
            raise Misconfigured(f"{key} in {path}", f"is unknown; known are {', '.join(sorted(_KEYS))}")
        if not isinstance(value, str):
            raise Misconfigured(f"{key} in {path}", "must be text in quotes")
        settings[key] = value
    return settings


def _exposed(path: Path) -> list[str]:
    """A warning where others may read the secret in `path`. Windows has no such modes."""
    if sys.platform == "win32":
        return []
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return []
    return [f"{path} holds a secret and others may read it: chmod 600 {path}"] if mode & 0o077 else []
