"""One text of a tree of reasoning threads: the parent's or a thread's, where it stands, and the block it writes."""

import zlib
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from asterism.agents.asks import MAX_PROMPT_CHARACTERS, MAX_SEGMENTS, FinishReason
from asterism.agents.policies import Standing
from asterism.agents.reasoning import Judgement, Reasoning, ThreadReport
from asterism.agents.scheme import Opening, Place, glued

ROOT: Final = "main"
"""The id of the parent's own text."""
SEED_STEP: Final = 7919
"""Between the seeds of one thread's requests: a prime, so that the sums with content hashes do not meet by rule."""


class NodeState(Enum):
    """Where a text stands."""

    QUEUED = auto()
    """Waits for a slot or for tokens."""
    DECODING = auto()
    JOINING = auto()
    """Waits for its threads."""
    ENDED = auto()


@dataclass(slots=True, eq=False)
class Entry:
    """A well-formed entry of a list."""

    number: int
    text: str
    opening: Opening
    node: "ThreadNode | None" = None
    """None for one that only stands in the list."""
    is_tried: bool = False
    """Whether it was decided if it gets a thread."""


@dataclass(slots=True, eq=False)
class Block:
    """A list that its text has opened, and what became of it."""

    start: Place
    unread: str = ""
    """Text of the list behind its last closed entry."""
    numbered: int = 0
    """Entries so far, malformed ones among them."""
    entries: list[Entry] = field(default_factory=list)
    is_closed: bool = False
    base: int = 0
    """Threads and malformed entries of the blocks before, so that ids go on counting."""
    shown: int = 0
    """Entries, from the first, whose joined text was asked for before the join."""
    is_computing: bool = False
    """Whether such a request is under way."""

    @property
    def threads(self) -> list[tuple[Entry, "ThreadNode"]]:
        """The entries that have a thread."""
        return [(entry, entry.node) for entry in self.entries if entry.node is not None]

    @property
    def leading_ended(self) -> int:
        """Entries, from the first, before which no thread lives."""
        for index, entry in enumerate(self.entries):
            if entry.node is not None and entry.node.ended_as is None:
                return index
        return len(self.entries)


@dataclass(slots=True, eq=False)
class ThreadNode:
    """A text that decodes: all that it has is `context` and, behind it, `said`."""

    name: str
    depth: int
    entry: str
    opening: Opening
    context: tuple[str, ...]
    shared: int
    """Leading pieces of the context that its siblings have too."""
    left: int
    """Token ids that it may still decode."""
    path: int
    """Token ids on the longest causal chain that ends where its text does."""
    seed: int
    may_fork: bool
    said: list[str] = field(default_factory=list)
    state: NodeState = NodeState.QUEUED
    is_dropped: bool = False
    """Nobody waits for it any more."""
    block: Block | None = None
    scanned: int = 0
    """Pieces of `said` that open no block any more."""
    joined_at: int = 0
    """Pieces of `said` up to the end of the last join."""
    has_joined: bool = False
    is_behind_join: bool = False
    """Whether its next request is the first one after a join."""
    tokens: int = 0
    requests: int = 0
    resumed: int = 0
    fallbacks: int = 0
    children: int = 0
    finish_reason: FinishReason = "cancelled"
    stop: str | None = None
    ended_as: int | None = None
    judgement: Judgement | None = None
    waiters: list["ThreadNode"] = field(default_factory=list)
    """The texts that wait for it: several where its result is shared, none for the parent of all."""
    chosen: tuple[ThreadReport, ...] = ()

    @property
    def request_seed(self) -> int:
        """Of the next request."""
        return (self.seed + SEED_STEP * self.requests) % 2**31

    @property
    def standing(self) -> Standing:
        """How a policy sees it."""
        judgement = self.judgement
        if self.ended_as is None or judgement is None:
            return Standing()
        return Standing(self.ended_as, judgement.outcome == "verified", judgement.answer, judgement.score)

    def has_room(self, glue: str) -> bool:
        """Whether it may list another entry or open another block: half of a prompt's segments is for the join."""
        return len(self.context) + (2 if glue else 1) * len(self.said) < MAX_SEGMENTS // 2

    @property
    def characters(self) -> int:
        """Of its next prompt, the glue left out."""
        return sum(map(len, self.context)) + sum(map(len, self.said))

    def fits(self, glue: str) -> bool:
        """Whether its next prompt is one that may be asked for."""
        return self.characters + len(glue) * len(self.said) <= MAX_PROMPT_CHARACTERS

    def text(self, glue: str) -> str:
        """All that it said behind its context."""
        return "".join(glued(self.said, glue))

    def report(self, glue: str) -> ThreadReport:
        """How it ended; `cancelled` before it did."""
        judgement = self.judgement or Judgement("cancelled")
        return ThreadReport(
            name=self.name,
            entry=self.entry,
            outcome=judgement.outcome,
            text=self.text(glue),
            tokens=self.tokens,
            path_tokens=self.path,
            answer=judgement.answer,
            score=judgement.score,
            brief=judgement.brief,
        )


def root_of(
    declared: Reasoning, context: tuple[str, ...], *, content: str, may_fork: bool, is_listed: bool = False
) -> ThreadNode:
    """The parent of all. Where nothing may be forked, only a whole list (`is_listed`) is written in its name."""
    opens_with = declared.opens_with
    if not may_fork and not is_listed and declared.scheme.block_opens in opens_with:
        opens_with = declared.scheme.sequential_opens
    return ThreadNode(
        name=ROOT,
        depth=0,
        entry="",
        opening=Opening("", ""),
        context=context,
        shared=0,
        left=declared.limits.tokens_parent,
        path=0,
        seed=seed_of(content, declared.sampling.seed) if content else declared.sampling.seed,
        may_fork=may_fork,
        said=[opens_with] if opens_with else [],
    )


def seed_of(content: str, seed: int) -> int:
    """The seed of a thread: the same for the same content, wherever and whenever it is forked."""
    return (seed + zlib.crc32(content.encode("utf-8", "surrogatepass"))) % 2**31


def is_awaiting(node: ThreadNode, other: ThreadNode) -> bool:
    """Whether `node` waits for `other`, directly or through threads of its own."""
    seen: set[int] = set()
    stack = [node]
    while stack:
        one = stack.pop()
        if one is other:
            return True
        if id(one) in seen or one.state is NodeState.ENDED:
            continue
        seen.add(id(one))
        if one.block is not None:
            stack.extend(child for _, child in one.block.threads)
    return False
