"""What a program may ask of the worker that runs it, and what it gets back.

A program is a generator: it yields an ask, is sent the matching answer, and returns a `ProgramResult`. It touches no
engine, clock or network itself, so that a test drives it by hand and a worker may run it on any engine.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal, TypeAlias

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

MAX_SEGMENTS: Final = 16_384
"""Of one prompt."""
MAX_PROMPT_CHARACTERS: Final = 1024 * 1024
"""In all segments of one prompt together, and in all messages of one conversation."""
MAX_MESSAGES: Final = 4096
"""Of one conversation."""
MAX_SAY_CHARACTERS: Final = 16 * 1024
"""Of one `Say`."""

FinishReason: TypeAlias = Literal["stop", "length", "end", "cancelled", "error"]

Prompt: TypeAlias = str | tuple[str, ...]
"""A text, or its segments in order. Each segment is tokenised by itself, so that a shared one has the same token ids
whatever follows it; a segment that is the text of an earlier answer gets the ids which that answer decoded."""


def segments_of(prompt: Prompt) -> tuple[str, ...]:
    """The segments of a prompt that are not empty; a text is one segment."""
    return tuple(segment for segment in ((prompt,) if isinstance(prompt, str) else prompt) if segment)


def prompt_text(prompt: Prompt) -> str:
    """All segments together."""
    return prompt if isinstance(prompt, str) else "".join(prompt)


@dataclass(frozen=True, slots=True)
class Grammar:
    """What a text must match."""

    kind: Literal["json_schema", "regex", "lark"]
    text: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token ids are chosen; `temperature` 0 is greedy, and the same `seed` gives the same text."""

    max_tokens: int
    """0 computes the prompt and decodes nothing: a later prompt that begins with it finds it in the cache."""
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    """The text ends before the first of these that is completed."""
    top_k: int = 0
    """Sample from this many most likely tokens; 0 from all."""
    min_p: float = 0.0
    """Sample from tokens at least this share as likely as the most likely one, 0 <= p < 1."""
    repetition_penalty: float = 1.0
    """Makes tokens of the prompt and the text less likely (above 1); 0.001 to 1,000, 1 changes nothing."""
    presence_penalty: float = 0.0
    """Taken off the logits of tokens that the text has, -2 to 2."""
    frequency_penalty: float = 0.0
    """Taken off once for each time that the text has them, -2 to 2."""
    banned: tuple[str, ...] = ()
    """Tokens that are never chosen, each named by its text in the vocabulary: marks that a model must not forge."""
    grammar: Grammar | None = None
    priority: int = 0
    """Higher ones are admitted first and preempted last."""
    keep_s: float = 0.0
    """Seconds for which the KV of prompt and text is not evicted after the end."""


@dataclass(frozen=True, slots=True)
class Generate:
    """Continue `prompt`; answered by `Generated`."""

    prompt: Prompt
    sampling: Sampling
    thread: str = "main"


Role: TypeAlias = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """What one side of a conversation said; the model's own turns are the `assistant`'s."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Chat:
    """Write the assistant's next message of a conversation; answered by `Generated`.

    An engine of ours renders the messages by the model's chat template, and a server does it by its own. A conversation
    that goes on with the text of the answer, as it came, finds what was computed for it in the cache.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    thread: str = "main"


@dataclass(frozen=True, slots=True)
class Open:
    """Begin a text, and listen while it is written; answered by `Opened` at once.

    It belongs to no fork: `Join` and `CancelBranches` do not see it. What the engine refuses it with is told by the
    first `Listen`.
    """

    ask: Generate | Chat


@dataclass(frozen=True, slots=True)
class Opened:
    """The number of the stream, counted from 0."""

    stream: int


@dataclass(frozen=True, slots=True)
class Listen:
    """Wait for more of a text; answered by a `Piece`, or after the last one by the whole text as `Generated`.

    With `Generated` the stream is gone. Whoever does not listen holds nothing up: the next piece is all the longer.
    """

    stream: int


@dataclass(frozen=True, slots=True)
class Piece:
    """All the text that has come since the last piece; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Close:
    """Forget a stream, and stop it where it is still being written; answered by `None` once it decodes no more.

    One that has ended, or was closed before, may be closed again.
    """

    stream: int


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
    cost: float = 0.0
    """What a server charges for it, in the currency of its price in the worker's settings."""
    group: int = -1
    """The fork that it was a branch of; -1 for the answer to `Chat` or to `Listen`."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One reasoning thread of a fork: its prompt is the fork's prefix followed by `suffix`."""

    thread: str
    suffix: Prompt
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Fork:
    """Decode all branches as one batch behind one shared prefix; answered by `Forked` as soon as they are started.

    A program may have many forks at once: to decode its own text while children run it forks that text too.
    """

    prefix: Prompt
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True)
class Forked:
    """The fork's number, and how many token ids its shared prefix has."""

    group: int
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Join:
    """Wait for the next branch of `group`, or of any fork, that ends; answered by `Generated`, or `None` at the last.

    Every branch is given once, in the order of the ends.
    """

    group: int | None = None


@dataclass(frozen=True, slots=True)
class CancelBranches:
    """Stop branches that still decode; answered by their partial texts, finish reason `cancelled`.

    Those of `group`, or of every fork, and of these only the ones named in `threads`, if any are. What ended by itself
    in the meantime is not in the answer: it can be joined.
    """

    group: int | None
    reason: str
    threads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clock:
    """Look at the worker; answered by `ClockReading`. A program has no clock of its own."""


@dataclass(frozen=True, slots=True)
class ClockReading:
    """What a worker shows: seconds on a clock that only rises, and sequences that its engine could decode at once now.

    The slots are a hint: others of the same engine may take them in the next moment. None: the engine does not say.
    """

    at_s: float
    free_slots: int | None = None


class Effect(StrEnum):
    """What a tool or program does to the world, which says whether it may run again once it may have begun."""

    PURE = "pure"
    """Nothing, and the same arguments give the same result: its result may be kept and shared."""
    IDEMPOTENT = "idempotent"
    """Running it twice leaves what running it once does; the results may differ."""
    NONE = "none"
    """Neither: an attempt that may have begun is never made again by itself."""

    @property
    def may_repeat(self) -> bool:
        """Whether it may run again though an earlier attempt may have begun."""
        return self is not Effect.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolDescription:
    """What everybody may know of a tool: planners, models, and whoever keeps results.

    `schema` is the JSON schema of its arguments, an object. A new `version` says that the same arguments may give
    another result. Raises ValueError for `cache_s` of what is not pure.
    """

    name: str
    summary: str
    schema: Mapping[str, Json] = field(default_factory=lambda: {"type": "object"})
    effect: Effect = Effect.NONE
    version: str = ""
    cache_s: float | None = None
    """Seconds for which a result may stand for another call with the same arguments; None: never."""

    def __post_init__(self) -> None:
        if self.cache_s is not None and self.effect is not Effect.PURE:
            raise ValueError(f"{self.name}: is {self.effect}, and only results of pure tools are kept (cache_s)")

    def to_json(self) -> dict[str, Json]:
        """As a planner or a model is told of it."""
        return {"name": self.name, "summary": self.summary, "arguments": self.schema, "effect": self.effect.value}


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
    """`may_repeat`: the same call may succeed another time, and does no harm if it had begun."""

    code: str
    message: str
    may_repeat: bool = False


ToolOutcome: TypeAlias = ToolResult | ToolError


@dataclass(frozen=True, slots=True)
class CallTools:
    """Run several tools at the same time; answered by `ToolOutcomes` when the last one has ended, in this order."""

    calls: tuple[CallTool, ...]


@dataclass(frozen=True, slots=True)
class ToolOutcomes:
    outcomes: tuple[ToolOutcome, ...]


@dataclass(frozen=True, slots=True)
class ListTools:
    """Which tools this worker has; answered by `ToolList`."""


@dataclass(frozen=True, slots=True)
class ToolList:
    """Sorted by their names."""

    tools: tuple[ToolDescription, ...]


@dataclass(frozen=True, slots=True)
class Emit:
    """Propose edits of the constellation now, while this star runs; answered by `EditReply`.

    Each edit is a mapping of one key, as in a plan file: `add_star`, `remove_star`, `update_star`, `add_line`,
    `remove_line`, `rebind_inputs` or `cancel_star`. They apply together or not at all.
    """

    edits: tuple[Mapping[str, Json], ...]
    base_revision: int | None = None
    """The graph that the program saw: refused where what the edits name has been edited since. None: whatever it is."""


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


@dataclass(frozen=True, slots=True)
class Hear:
    """Wait for more of an input that a parent is still writing; answered by a `Piece`, at the end by the `Whole`.

    The pieces are a preview: one may be missing at their end, and the parent may end with something else. An input that
    has its value already is answered by it.
    """

    input: str


@dataclass(frozen=True, slots=True)
class Whole:
    """The value of an input, just as a star that had waited for it would be given it."""

    value: Json


TextAsk: TypeAlias = Generate | Chat | Open | Listen | Close | Fork | Join | CancelBranches | Clock
"""What a model's engine answers."""
TextReply: TypeAlias = Generated | Opened | Piece | Forked | tuple[Generated, ...] | ClockReading | None
ToolAsk: TypeAlias = CallTool | CallTools | ListTools
ToolReply: TypeAlias = ToolOutcome | ToolOutcomes | ToolList
Ask: TypeAlias = TextAsk | ToolAsk | Emit | Say | Hear
Reply: TypeAlias = TextReply | ToolReply | EditReply | Whole


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """What a program ends with; `edits` are applied in one step with the star's success."""

    value: Json
    edits: tuple[Mapping[str, Json], ...] = field(default=())


Program: TypeAlias = Generator[Ask, Reply, ProgramResult]


class ProgramFailed(Exception):
    """The star fails with this code; `retryable` says whether the same inputs may succeed in another attempt."""

    def __init__(self, code: str, message: str, *, retryable: bool) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class ProgramContext:
    """Where a program runs: ids as text, the attempt counted from 1, the graph's revision, and the model if any.

    `streams` are the inputs that are not among its inputs yet, and are to be heard.
    """

    constellation: str
    star: str
    attempt: int
    revision: int
    model: str | None = None
    streams: frozenset[str] = frozenset()
