"""Where this user's data, configuration and caches live, by the platform's convention."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def data_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder for databases and the self-made certificate; `ASTERISM_DATA_DIR` names another one."""
    if named := environment.get("ASTERISM_DATA_DIR"):
        return Path(named)
    return _folder(environment, "LOCALAPPDATA", "XDG_DATA_HOME", Path(".local") / "share")


def config_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder for configuration files; `ASTERISM_CONFIG_HOME` names another one."""
    if named := environment.get("ASTERISM_CONFIG_HOME"):
        return Path(named)
    return _folder(environment, "APPDATA", "XDG_CONFIG_HOME", Path(".config"))


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder for what can be made again; `ASTERISM_CACHE_DIR` names another one."""
    if named := environment.get("ASTERISM_CACHE_DIR"):
        return Path(named)
    return _folder(environment, "LOCALAPPDATA", "XDG_CACHE_HOME", Path(".cache"))


def _folder(environment: Mapping[str, str], windows: str, xdg: str, default: Path) -> Path:
    """`asterism` in the folder that a variable of the platform names, or in its usual place."""
    if sys.platform == "win32":
        usual = Path.home() / "AppData" / ("Local" if windows == "LOCALAPPDATA" else "Roaming")
        return Path(environment.get(windows) or usual) / "asterism"
    if sys.platform == "darwin":
        kind = "Caches" if xdg == "XDG_CACHE_HOME" else "Application Support"
        return Path.home() / "Library" / kind / "asterism"
    # The XDG base directory specification says to ignore a relative path.
    named = Path(environment.get(xdg, ""))
    return (named if named.is_absolute() else Path.home() / default) / "asterism"
