"""Where this user's data and configuration live, by the platform's convention."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def data_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder for the database and the self-made certificate."""
    if sys.platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "asterism"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "asterism"
    return Path(environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "asterism"


def config_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder for configuration files; `ASTERISM_CONFIG_HOME` names another one."""
    if named := environ.get("ASTERISM_CONFIG_HOME"):
        return Path(named)
    if sys.platform == "win32":
        return Path(environ.get("APPDATA") or Path.home() / "AppData" / "Roaming") / "asterism"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "asterism"
    return Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "asterism"
