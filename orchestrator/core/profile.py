"""What a worker says of its machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Gpu:
    """One accelerator."""

    name: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class WorkerProfile:
    """A machine and what it offers; what is not known is 0 or empty."""

    slots: int
    """How many stars it runs at once, 1 to 4096."""
    os: str = ""
    architecture: str = ""
    cores: int = 0
    memory_bytes: int = 0
    gpus: tuple[Gpu, ...] = ()
    models: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    """Of the asterism it runs."""

    def capabilities(self, labels: Mapping[str, str]) -> frozenset[str]:
        """All that a star may require of it; `labels` are those that an operator added, which win over its own."""
        return frozenset(
            [
                *(f"model:{name}" for name in self.models),
                *(f"tool:{name}" for name in self.tools),
                *(f"program:{name}" for name in self.programs),
                *(f"label:{key}={value}" for key, value in {**self.labels, **labels}.items()),
                *(["gpu"] if self.gpus else []),
            ]
        )
