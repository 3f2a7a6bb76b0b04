"""The worker's settings file, TOML: what it says of models, tools and servers, checked, and where a value is from."""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from asterism.orchestrator.core.errors import Misconfigured
from asterism.orchestrator.core.ids import is_name
from asterism.protocol.folders import config_folder
from asterism.workers.model_settings import MAX_MODELS, ModelTable, ServeTable
from asterism.workers.tool_settings import McpSettings, ToolSettings, is_server_name

FILE_NAME: Final = "worker.toml"
VARIABLE: Final = "ASTERISM_WORKER_CONFIG"
MAX_FILE_BYTES: Final = 1 << 20
_SECRET: Final = re.compile(r"\.(env|headers)\.")


class WorkerFile(BaseModel):
    """All of the file; a missing one is an empty one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tools: ToolSettings = Field(default_factory=ToolSettings)
    mcp: Mapping[str, McpSettings] = Field(default_factory=dict)
    models: Mapping[str, ModelTable] = Field(default_factory=dict, max_length=MAX_MODELS)
    serve_models: ServeTable | None = None

    @field_validator("mcp")
    @classmethod
    def _check_names(cls, servers: Mapping[str, McpSettings]) -> Mapping[str, McpSettings]:
        for name in servers:
            if not is_server_name(name):
                raise ValueError(f"{name!r} is no name of a server: letters, digits, '_' and '-', at most 32")
        return servers

    @field_validator("models")
    @classmethod
    def _check_models(cls, models: Mapping[str, ModelTable]) -> Mapping[str, ModelTable]:
        for name in models:
            if not is_name(name):
                raise ValueError(f"{name!r} is no name of a model: letters, digits and ._~-, at most 64")
        return models


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """What the file says, and which file it was; None where there is none."""

    settings: WorkerFile
    path: Path | None

    def values(self) -> Iterator[tuple[str, str, str]]:
        """Each setting's name, value and source: `file PATH` or `default`. What may hold a secret is not shown."""
        for name, value in _flat("", self.settings.model_dump(mode="json")):
            is_given = _is_given(self.settings, name)
            shown = "(not shown)" if _SECRET.search(f".{name}.") and value else value
            yield name, str(shown), f"file {self.path}" if is_given else "default"


def load_worker_file(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> LoadedFile:
    """The file at `path`, else the one that ASTERISM_WORKER_CONFIG names, else worker.toml in the user's folder.

    Only the last one need not exist. Raises Misconfigured, naming the setting and the file.
    """
    named = path or (Path(environment[VARIABLE]) if environment.get(VARIABLE) else None)
    where = named or config_folder(environment) / FILE_NAME
    try:
        with where.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise Misconfigured("config", f"{where} has more than {MAX_FILE_BYTES} bytes")
        given = tomllib.loads(content.decode())
    except (FileNotFoundError, NotADirectoryError):
        if named is not None:
            raise Misconfigured("config", f"there is no file {where}") from None
        return LoadedFile(WorkerFile(), None)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise Misconfigured("config", f"cannot read {where}: {error}") from None
    try:
        return LoadedFile(WorkerFile(**given), where)
    except ValidationError as error:
        first = error.errors()[0]
        setting = ".".join(str(part) for part in first["loc"]) or "config"
        raise Misconfigured(setting, f"{first['msg'].removeprefix('Value error, ')} (in {where})") from None


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", value


def _is_given(model: BaseModel, name: str) -> bool:
    """Whether the file has this setting, or the table that it is in where that has no settings of its own."""
    at: object = model
    for step in name.split("."):
        if isinstance(at, BaseModel):
            if step not in at.model_fields_set:
                return False
            at = getattr(at, step)
        elif isinstance(at, Mapping):
            at = at.get(step)
    return True
