"""What a program may ask of the worker that runs it, and what it gets back.

A program is a generator: it yields an ask, is sent the matching answer, and returns a `ProgramResult`. It touches no
engine, clock or network itself, so that a test drives it by hand and a worker may run it on any engine.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

FinishReason: TypeAlias = Literal["stop", "length", "end", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token ids are chosen; `temperature` 0 is greedy, and the same `seed` gives the same text."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Generate:
    """Continue `prompt`; answered by `Generated`."""

    prompt: str
    sampling: Sampling
    thread: str = "main"


@dataclass(frozen=True, slots=True)
class Generated:
    """One finished text.

    `text` leaves out the stop string, and `stop` says which one ended it. Finish reason `end` is the model's own
    end-of-text id. `cached_tokens` counts prompt tokens whose KV was shared or reused and not computed again.
    """

    thread: str
    text: str
    finish_reason: FinishReason
    stop: str | None
    tokens: int
    prompt_tokens: int
    cached_tokens: int
    model: str = ""


@dataclass(frozen=True, slots=True)
class Branch:
    """One reasoning thread of a fork: its prompt is the fork's prefix followed by `suffix`."""

    thread: str
    suffix: str
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Fork:
    """Decode all branches as one batch behind one shared prefix; answered by `Forked` as soon as they are started."""

    prefix: str
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True)
class Forked:
    """The fork's number, and how many token ids its shared prefix has."""

    group: int
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Join:
    """Wait for the next branch of `group` that ends; answered by `Generated`, or by `None` when none is left."""

    group: int


@dataclass(frozen=True, slots=True)
class CancelBranches:
    """Stop the branches of `group` that still decode; answered by their partial texts, finish reason `cancelled`."""

    group: int
    reason: str


@dataclass(frozen=True, slots=True)
class CallTool:
    """Run a tool of the worker; answered by `ToolResult` or `ToolError`."""

    name: str
    arguments: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class ToolResult:
    value: Json


@dataclass(frozen=True, slots=True)
class ToolError:
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Emit:
    """Propose edits of the constellation now, while this star runs; answered by `EditReply`.

    Each edit is a mapping of one key, as in a plan file: `add_star`, `remove_star`, `update_star`, `add_line`,
    `remove_line`, `rebind_inputs` or `cancel_star`. They apply together or not at all.
    """

    edits: tuple[Mapping[str, Json], ...]


@dataclass(frozen=True, slots=True)
class EditReply:
    """Whether the edits were applied, why not if not, and the revision that now holds."""

    accepted: bool
    reasons: tuple[str, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Say:
    """Stream text that people read to the watchers of the request; answered by `None`."""

    text: str
    thread: str = "main"


Ask: TypeAlias = Generate | Fork | Join | CancelBranches | CallTool | Emit | Say
Answer: TypeAlias = Generated | Forked | tuple[Generated, ...] | ToolResult | ToolError | EditReply | None


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """What a program ends with; `edits` are applied in one step with the star's success."""

    value: Json
    edits: tuple[Mapping[str, Json], ...] = field(default=())


Program: TypeAlias = Generator[Ask, Answer, ProgramResult]


class ProgramFailed(Exception):
    """The star fails with this code; `retryable` says whether the same inputs may succeed in another attempt."""

    def __init__(self, code: str, message: str, *, retryable: bool) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class ProgramContext:
    """Where a program runs: ids as text, the attempt counted from 1, the graph's revision, and the model if any."""

    constellation: str
    star: str
    attempt: int
    revision: int
    model: str | None = None
