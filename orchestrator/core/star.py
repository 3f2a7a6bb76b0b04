"""A star: what to run, with which inputs, where it may run, and how long and how often to try."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from asterism.orchestrator.core.condition import Condition
from asterism.orchestrator.core.ids import FencingToken, StarId, WorkerId, is_replan_name
from asterism.orchestrator.core.lean import lean
from asterism.orchestrator.core.values import Json, Path, Result


class StarState(StrEnum):
    """Where a star stands; the last three are terminal."""

    WAITING = "WAITING"
    READY = "READY"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    is_terminal: bool
    """Whether the star has ended: its result and its place in the graph never change again."""

    def __init__(self, name: str) -> None:
        self.is_terminal = name in ("SUCCEEDED", "FAILED", "CANCELLED")


# Python 3.11 finds an enum's member in 110 ns and a global in 7: those asked for at each star or line are globals too.
WAITING: Final = StarState.WAITING
READY: Final = StarState.READY
RUNNING: Final = StarState.RUNNING
SUCCEEDED: Final = StarState.SUCCEEDED
FAILED: Final = StarState.FAILED
CANCELLED: Final = StarState.CANCELLED


class StarKind(StrEnum):
    """What sort of work a star is; it decides which of a worker's capabilities the star's program is."""

    PLAN = "plan"
    REASON = "reason"
    TOOL = "tool"
    GATHER = "gather"
    AGENT = "agent"
    APPROVAL = "approval"
    """A decision of a person: no worker runs it, and its inputs are what they are shown."""


TOOL: Final = StarKind.TOOL
APPROVAL: Final = StarKind.APPROVAL


@lean
@dataclass(frozen=True, slots=True)
class Constant:
    """An input that is a value already. Text that looks like a reference or a template is plain text."""

    value: Json


@lean
@dataclass(frozen=True, slots=True)
class OutputOf:
    """An input taken from a parent's result, at `path`, once, when the star is dispatched."""

    star: StarId
    path: Path = ()


@dataclass(frozen=True, slots=True)
class ParentOutcomes:
    """An input that gathers every parent there is at dispatch: star id -> {state, result, error}."""


class Telling(StrEnum):
    """What a star may be told of what is around it."""

    REQUEST = "request"
    """`{form, text, name, options}` as the user submitted it."""
    GRAPH = "graph"
    """The constellation at its revision, a row a star, bounded."""
    OFFERS = "offers"
    """What the fleet offers: tools, programs, models, labels."""


@dataclass(frozen=True, slots=True)
class Told:
    """An input that says, at dispatch, what is around the star then."""

    what: Telling


StarInput: TypeAlias = Constant | OutputOf | ParentOutcomes | Told


@dataclass(frozen=True, slots=True)
class Timeouts:
    """All in seconds; None means without end. A time-out starts when the thing it bounds is asked for."""

    schedule_to_start_s: float | None = None
    """From READY to the lease; when it ends the star fails."""
    start_to_close_s: float | None = 600.0
    """From the lease to the result; when it ends the attempt ends, and may be retried."""
    heartbeat_s: float | None = None
    """Longest silence of a running attempt: no chunk, no progress."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full-range jitter: wait `backoff_s * multiplier**n`, at most `max_backoff_s`."""

    max_attempts: int = 3
    """Attempts that end by failure or time-out, the first included. Lost workers are counted apart, and attempts that
    end with what a parent was writing for them are not counted."""
    backoff_s: float = 0.5
    multiplier: float = 2.0
    max_backoff_s: float = 30.0
    jitter: float = 0.5
    """Share of the wait that is left to chance, 0 to 1."""


@lean
@dataclass(frozen=True, slots=True)
class StarSpec:
    """What a planner asks for; it changes only by an edit, and only while the star neither runs nor is terminal."""

    id: StarId
    kind: StarKind
    program: str
    """The tool's name for a TOOL star, else the name of a program of `agents/`."""
    inputs: Mapping[str, StarInput] = field(default_factory=dict)
    requires: frozenset[str] = frozenset()
    """Capabilities beyond the program itself, such as `model:countdown` or `label:zone=lab`."""
    priority: int = 0
    """-100 to 100; higher is dispatched first."""
    timeouts: Timeouts = Timeouts()
    retry: RetryPolicy = RetryPolicy()
    may_edit: bool = False
    """Whether the star's attempt may propose edits of its own constellation."""
    title: str = ""
    """For people only."""
    is_idempotent: bool | None = None
    """Whether it may run again after it may have begun; None: as its tool or program says."""
    quorum: int = 0
    """How many of the parents by QUORUM lines must succeed; 0 where there are no such lines."""
    reuses: StarId | None = None
    """The star of a retry whose result stands for this one's where both have the same content key (`core/reuse.py`)."""
    replan_when: Condition | None = None
    """On the outcome of its success: where it holds, the result is a surprise, and a rewrite is asked for."""

    @property
    def capabilities(self) -> frozenset[str]:
        """Every capability that a worker must offer to run this star."""
        return _capabilities(self.kind, self.program, self.requires)

    @property
    def asks_replan(self) -> bool:
        """Whether it was added to have the graph rewritten (see `core/replan.py`)."""
        return self.kind is StarKind.PLAN and is_replan_name(self.id)

    @property
    def is_decided_by_people(self) -> bool:
        """Whether no worker runs it."""
        return self.kind is APPROVAL


@lru_cache(4096)
def _capabilities(kind: StarKind, program: str, requires: frozenset[str]) -> frozenset[str]:
    """One object for all stars alike: it is the key of the queue that they wait in."""
    return requires if kind is APPROVAL else requires | {program_capability(kind, program)}


def program_capability(kind: StarKind, program: str) -> str:
    """The capability that stands for being able to run a program or a tool."""
    return f"tool:{program}" if kind is TOOL else f"program:{program}"


class AttemptOutcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    LOST = "LOST"
    """Its worker left or let the lease run out."""
    CANCELLED = "CANCELLED"

    @property
    def is_failure(self) -> bool:
        """Whether it counts against the attempts that a star has."""
        return self in (AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT)


@lean
@dataclass(frozen=True, slots=True)
class StarError:
    """Why a star or an attempt ended badly: a code for programs, a message for people."""

    code: str
    message: str
    retryable: bool = False


class Answer(NamedTuple):
    """What became of proposed edits."""

    revision: int
    """That they made."""
    reasons: tuple[str, ...] = ()
    """Why they were refused; empty where they were applied."""


@dataclass(slots=True)
class Attempt:
    """One run of a star on one worker."""

    number: int
    """From 1."""
    worker: WorkerId
    fencing_token: FencingToken
    leased_at: float
    ended_at: float | None = None
    outcome: AttemptOutcome | None = None
    """None while it is the live attempt."""
    error: StarError | None = None
    holds_slot: bool = True
    """An attempt that was told to stop holds its slot until the worker confirms."""
    answers: dict[int, Answer] | None = field(default=None, compare=False, repr=False)
    """To the edits that it proposed so far, by their number: a proposal that comes again is told the same. The journal
    has them; pictures do not."""


@dataclass(slots=True)
class TaskStar:
    """A vertex as it stands now."""

    spec: StarSpec
    state: StarState
    revision: int
    """The revision that added or last edited it."""
    unmet: int = 0
    """Parents that are not terminal yet, and successes that its quorum lacks; the star is READY when it is 0 and no
    backoff runs."""
    attempts: list[Attempt] = field(default_factory=list)
    retry_at: float | None = None
    """End of the running backoff, in seconds since the epoch."""
    ready_at: float | None = None
    finished_at: float | None = None
    result: Result = None
    error: StarError | None = None
    version: str = ""
    """Of the program or tool that gave the result."""
    source: str = ""
    """`CONSTELLATION/STAR` where the result is that of another star; it did not run then."""
    quorum_met: int = field(init=False, default=0)
    """Parents by QUORUM lines that succeeded."""
    quorum_spare: int = field(init=False, default=0)
    """How many more of the others may end without success before the quorum is out of reach; then it is negative."""

    def __post_init__(self) -> None:
        if self.spec.quorum:
            self.unmet += self.spec.quorum
            self.quorum_spare -= self.spec.quorum

    def meet_quorum(self, by: int) -> None:
        """Count one more success of its quorum, or (-1) one less."""
        lacked = max(0, self.spec.quorum - self.quorum_met)
        self.quorum_met += by
        self.unmet += max(0, self.spec.quorum - self.quorum_met) - lacked

    @property
    def live_attempt(self) -> Attempt | None:
        """The attempt that may still bring a result, if there is one."""
        if self.attempts and self.attempts[-1].outcome is None:
            return self.attempts[-1]
        return None
