"""What a user submits, and what it may cost."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from asterism.orchestrator.core.values import Json

MAX_REQUEST_BYTES: Final = 1024 * 1024
"""Largest request text, in bytes of UTF-8."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Bounds of one request; when one ends, so does the request, and it says which."""

    stars: int = 10_000
    """In all, planned and added."""
    attempts: int = 50_000
    seconds: float | None = 3600.0
    """Wall time from acceptance; None means without end."""
    tokens: int | None = None
    """That models write for its stars; None means without end."""
    replans: int = 3
    """How often a rewrite of the graph may be asked for. It does not end the request: what fails then has failed."""


@dataclass(frozen=True, slots=True)
class Request:
    """A user's request: text in a form that some planner understands."""

    form: str
    """`boards`, `plan` or another form of the planner's."""
    text: str
    name: str = ""
    """For people: a file name, say."""
    options: Json = None
    """Settings of the form."""


class ConstellationState(StrEnum):
    """Where a request stands; all but RUNNING are terminal, and only an edit or a retry leads back."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing runs any more."""
        return self is not ConstellationState.RUNNING
