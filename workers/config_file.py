"""The worker's file: `worker.toml` in the user's configuration folder, or where `asterism work --config` says.

[models.writer]                      # offered as model:writer
url = "https://llm.example/v1"       # any server of OpenAI's APIs of chats or completions
model = "large-instruct"             # its name there; needless where the server has one only
key_env = "LLM_KEY"                  # or key_file = "/etc/asterism/llm.key"; never the key itself
context_tokens = 128000              # needless where the server says it (vLLM, SGLang, ours)
price = { prompt = 2.5, cached = 1.25, answer = 10.0 }  # of a million tokens

[models.small]
folder = "/srv/models/small"         # a model folder that this worker computes itself

[serve_models]
listen = "127.0.0.1:8000"            # what this worker's models answer at, as such a server

[tools]                              # see ToolSettings
enable = ["python", "file.read"]

[mcp.notes]                          # see McpSettings; its tools are offered as notes.TOOL
command = "notes-server"
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from asterism.orchestrator.core.errors import Misconfigured
from asterism.orchestrator.core.ids import is_name
from asterism.protocol.folders import config_folder
from asterism.workers.engine.http_dialects import Api, Dialect
from asterism.workers.tool_settings import McpSettings, ToolSettings, is_server_name

FILE_NAME: Final = "worker.toml"
VARIABLE: Final = "ASTERISM_WORKER_CONFIG"
MAX_FILE_BYTES: Final = 1 << 20
MAX_MODELS: Final = 256
MAX_SERVERS: Final = 64

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Money = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=1, le=1 << 30)]


class _Table(BaseModel):
    """A key that is not here is refused: it is a wish that nobody would fulfil."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PriceTable(_Table):
    """Of a million tokens, in a currency of the reader's."""

    prompt: Money = 0.0
    cached: Money | None = None
    answer: Money = 0.0


class ModelTable(_Table):
    """`[models.NAME]`: a server, or a folder."""

    folder: Path | None = None
    url: str | None = None
    model: str | None = Field(default=None, min_length=1, max_length=256)
    api: Api | None = None
    """The only one to use. Without it, conversations go to chats, and prompts to completions."""
    server: Dialect | None = None
    """What kind it is. Without it, what its list of models says."""
    schemas: bool | None = None
    """Whether it constrains answers by JSON schemas. Without it, that is found out."""
    key_env: str | None = None
    key_file: Path | None = None
    context_tokens: Tokens | None = None
    max_sequences: Annotated[int, Field(ge=1, le=4096)] = 64
    max_tokens: Tokens | None = None
    retries: Annotated[int, Field(ge=0, le=100)] = 4
    retry_s: Seconds = 30.0
    """At most between two tries."""
    connect_s: Seconds = 10.0
    first_token_s: Seconds = 600.0
    token_s: Seconds = 120.0
    price: PriceTable = PriceTable()

    @model_validator(mode="after")
    def _is_one_of_two(self) -> "ModelTable":
        if (self.folder is None) == (self.url is None):
            raise ValueError("has either a url or a folder")
        others = self.model_fields_set - {"folder"}
        if self.folder is not None and others:
            raise ValueError(f"is a folder, which takes no {', '.join(sorted(others))}")
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError("its url does not begin with http:// or https://")
        if self.key_env is not None and self.key_file is not None:
            raise ValueError("has key_env or key_file, not both")
        return self


class ServeTable(_Table):
    """`[serve_models]`."""

    listen: str
    token_file: Path | None = None


class WorkerFile(_Table):
    """All of the file."""

    models: dict[str, ModelTable] = Field(default_factory=dict, max_length=MAX_MODELS)
    serve_models: ServeTable | None = None
    tools: ToolSettings = Field(default_factory=ToolSettings)
    mcp: dict[str, McpSettings] = Field(default_factory=dict, max_length=MAX_SERVERS)

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


def read_worker_file(named: Path | None = None, environment: Mapping[str, str] = os.environ) -> WorkerFile:
    """The file's settings; see `load_worker_file`."""
    return load_worker_file(named, environment).settings


def load_worker_file(named: Path | None = None, environment: Mapping[str, str] = os.environ) -> LoadedFile:
    """The file and its settings. Raises Misconfigured, naming the key.

    `named` or else ASTERISM_WORKER_CONFIG must exist; the one in the user's folder need not.
    """
    if named is None and environment.get(VARIABLE):
        named = Path(environment[VARIABLE])
    path = named or config_folder(environment) / FILE_NAME
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        if named is not None:
            raise Misconfigured("config", f"there is no file {path}") from None
        return LoadedFile(WorkerFile(), None)
    except OSError as error:
        raise Misconfigured("config", f"cannot read {path}: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise Misconfigured("config", f"{path} has more than {MAX_FILE_BYTES} bytes")
    try:
        return LoadedFile(WorkerFile.model_validate(tomllib.loads(content.decode())), path)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise Misconfigured(str(path), f"is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"]))
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise Misconfigured(f"{key} in {path}" if key else str(path), reason) from None
