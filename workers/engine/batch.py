"""Which sequence computes which tokens in which slot at the next step. Pure: token ids in, steps out.

A slot holds the keys and values (KV) of one sequence. Three rules carry the rest:

- Running sequences fill the slots 0 .. n-1 without a gap, those that decode before those that still prefill, so that a
  step computes on a slice of the cache and never gathers. A finish swaps the last one into the hole.
- A sequence that ends leaves its tokens and their KV behind. A later prompt with the same beginning (another branch
  of a fork, a join of branches) takes them over or copies them, and computes only the rest.
- A prompt waits while a running prefill is about to compute a longer beginning of it than any slot holds: the prefix
  of a fork is computed once (the prefix sharing of RadixAttention, Zheng et al. 2023, with slots for a tree).
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

Token = TypeVar("Token", int, str)


@dataclass(slots=True)
class BatchSequence:
    """One request inside the batch, which owns and updates it."""

    request_id: str
    token_ids: list[int]
    """The prompt, then what was generated."""
    max_tokens: int
    prompt_tokens: int = field(init=False)
    cached_tokens: int = 0
    """Prompt tokens that were in the cache when a slot was given."""

    def __post_init__(self) -> None:
        self.prompt_tokens = len(self.token_ids)

    @property
    def generated_tokens(self) -> int:
        return len(self.token_ids) - self.prompt_tokens


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy the KV of the first `tokens` positions from one slot to another."""

    source: int
    target: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Step:
    """What to compute: the copies in order, then `tokens[i]` in slot `first_slot + i` from position `starts[i]` on."""

    copies: tuple[Copy, ...]
    first_slot: int
    tokens: tuple[Sequence[int], ...]
    starts: tuple[int, ...]
    sequences: tuple[BatchSequence, ...]
    samples: tuple[bool, ...]
    """Whether the token after the last one is wanted: not in the middle of a prompt."""


@dataclass(frozen=True, slots=True)
class Produced:
    """A token that a step gave a sequence, and why the sequence has to end with it."""

    sequence: BatchSequence
    token_id: int
    finish: Literal["end", "length"] | None


def shared_prefix(first: list[Token], second: list[Token]) -> int:
    """How many tokens two sequences begin with alike."""
    longest = min(len(first), len(second))
    if first[:longest] == second[:longest]:
        return longest
    # Slices compare at C speed, so halving beats a walk over pairs.
    return bisect_left(range(longest), True, key=lambda size: first[: size + 1] != second[: size + 1])


class Batch:
    """The slots and who waits for them. The caller computes each step, calls `advance`, and `finish` for each end."""

    def __init__(self, *, slots: int, context_tokens: int, prefill_tokens: int, end_ids: frozenset[int]) -> None:
        """`prefill_tokens` bounds the prompt tokens of one step, so that a long prompt cannot stall the others."""
        self.context_tokens = context_tokens
        self._prefill_tokens = prefill_tokens
        self._end_ids = end_ids
        self._waiting: list[BatchSequence] = []
        self._running: list[BatchSequence] = []
        self._decoding = 0
        self._contents: list[list[int]] = [[] for _ in range(slots)]
        self._last_used = [0] * slots
        self._clock = 0
        self._copies: list[Copy] = []
        self._prefilled_last = False

    @property
    def slots(self) -> int:
        return len(self._contents)

    @property
    def spare_slot(self) -> int:
        """A slot more than `slots`, through which two slots are swapped; the cache has to have it."""
        return len(self._contents)

    def holds(self, slot: int) -> list[int]:
        """The tokens whose KV is in a slot once the copies handed out or waiting are made."""
        return list(self._contents[slot])

    @property
    def running(self) -> tuple[BatchSequence, ...]:
        """Running sequences; the index is the slot."""
        return tuple(self._running)

    @property
    def live(self) -> tuple[BatchSequence, ...]:
        return (*self._running, *self._waiting)

    def submit(self, sequences: Sequence[BatchSequence]) -> None:
        """Queues sequences, first come first served; each prompt leaves room for a token in the context."""
        self._waiting.extend(sequences)

    def next_step(self) -> Step | None:
        """The next thing to compute, or None when nothing is live. `advance` has to follow before the next call."""
        self._clock += 1
        self._admit()
        if not self._running:
            return None
        # Prefill and decode take turns while both have work: no long prompt stalls answers, no long answer a prompt.
        prefill = self._decoding < len(self._running) and not (self._prefilled_last and self._decoding)
        self._prefilled_last = prefill
        first, last = (self._decoding, len(self._running)) if prefill else (0, self._decoding)
        budget = max(1, self._prefill_tokens // (last - first)) if prefill else 1
        sequences = tuple(self._running[first:last])
        starts = tuple(len(self._contents[slot]) for slot in range(first, last))
        tokens = tuple(
            sequence.token_ids[start : start + budget] for sequence, start in zip(sequences, starts, strict=True)
        )
        samples = tuple(
            start + len(chunk) == len(sequence.token_ids)
            for sequence, start, chunk in zip(sequences, starts, tokens, strict=True)
        )
        copies, self._copies = tuple(self._copies), []
        return Step(copies, first, tokens, starts, sequences, samples)

    def advance(self, step: Step, token_ids: Sequence[int]) -> list[Produced]:
        """Records that `step` was computed and chose `token_ids[i]` for its sequence i, if that one `samples`."""
        produced: list[Produced] = []
        arrived: list[int] = []
        for row, sequence in enumerate(step.sequences):
            slot = step.first_slot + row
            self._contents[slot].extend(step.tokens[row])
            self._last_used[slot] = self._clock
            if not step.samples[row]:
                continue
            token_id = token_ids[row]
            sequence.token_ids.append(token_id)
            produced.append(Produced(sequence, token_id, self._reason_to_end(sequence, token_id)))
            if slot >= self._decoding:
                arrived.append(slot)
        for slot in arrived:
            self._swap(slot, self._decoding)
            self._decoding += 1
        return produced

    def finish(self, request_id: str) -> BatchSequence | None:
        """Takes a sequence out, running or waiting; its KV stays behind. None when it is not live."""
        for sequence in self._waiting:
            if sequence.request_id == request_id:
                self._waiting.remove(sequence)
                return sequence
        slot = next((at for at, sequence in enumerate(self._running) if sequence.request_id == request_id), None)
        if slot is None:
            return None
        sequence = self._running[slot]
        if slot < self._decoding:
            self._decoding -= 1
            self._swap(slot, self._decoding)
            slot = self._decoding
        self._swap(slot, len(self._running) - 1)
        self._running.pop()
        return sequence

    def _reason_to_end(self, sequence: BatchSequence, token_id: int) -> Literal["end", "length"] | None:
        if token_id in self._end_ids:
            return "end"
        if sequence.generated_tokens >= sequence.max_tokens or len(sequence.token_ids) >= self.context_tokens:
            return "length"
        return None

    def _admit(self) -> None:
        waiting, self._waiting = self._waiting, []
        for sequence in waiting:
            if len(self._running) == self.slots or not self._place(sequence):
                self._waiting.append(sequence)

    def _place(self, sequence: BatchSequence) -> bool:
        """Gives the sequence the first free slot with as much of its prompt as any slot holds; False to let it wait."""
        # The last token is always computed: its logits choose the first generated one.
        prompt = sequence.token_ids[:-1]
        held = [shared_prefix(prompt, contents) for contents in self._contents]
        cached = max(held)
        if any(shared_prefix(prompt, other.token_ids) > cached for other in self._running[self._decoding :]):
            return False
        slot = len(self._running)
        source, keep = self._choose_source(held, cached)
        if source == keep and keep != slot:
            self._swap_contents(slot, keep)
            source = slot
        elif keep != slot:
            self._copy(slot, keep, len(self._contents[slot]))
        if source != slot:
            self._copy(source, slot, cached)
        del self._contents[slot][cached:]
        self._last_used[slot] = self._clock
        sequence.cached_tokens = cached
        self._running.append(sequence)
        return True

    def _choose_source(self, held: Sequence[int], cached: int) -> tuple[int, int]:
        """The slot that gives the shared tokens, and the free slot whose contents are given up.

        They are the same where nothing is lost by it, or where no other slot is free. Otherwise the free slot that was
        not used for the longest time gives way, and what is in the first free slot moves there.
        """
        free = range(len(self._running), self.slots)
        sources = [slot for slot, size in enumerate(held) if size == cached]
        whole = [slot for slot in sources if slot in free and len(self._contents[slot]) == cached]
        if whole:
            return whole[0], whole[0]
        source = sources[0]
        others = [slot for slot in free if slot != source] or [source]
        return source, min(others, key=lambda slot: self._last_used[slot])

    def _copy(self, source: int, target: int, tokens: int) -> None:
        if tokens:
            self._copies.append(Copy(source, target, tokens))
        self._contents[target] = self._contents[source][:tokens]
        self._last_used[target] = self._last_used[source]

    def _swap(self, first: int, second: int) -> None:
        """Exchanges two running sequences with their slots."""
        running = self._running
        running[first], running[second] = running[second], running[first]
        self._swap_contents(first, second)

    def _swap_contents(self, first: int, second: int) -> None:
        if first == second:
            return
        contents, used, spare = self._contents, self._last_used, self.spare_slot
        moves = ((first, spare, len(contents[first])), (second, first, len(contents[second])))
        for source, target, tokens in (*moves, (spare, second, len(contents[first]))):
            if tokens:
                self._copies.append(Copy(source, target, tokens))
        contents[first], contents[second] = contents[second], contents[first]
        used[first], used[second] = used[second], used[first]
