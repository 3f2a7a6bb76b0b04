"""What a worker tells the orchestrator of its attempts, as plain values."""

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from asterism.agents.data import as_text
from asterism.orchestrator.core.edits import EditBatch
from asterism.orchestrator.core.events import Chunk
from asterism.orchestrator.core.ids import FencingToken
from asterism.orchestrator.core.lean import lean
from asterism.orchestrator.core.star import StarError
from asterism.orchestrator.core.values import Artifact

MAX_MESSAGE: Final = 1000
"""Characters of an error's message that travel: it is for people."""


@lean
@dataclass(frozen=True, slots=True)
class Succeeded:
    """A result, and the edits to be applied together with it."""

    fencing_token: FencingToken
    result_json: str
    edits: EditBatch | None = None
    size_bytes: int = 0
    """About how much of a frame it takes, in UTF-8 and with the edits."""
    artifact: Artifact | None = None
    """Where the result lies, in place of `result_json`."""
    tokens: int = 0
    """That models wrote for the attempt."""


@lean
@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt ended badly."""

    fencing_token: FencingToken
    error: StarError
    tokens: int = 0

    @property
    def size_bytes(self) -> int:
        """About how much of a frame it takes."""
        return utf8_size(self.error.message)


@dataclass(frozen=True, slots=True)
class Stopped:
    """The attempt was told to stop, and has; or it never ran here."""

    fencing_token: FencingToken
    tokens: int = 0

    @property
    def size_bytes(self) -> int:
        """Next to nothing."""
        return 0


Report: TypeAlias = Succeeded | Failed | Stopped


@dataclass(frozen=True, slots=True)
class Proposal:
    """Edits that a running attempt proposes; `number` (from 1, per attempt) names the answer."""

    fencing_token: FencingToken
    number: int
    batch: EditBatch
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """All that goes into one frame; an empty one only renews the leases."""

    progress: tuple[tuple[FencingToken, tuple[Chunk, ...]], ...] = ()
    proposals: tuple[Proposal, ...] = field(default=())
    reports: tuple[Report, ...] = ()
    is_draining: bool = False
    is_goodbye: bool = False


def utf8_size(text: str) -> int:
    """Bytes that it takes in a frame."""
    return len(text) if text.isascii() else len(text.encode())


def describe_error(code: str, message: str, *, retryable: bool = False) -> StarError:
    """An error that travels whatever is in it: a failure must never go unreported for how it is worded."""
    is_word = 1 <= len(code) <= 64 and code.isprintable() and code.isascii()
    return StarError(code if is_word else "program_error", as_text(message[:MAX_MESSAGE]), retryable)


class AttemptFailed(Exception):
    """The attempt ends with this error."""

    def __init__(self, code: str, message: str, *, retryable: bool) -> None:
        super().__init__(f"{code}: {message}")
        self.error = describe_error(code, message, retryable=retryable)
