"""The worker's settings file, TOML: what it says of models, tools and servers, checked."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from asterism.orchestrator.core.errors import Misconfigured
from asterism.orchestrator.core.ids import is_name
from asterism.protocol.folders import config_folder
from asterism.workers.model_settings import MAX_MODELS, ModelTable, ServeTable
from asterism.workers.tool_settings import McpSettings, ToolSettings, is_server_name

FILE_NAME: Final = "worker.toml"
VARIABLE: Final = "ASTERISM_WORKER_CONFIG"
MAX_FILE_BYTES: Final = 1 << 20


class WorkerFile(BaseModel):
    """All of the file; a missing one is an empty one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tools: ToolSettings = Field(default_factory=ToolSettings)
    mcp: Mapping[str, McpSettings] = Field(default_factory=dict)
    models: Mapping[str, ModelTable] = Field(default_factory=dict, max_length=MAX_MODELS)
    serve_models: ServeTable | None = None

    @model_validator(mode="after")
    def _are_names(self) -> "WorkerFile":
        for name in self.models:
            if not is_name(name):
                raise ValueError(f"models: {name!r} is no name: letters, digits and ._~-, at most 64")
        for name in self.mcp:
            if not is_server_name(name):
                raise ValueError(f"mcp: {name!r} is no name of a server: letters, digits, '_' and '-', at most 32")
        return self


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """What the file says, and which file it was; None where there is none."""

    settings: WorkerFile
    path: Path | None


def load_worker_file(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> LoadedFile:
    """The file at `path`, else the one that ASTERISM_WORKER_CONFIG names, else worker.toml in the user's folder.

    Only the last one need not exist. Raises Misconfigured, naming the setting and the file.
    """
    named = path or (Path(environment[VARIABLE]) if environment.get(VARIABLE) else None)
    where = named or config_folder(environment) / FILE_NAME
    try:
        with where.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        if named is not None:
            raise Misconfigured("config", f"there is no file {where}") from None
        return LoadedFile(WorkerFile(), None)
    except OSError as error:
        raise Misconfigured("config", f"cannot read {where}: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise Misconfigured("config", f"{where} has more than {MAX_FILE_BYTES} bytes")
    try:
        return LoadedFile(WorkerFile.model_validate(tomllib.loads(content.decode())), where)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise Misconfigured(str(where), f"is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"]))
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise Misconfigured(f"{key} in {where}" if key else str(where), reason) from None
