"""What the process of one tool call is told, as plain values that travel as JSON. Standard library only."""

import json
import struct
from dataclasses import asdict, dataclass, field
from typing import Any, Final

LENGTH: Final = struct.Struct(">I")
WORKSPACE: Final = "/workspace"
"""Where a confined process finds its working folder."""
SCRATCH: Final = "/tmp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one tool call. Those of memory, time and files are for each of its processes."""

    time_s: float = 60.0
    """From the start to the end of the whole call."""
    cpu_s: int = 60
    memory_bytes: int = 2 * 1024**3
    """Of address space."""
    file_bytes: int = 64 * 1024**2
    """Of one file that is written."""
    open_files: int = 256
    processes: int = 64
    """At one time, threads counted; confined ones only."""
    scratch_bytes: int = 64 * 1024**2
    """In memory, of /tmp; confined ones only."""
    output_bytes: int = 64 * 1024
    """Of standard output, and as much of standard error; what comes after is dropped."""
    result_bytes: int = 1024 * 1024
    """Of the JSON text of a result."""
    workspace_bytes: int = 256 * 1024**2
    """In the working folder; no call begins when there is more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One call: a program to run (`argv`), or a function of ours (`function`, with `arguments`)."""

    limits: Limits
    workspace: str
    """The folder outside; the working folder of the call."""
    argv: tuple[str, ...] = ()
    function: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    is_confined: bool = True
    has_network: bool = False
    user: tuple[int, int] | None = None
    """User and group to become; None: those of the worker."""
    system: tuple[str, ...] = ()
    """Folders and files that programs need, shown read-only."""
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    """Folders beside the working folder that it may read; that it may read and write."""
    environment: dict[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    """That `http.get` may ask."""

    def encode(self) -> bytes:
        """A length of 4 bytes, most significant first, and JSON text."""
        body = json.dumps(asdict(self)).encode()
        return LENGTH.pack(len(body)) + body

    @staticmethod
    def decode(body: bytes) -> "Order":
        """What `encode` wrote behind the length."""
        given: dict[str, Any] = json.loads(body)
        given["limits"] = Limits(**given["limits"])
        for name in ("argv", "system", "read", "write", "hosts"):
            given[name] = tuple(given[name])
        if given["user"] is not None:
            given["user"] = tuple(given["user"])
        return Order(**given)

    @property
    def home(self) -> str:
        """The working folder as the call sees it."""
        return WORKSPACE if self.is_confined else self.workspace
