"""Reasoning threads of a model: what a program declares about them, and what it gets.

    declared = Reasoning(scheme=Outlined(), policy=FirstVerified(), sampling=Sampling(max_tokens=0))
    reasoned = yield from reason(question, declared, Task(judge=...))

`running.reason` runs it on any engine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from asterism.agents.accounting import Limits
from asterism.agents.asks import FinishReason, Sampling
from asterism.agents.policies import All, JoinPolicy
from asterism.agents.scheme import Opening, Place, Scheme

Outcome: TypeAlias = Literal["verified", "refuted", "claimed_false", "malformed", "ended", "truncated", "cancelled"]
"""`ended`: by itself, and nobody judged it. `truncated`: by a bound or an error. Only `verified` ends a search."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A thread that came to an end, for a judge to read."""

    name: str
    """Its id: `t2.1` is the first thread of the second thread of the parent."""
    entry: str
    """The entry of its parent's list, as it was written."""
    opening: str
    text: str
    """All that it said behind its opening, the bodies of its own threads included."""
    finish_reason: FinishReason
    winner: "ThreadReport | None" = None
    """The verified thread below it that ended it, if one did."""

    @property
    def is_cut_off(self) -> bool:
        """Whether a bound or an error ended it, and not itself."""
        return self.finish_reason in ("length", "error", "cancelled")


@dataclass(frozen=True, slots=True)
class ThreadReport:
    """How one thread ended."""

    name: str
    entry: str
    outcome: Outcome
    text: str
    tokens: int
    """All that it decoded itself."""
    path_tokens: int
    """On the longest causal chain from the program's begin to its end."""
    answer: str | None = None
    score: float | None = None
    brief: str | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a thread that ended is worth."""

    outcome: Outcome
    resume: str | None = None
    """The text behind its opening from which it may go on, in place of what it said, within its budget."""
    brief: str | None = None
    """What the join shows of it; None: all that it said."""
    joins: bool = True
    """Whether the join shows it at all."""
    answer: str | None = None
    """For a vote: equal answers are equal texts."""
    score: float | None = None
    """For the best of all."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A parent whose list is closed, and whose threads are not to run here."""

    context: tuple[str, ...]
    """The prompt, in segments."""
    said: tuple[str, ...]
    """Its own text, the closed list at its end, in pieces."""
    block: Place
    openings: tuple[Opening, ...]
    entries: tuple[str, ...]


def unjudged(ended: Ended) -> Judgement:
    """For tasks without a verifier: whatever a thread said counts, and it votes with its whole text."""
    if ended.is_cut_off:
        return Judgement("truncated", joins=bool(ended.text.strip()))
    return Judgement("ended", answer=" ".join(ended.text.split()))


def nothing_more(name: str, entries: Sequence[str]) -> Sequence[str]:
    """Adds no entry to a model's list."""
    return ()


@dataclass(frozen=True, slots=True)
class Task:
    """What only the program knows about its threads; every part has a default that knows nothing."""

    judge: Callable[[Ended], Judgement] = unjudged
    """Called once for each end of a thread, also of one that was cut off, and not for one that was cancelled."""
    open: Callable[[str, int, str], Opening | None] | None = None
    """(name of the parent, number in its block from 1, entry) -> the thread, None for a malformed entry. Without it the
    scheme opens threads by its own template."""
    leaves: Callable[[Leaving], bool] | None = None
    """Whether the threads of the parent's list leave this device. They can only where `eager` is off: else the first
    ones run already. What they are then stands in `Reasoned.leaving`, and nothing is joined here."""
    complete: Callable[[str, Sequence[str]], Sequence[str]] = nothing_more
    """(name of the parent, entries of its list that are well formed) -> entries to add when the model closes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasoning:
    """What is declared: values, no code."""

    scheme: Scheme
    sampling: Sampling
    """For every text; `max_tokens` comes from the limits, and `stop` ends a thread beside its own mark. A thread's seed
    is `seed` and a sum over its content, so that it says the same whoever forks it and however many decode."""
    policy: JoinPolicy = field(default_factory=All)
    limits: Limits = field(default_factory=Limits)
    eager: bool = True
    """Start a thread when its own entry closes, not when the whole list does."""
    incremental: bool = True
    """Compute the joined text of what has ended, in outline order, while the slowest thread still decodes."""
    stop: tuple[str, ...] = ()
    """End the parent's text; at most 8."""
    opens_with: str = ""
    """Written by the program in the parent's name, such as the marks that open a list; what is forced can be taken
    back, the prompt cannot."""
    has_tail: bool = True
    """Whether the parent goes on after a join; without it the join ends the program's reasoning."""

    def __post_init__(self) -> None:
        if len(self.stop) > 8:
            raise ValueError(f"stop: {len(self.stop)} strings; at most 8")


@dataclass(frozen=True, slots=True)
class Reasoned:
    """How it ended."""

    text: str
    """All of the parent's text behind the prompt, as it stood at the end."""
    tail: str
    """What stands behind the last join; all of its text when there was none."""
    finish_reason: FinishReason
    stop: str | None
    threads: tuple[ThreadReport, ...]
    """Every thread that was started, in the order of the starts."""
    leaving: Leaving | None
    """The threads that are to run elsewhere."""
    chosen: tuple[ThreadReport, ...]
    """Those on which the policy stood at the parent's last join, first the one that counts most."""

    @property
    def winner(self) -> ThreadReport | None:
        """The verified thread that ended the search, the whole claim of the tree below it included; if one did."""
        first = self.chosen[0] if self.chosen else None
        return first if first is not None and first.outcome == "verified" else None
