"""The tables `[tools]` and `[mcp.NAME]` of the worker's file. Nothing of them is on that is not written there."""

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from asterism.agents.asks import Effect
from asterism.workers.sandbox.order import Limits

SandboxTool = Literal["shell", "command", "python", "file.read", "file.write", "file.list", "file.search", "http.get"]
_NEVER: Final = ("/", "/proc", "/sys", "/dev")
"""Folders that are nobody's to allow: through them everything else is reached."""
_SERVER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _check_folder(text: str) -> str:
    """An absolute path without links, as the kernel would see it."""
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise ValueError(f"{text!r} is not absolute")
    whole = str(path.resolve())
    if any(whole == never or (never != "/" and whole.startswith(f"{never}/")) for never in _NEVER):
        raise ValueError(f"{whole} cannot be allowed: everything else is reached through it")
    if not path.exists():
        raise ValueError(f"{text!r} is not there")
    return whole


def _check_command(text: str) -> str:
    if not text or not text.isprintable() or ("/" in text and not posixpath.isabs(text)):
        raise ValueError(f"{text!r} is neither the name of a program nor its absolute path")
    return text


def _check_host(text: str) -> str:
    host = text.lower().rstrip(".")
    if not host or "/" in host or not host.isprintable() or " " in host or host.count("*") > 1:
        raise ValueError(f"{text!r} is no host: write example.org, example.org:8080, *.example.org or *")
    if "*" in host and host != "*" and not host.startswith("*."):
        raise ValueError(f"{text!r}: a star stands alone, or before the first dot")
    return host


def _check_variable(text: str) -> str:
    if not _VARIABLE.fullmatch(text):
        raise ValueError(f"{text!r} is no name of a variable")
    return text


Folder = Annotated[str, AfterValidator(_check_folder)]
Command = Annotated[str, AfterValidator(_check_command)]
Host = Annotated[str, AfterValidator(_check_host)]
Variable = Annotated[str, AfterValidator(_check_variable)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LimitSettings(_Table):
    """`[tools.limits]`: bounds of one call; those of memory, CPU time and files are for each of its processes."""

    time_s: float = Field(default=60.0, gt=0, le=86_400)
    cpu_s: int = Field(default=60, ge=1, le=86_400)
    memory_bytes: int = Field(default=2 * 1024**3, ge=64 * 1024**2, le=2**44)
    file_bytes: int = Field(default=64 * 1024**2, ge=0, le=2**44)
    open_files: int = Field(default=256, ge=16, le=65_536)
    processes: int = Field(default=64, ge=1, le=32_768)
    scratch_bytes: int = Field(default=64 * 1024**2, ge=4096, le=2**36)
    output_bytes: int = Field(default=64 * 1024, ge=256, le=16 * 1024**2)
    result_bytes: int = Field(default=1024 * 1024, ge=1024, le=64 * 1024**2)
    workspace_bytes: int = Field(default=256 * 1024**2, ge=4096, le=2**44)

    def limits(self) -> Limits:
        """As a call is told."""
        return Limits(**self.model_dump())


class ToolSettings(_Table):
    """`[tools]`: which tools that touch this machine are on, and how far they reach."""

    enable: tuple[SandboxTool, ...] = ()
    """`shell` runs any command line; `command` only programs of `commands`, without a shell."""
    commands: tuple[Command, ...] = ()
    read: tuple[Folder, ...] = ()
    """Folders that tools may read, beside the working folder of the call's attempt."""
    write: tuple[Folder, ...] = ()
    """Folders that they may read and write."""
    network: bool = False
    """Whether shell, command and python have one: this machine's, with all that listens on loopback and in its network.
    What they do then cannot be taken for idempotent."""
    hosts: tuple[Host, ...] = ()
    """That http.get may ask: `example.org` wherever it is, `*.example.org` or `*` on the public internet only."""
    unconfined: bool = False
    """Run them even where this machine cannot confine them: then only the limits of a process hold."""
    user: str = "nobody"
    """Whom they run as where the worker runs as root."""
    python: Path | None = None
    """The interpreter of `python`; by default the worker's own."""
    workspaces: Path | None = None
    """Where working folders are made; by default in the system's folder for temporary files."""
    limits: LimitSettings = Field(default_factory=LimitSettings)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if "command" in self.enable and not self.commands:
            raise ValueError("enable: `command` needs `commands`, the programs that it may run")
        if "http.get" in self.enable and not self.hosts:
            raise ValueError("enable: `http.get` needs `hosts`, which it may ask")
        return self


class McpSettings(_Table):
    """`[mcp.NAME]`: a server of the Model Context Protocol, as a command of this machine or at a URL."""

    command: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[Variable, str] = Field(default_factory=dict)
    """Variables of the command's environment, which has nothing of the worker's but the usual few (PATH, HOME, ...)."""
    pass_env: tuple[Variable, ...] = ()
    """Variables of the worker's environment that it gets too."""
    cwd: Path | None = None
    url: str | None = None
    """Of a server that speaks streamable HTTP."""
    headers: Mapping[str, str] = Field(default_factory=dict)
    headers_env: Mapping[str, Variable] = Field(default_factory=dict)
    """Headers whose values are in variables of the worker's environment."""
    allow: tuple[str, ...] | None = None
    """Its tools that are offered; by default all."""
    effects: Mapping[str, Effect] = Field(default_factory=dict)
    """What its tools do to the world, where that is known better than by the server."""
    time_s: float = Field(default=60.0, gt=0, le=86_400)
    """Of one call."""
    start_s: float = Field(default=30.0, gt=0, le=600)
    """Until it has said which tools there are."""
    result_bytes: int = Field(default=1024 * 1024, ge=1024, le=64 * 1024**2)
    restarts: int = Field(default=5, ge=0, le=1000)
    """How often in ten minutes a server that ended is started again."""

    @model_validator(mode="after")
    def _check_one_way(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("needs either a command or a url")
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url: {self.url!r} is no URL of http or https")
        other = (self.headers or self.headers_env) if self.url is None else (self.args or self.env or self.pass_env)
        if other:
            raise ValueError("args, env and pass_env belong to a command, headers and headers_env to a url")
        return self


def is_server_name(name: str) -> bool:
    """Whether a server may have this name, which its tools' names begin with."""
    return _SERVER.fullmatch(name) is not None
