"""What reasoning threads may spend, and what they spent."""

from dataclasses import dataclass, fields
from typing import Final

from asterism.agents.asks import Generated, Json

MOST_THREADS: Final = 1024
MOST_DEPTH: Final = 8
MOST_TOKENS: Final = 16 * 1024 * 1024
MOST_SHOWN_CHARACTERS: Final = 64 * 1024
DEFAULT_AT_ONCE: Final = 16
"""Threads at once where neither the program nor the worker says how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds that hold whatever the model writes. Raises ValueError for what is out of range."""

    threads: int = 64
    """Threads started in all, at every level together; shared results are free."""
    at_once: int | None = None
    """Texts that decode at the same time, a parent that still writes among them; the others wait their turn. None: as
    many as the worker shows free slots for when the program begins, at most `DEFAULT_AT_ONCE`."""
    fork_from: int = 2
    """With fewer at once than this nothing is forked: the marks are banned, and the model goes on in one text."""
    entries: int = MOST_THREADS
    """Read of one list, malformed and repeated ones among them; the program ends the list there."""
    shown_characters: int = 12 * 1024
    """Of one thread's text in a join; what is behind them is cut off."""
    depth: int = 1
    """Levels of threads below the parent; 0 forks nothing."""
    tokens_a_thread: int = 512
    """Decoded by one thread, its resumptions and its tails included; its own threads count for themselves."""
    tokens_parent: int = 4096
    """Decoded by the parent, its tails included."""
    tail_tokens: int | None = None
    """Kept back for the text after a join, and most that such a text takes; None keeps nothing back."""
    tokens: int = 65_536
    """Decoded in all. What runs has its share reserved: the sum never goes above it."""
    resumptions: int = 3
    """How often a judge may let one thread go on after a claim that it struck out."""

    def __post_init__(self) -> None:
        _check("threads", self.threads, 0, MOST_THREADS)
        _check("at_once", 1 if self.at_once is None else self.at_once, 1, MOST_THREADS)
        _check("fork_from", self.fork_from, 1, MOST_THREADS)
        _check("entries", self.entries, 1, MOST_THREADS)
        _check("shown_characters", self.shown_characters, 1, MOST_SHOWN_CHARACTERS)
        _check("depth", self.depth, 0, MOST_DEPTH)
        _check("tokens_a_thread", self.tokens_a_thread, 1, MOST_TOKENS)
        _check("tokens_parent", self.tokens_parent, 1, MOST_TOKENS)
        _check("tail_tokens", self.tail_tokens or 0, 0, self.tokens_parent)
        _check("tokens", self.tokens, 1, MOST_TOKENS)
        _check("resumptions", self.resumptions, 0, 64)


def _check(field: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{field}: is {value}; {low} to {high}")


@dataclass(slots=True)
class Accounting:
    """What a program spent, in token ids, threads and seconds.

    `critical_path_tokens` are decoded one after another on the longest causal chain that ends in the answer: the
    parent's up to a thread's outline, that thread's, the text after the join. Prompt tokens are either computed
    (`prefill_tokens`) or shared (`cached_tokens`); of the computed ones `join_prefill_tokens` stood between a join and
    the text after it, and `early_prefill_tokens` were computed while a slower thread still decoded.
    """

    total_tokens: int = 0
    critical_path_tokens: int = 0
    prefill_tokens: int = 0
    cached_tokens: int = 0
    join_prefill_tokens: int = 0
    early_prefill_tokens: int = 0
    threads_forked: int = 0
    threads_cancelled: int = 0
    threads_salvaged: int = 0
    """Threads cut off by a bound or an error whose text counted all the same."""
    threads_truncated: int = 0
    """Threads that are longer than a join shows."""
    threads_shared: int = 0
    """Outlines that got the result of a thread with the same content."""
    threads_lost: int = 0
    """Threads of which the engine reported no end."""
    joins: int = 0
    malformed_entries: int = 0
    repeated_entries: int = 0
    refused_entries: int = 0
    """Entries for which a bound left no thread."""
    dropped_entries: int = 0
    """Entries behind the bound of their list, or where a prompt has no room for more."""
    added_entries: int = 0
    """Entries that the program added to the model's list."""
    unclosed_blocks: int = 0
    forged_marks: int = 0
    false_claims: int = 0
    fallbacks: int = 0
    """Returns to one text, from before a block that could not be forked."""
    cost: float = 0.0
    """What servers charged for all texts, in the currency of their prices."""
    wall_s: float = 0.0

    @property
    def acceleration(self) -> float:
        """Total tokens over those of the critical path (arXiv 2512.07843); 1 where nothing was decoded."""
        return self.total_tokens / self.critical_path_tokens if self.critical_path_tokens else 1.0

    def count(self, generated: Generated) -> None:
        """Add what one text cost; whoever knows the chains counts the critical path."""
        self.total_tokens += generated.tokens
        self.cached_tokens += generated.cached_tokens
        self.prefill_tokens += computed_tokens(generated)
        self.cost += generated.cost

    def to_json(self) -> dict[str, Json]:
        values: dict[str, Json] = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "wall_s": round(self.wall_s, 6), "acceleration": round(self.acceleration, 4)}


def computed_tokens(generated: Generated) -> int:
    """Prompt tokens that were not in the cache."""
    return max(0, generated.prompt_tokens - generated.cached_tokens)


class Budget:
    """Token ids that may be decoded in all: what runs has its share reserved."""

    def __init__(self, tokens: int) -> None:
        self._left = tokens
        self._reserved = 0

    def grant(self, wanted: int) -> int | None:
        """Reserves `wanted`. When that is not there: None while what runs may give some back, else whatever is left."""
        free = self._left - self._reserved
        if free < wanted and self._reserved:
            return None
        granted = max(0, min(free, wanted))
        self._reserved += granted
        return granted

    def settle(self, granted: int, spent: int) -> None:
        """What was reserved is free again, but for what was spent of it."""
        self._reserved -= granted
        self._left -= spent
