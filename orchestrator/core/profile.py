"""What a worker says of its machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from asterism.orchestrator.core.values import Json


@dataclass(frozen=True, slots=True)
class Gpu:
    """One accelerator."""

    name: str
    memory_bytes: int


class Effect(StrEnum):
    """What running something twice would do."""

    PURE = "pure"
    """Nothing: it only computes, so that the same inputs give the same result."""
    IDEMPOTENT = "idempotent"
    """No more than running it once."""
    NONE = "none"
    """Perhaps something else: what may have begun is not run again."""


@dataclass(frozen=True, slots=True)
class Description:
    """What everybody may know of a tool or a program that a worker offers."""

    capability: str
    """`tool:NAME` or `program:NAME`."""
    effect: Effect = Effect.IDEMPOTENT
    version: str = ""
    """Another one says that the same inputs may give another result."""
    summary: str = ""
    """For people, and for models that plan."""
    schema: Json = None
    """JSON schema of its inputs, where there is one."""
    cache_s: float | None = None
    """Seconds for which a result may stand for another run with the same inputs, of what is pure; None: never."""


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
    descriptions: tuple[Description, ...] = ()
    """Of its tools and programs; what has none is taken for idempotent."""

    def describe(self, capability: str) -> Description:
        """What it says of one of its tools or programs."""
        found = (description for description in self.descriptions if description.capability == capability)
        return next(found, Description(capability))

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
