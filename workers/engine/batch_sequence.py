"""What the scheduler knows of a request, and what it says of a step. Pure."""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.prefix_tree import Node
from asterism.workers.engine.step import BLOCK_TOKENS, Step

Rank = tuple[int, int]
"""The order among sequences: minus the priority, then the number of arrival."""


@dataclass(slots=True, eq=False)
class BatchSequence:
    """One request inside the scheduler, which owns and updates it."""

    request_id: str
    token_ids: list[int]
    """The prompt, then what was generated."""
    max_tokens: int
    """0 computes the prompt and samples nothing."""
    priority: int = 0
    prompt_tokens: int = field(init=False)
    cached_tokens: int = 0
    """Prompt tokens that were computed already when it was first admitted."""

    computed: int = 0
    """Tokens of `token_ids` whose keys and values are in `blocks`."""
    blocks: list[int] = field(default_factory=list)
    rank: Rank = (0, 0)
    urgency: Rank = (0, 0)
    """The rank for prefill: the smallest of its own and of those that wait for its prefix."""
    is_running: bool = False
    was_admitted: bool = False
    ticket: int | None = None
    """In the queue of those that wait."""
    node: "Node[BatchSequence] | None" = None
    """Of its last block."""
    open: "deque[Node[BatchSequence]]" = field(default_factory=deque)
    """The nodes that it still fills, in order."""
    followers: "list[tuple[int, Rank, BatchSequence]]" = field(default_factory=list)
    """A heap of those that wait until so many of its tokens are computed."""
    shared_blocks: int = 0
    """Leading blocks that are those of the one before it among the running, too."""
    take: int = 0
    """Tokens that it computes in the step which is being made."""

    def __post_init__(self) -> None:
        self.prompt_tokens = len(self.token_ids)

    @property
    def generated_tokens(self) -> int:
        return len(self.token_ids) - self.prompt_tokens

    @property
    def uncomputed(self) -> int:
        """1 for a sequence that decodes."""
        return len(self.token_ids) - self.computed


@dataclass(frozen=True, slots=True)
class ScheduledStep:
    """A step, and the sequence of each of its chunks."""

    step: Step
    sequences: tuple[BatchSequence, ...]


@dataclass(frozen=True, slots=True)
class Produced:
    """A token that a step gave a sequence, and why the sequence has to end with it."""

    sequence: BatchSequence
    token_id: int | None
    """None at the end of a prompt that nothing is sampled after."""
    finish: Literal["end", "length"] | None


def check_fits(prompt_tokens: int, max_tokens: int, *, context_tokens: int, blocks: int) -> None:
    """Raises `InvalidRequest` for a request that `blocks` could not hold with nothing beside it."""
    # The last token of an answer is chosen, and never computed.
    most = min(prompt_tokens + max(max_tokens - 1, 0), context_tokens)
    if blocks_for(most) > blocks:
        field, size = ("prompt", prompt_tokens) if blocks_for(prompt_tokens) > blocks else ("max_tokens", max_tokens)
        raise InvalidRequest(field, f"is {size} tokens; the KV memory holds {blocks * BLOCK_TOKENS} of one request")


def blocks_for(tokens: int) -> int:
    """Blocks that hold so many positions."""
    return -(-tokens // BLOCK_TOKENS)
