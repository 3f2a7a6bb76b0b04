"""What `asterism work` can be told."""

import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from asterism.orchestrator.core.errors import Misconfigured
from asterism.orchestrator.core.ids import WorkerId, is_name
from asterism.workers.model_server import check_serving
from asterism.workers.worker_file import WorkerFile

MAX_SLOTS: Final = 4096
DEVICES: Final = ("auto", "cpu", "cuda")
DTYPES: Final = ("auto", "float32", "bfloat16", "float16", "int8")
MAX_LABEL: Final = 64
"""Characters of a label's key and of its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkSettings:
    """A worker's settings, checked."""

    join: str
    """HOST:PORT of the orchestrator, or with commas of several on one store: the one that leads is followed."""
    name: WorkerId
    """Ignored where the credential names the worker."""
    credential: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    slots: int | None = None
    """Stars at once; None: one for each core."""
    models: tuple[str, ...] = ()
    """Names of model folders; none: all that there are; `none`: no model at all."""
    model_dir: Path | None = None
    """A folder of model folders beside those that are shipped."""
    labels: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1
    """OS threads that torch may use."""
    device: str = "auto"
    """Where models compute: `cpu`, `cuda` for an NVIDIA GPU, or `auto` for one where there is one."""
    dtype: str = "auto"
    """What weights are computed in: `auto` is bfloat16 on a GPU and float32 on a CPU, which also does int8."""
    metrics: str | None = None
    """HOST:PORT where Prometheus finds what the engines count."""
    serve_models: str | None = None
    """HOST:PORT where other programs find the models, behind OpenAI's APIs."""
    serve_credential: str | None = field(default=None, repr=False)
    """What these programs have to present; without one the address is loopback."""
    file: WorkerFile = field(default_factory=WorkerFile)
    """What the worker's file says, of models, tools and others' servers."""
    drain_s: float = 30.0
    """How long running stars may go on after SIGTERM."""

    def __post_init__(self) -> None:
        """Raises Misconfigured, naming the flag."""
        if not is_name(self.name):
            raise Misconfigured("name", f"{self.name!r} is no name: letters, digits and ._~-, at most 64")
        if self.slots is not None and not 1 <= self.slots <= MAX_SLOTS:
            raise Misconfigured("slots", f"is {self.slots}; 1 to {MAX_SLOTS}")
        if self.threads < 1:
            raise Misconfigured("threads", f"is {self.threads}; at least 1")
        if self.device not in DEVICES:
            raise Misconfigured("device", f"is {self.device!r}; one of {', '.join(DEVICES)}")
        if self.dtype not in DTYPES:
            raise Misconfigured("dtype", f"is {self.dtype!r}; one of {', '.join(DTYPES)}")
        if (self.device, self.dtype) == ("cuda", "int8"):
            raise Misconfigured("dtype", "is int8, which is computed in on a CPU only; take the device cpu")
        check_serving(self.serve_models, self.serve_credential)
        if not 0 <= self.drain_s <= 86_400:
            raise Misconfigured("drain-s", f"is {self.drain_s:g}; 0 to 86400 seconds")


def host_name() -> WorkerId:
    """This machine's name, as far as it can be a worker's."""
    name = re.sub(r"[^A-Za-z0-9_.~-]", "-", socket.gethostname()).strip("-._~")[:64]
    return WorkerId(name or "worker")


def read_labels(pairs: Iterable[str]) -> Mapping[str, str]:
    """Labels from `key=value` texts. Raises Misconfigured."""
    labels: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not 1 <= len(key) <= MAX_LABEL or not 1 <= len(value) <= MAX_LABEL or not pair.isprintable():
            raise Misconfigured("label", f"{pair!r} is not key=value, each of 1 to {MAX_LABEL} printable characters")
        labels[key] = value
    return labels


def read_credential(token: str | None, token_file: Path | None) -> str | None:
    """The join token: given, or the first line of a file. Raises Misconfigured."""
    if token is not None or token_file is None:
        return token
    try:
        return token_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured("token-file", f"cannot be read: {error}") from None
