"""Which sequence computes which tokens in which blocks at the next step. Pure: token ids in, steps out, no clock.

Rules:

- All that decode are in every step, and beside them prompts, cut into chunks, up to a budget of tokens.
- Higher priorities are admitted first and preempted last, equal ones by arrival. There is no ageing: a priority says
  that others may wait, and who wants fairness gives the same one.
- A sequence is admitted when the blocks of what it has to compute fit beside a block for each that runs. When blocks
  run out all the same, the last in that order gives its way: what it computed stays in the tree while there is room,
  the rest is computed again later, bitwise the same.
- A prompt waits while a running one is about to compute a whole block more of it than there is: the prefix of a fork
  is computed once, also when its branches come in separate calls.

The cost of a step grows with what runs, never with what waits or is cached.
"""

import heapq
from bisect import insort
from collections.abc import Collection, Sequence
from operator import attrgetter
from typing import Literal

from asterism.workers.engine.batch_sequence import BatchSequence, Produced, Rank, ScheduledStep, blocks_for
from asterism.workers.engine.blocks import BlockPool
from asterism.workers.engine.lazy_heap import LazyHeap
from asterism.workers.engine.prefix_tree import Match, Node, PrefixTree, shared_prefix
from asterism.workers.engine.step import BLOCK_TOKENS, BlockCopy, Chunk, Step

IDLE_FACTOR = 4
"""The budget of prompt tokens grows by this while nothing decodes: no answer waits for them then, and 64 prompts of 16
tokens are through in one step."""


class Scheduler:
    """Who runs and who waits. The caller computes each step, calls `advance`, and `finish` for each end."""

    def __init__(
        self,
        *,
        blocks: int,
        max_sequences: int,
        context_tokens: int,
        prefill_tokens: int,
        end_ids: Collection[int],
    ) -> None:
        """`prefill_tokens` bounds the prompt tokens of a step in which something decodes."""
        self._pool = BlockPool(blocks)
        self._tree: PrefixTree[BatchSequence] = PrefixTree(self._pool)
        self._max_sequences = max_sequences
        self._context_tokens = context_tokens
        self._prefill_tokens = prefill_tokens
        self._end_ids = frozenset(end_ids)
        self._live: dict[str, BatchSequence] = {}
        self._waiting: LazyHeap[Rank, BatchSequence] = LazyHeap()
        self._running: list[BatchSequence] = []
        """Those that share leading blocks are neighbours."""
        self._prefilling: list[BatchSequence] = []
        """Those of the running that are behind by more than a token, the most urgent first."""
        self._copies: list[BlockCopy] = []
        self._arrivals = 0
        self._is_in_order = True
        self._is_stuck = False
        """The first that waits did not fit, and nothing was freed since."""
        self.preemptions = 0
        self.prefix_queries = 0
        """Prompt tokens of all that were admitted."""
        self.prefix_hits = 0
        """Those of them that were computed already."""

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._live) - len(self._running)

    @property
    def used_blocks(self) -> int:
        """Blocks that running sequences and pins keep; the others are free, or cache that gives way."""
        return len(self._pool) - self._tree.available

    @property
    def kept_until(self) -> float | None:
        """When the first of the times that ended sequences are kept for is over; `next_step` acts on it."""
        return self._tree.kept_until

    def submit(self, sequences: Sequence[BatchSequence]) -> None:
        """Queues sequences with ids of their own, each of which passed `check_fits`."""
        for sequence in sequences:
            self._arrivals += 1
            sequence.rank = (-sequence.priority, self._arrivals)
            self._live[sequence.request_id] = sequence
            self._queue(sequence)

    def next_step(self, now: float) -> ScheduledStep | None:
        """The next thing to compute, or None when nothing is live. `advance` has to follow before the next call.

        `now` is of the clock of `keep_until`, in seconds.
        """
        if self._tree.expire(now):
            self._is_stuck = False
        self._give_blocks()
        self._admit()
        if not self._running:
            return None
        if not self._is_in_order:
            self._put_in_order()
        self._take_tokens()
        sequences: list[BatchSequence] = []
        chunks: list[Chunk] = []
        shared = 0
        for sequence in self._running:
            shared = min(shared, sequence.shared_blocks)
            if sequence.take:
                chunks.append(self._chunk(sequence, shared))
                sequences.append(sequence)
                shared = len(sequence.blocks)
        copies, self._copies = tuple(self._copies), []
        return ScheduledStep(Step(copies, tuple(chunks)), tuple(sequences))

    def advance(self, scheduled: ScheduledStep, token_ids: Sequence[int]) -> list[Produced]:
        """Records that a step was computed, and chose `token_ids` for the chunks that sample, in their order."""
        produced: list[Produced] = []
        chosen = iter(token_ids)
        for sequence, chunk in zip(scheduled.sequences, scheduled.step.chunks, strict=True):
            was_prefilling = sequence.uncomputed > 1
            self._record(sequence, len(chunk.token_ids))
            if chunk.samples:
                token_id = next(chosen)
                sequence.token_ids.append(token_id)
                produced.append(Produced(sequence, token_id, self._reason_to_end(sequence, token_id)))
            elif not sequence.uncomputed:
                produced.append(Produced(sequence, None, "length"))
            if was_prefilling and sequence.uncomputed <= 1:
                self._prefilling.remove(sequence)
            while sequence.followers and sequence.followers[0][0] <= sequence.computed:
                self._wake(heapq.heappop(sequence.followers)[2])
        return produced

    def finish(self, request_id: str, *, keep_until: float | None = None) -> BatchSequence | None:
        """Takes a sequence out, running or waiting. None when it is not live.

        Its blocks are free for others within this call. What they hold may be found until they are taken, and is not
        taken before `keep_until`, unless nothing else could make room for a request that is alone.
        """
        sequence = self._live.pop(request_id, None)
        if sequence is None:
            return None
        if sequence.is_running:
            self._stop(sequence, keep_until)
        elif sequence.ticket is not None:
            self._waiting.discard(sequence.ticket)
        self._is_stuck = False
        return sequence

    def _reason_to_end(self, sequence: BatchSequence, token_id: int) -> Literal["end", "length"] | None:
        if token_id in self._end_ids:
            return "end"
        if sequence.generated_tokens >= sequence.max_tokens or len(sequence.token_ids) >= self._context_tokens:
            return "length"
        return None

    def _queue(self, sequence: BatchSequence) -> None:
        sequence.ticket = self._waiting.push(sequence.rank, sequence)
        self._is_stuck = False

    def _wake(self, follower: BatchSequence) -> None:
        """Lets a sequence that waited for another's prefix try again, unless it ended meanwhile."""
        if self._live.get(follower.request_id) is follower:
            self._queue(follower)

    def _give_blocks(self) -> None:
        """A block to each that decodes and has filled its last one, to the first in rank first."""
        full = [sequence for sequence in self._running if sequence.computed == len(sequence.blocks) * BLOCK_TOKENS]
        for sequence in sorted(full, key=attrgetter("rank")):
            # A sequence that gave way to one before it runs no more.
            while sequence.is_running and not self._grow(sequence, sequence.token_ids[sequence.computed :]):
                last = max(self._running, key=attrgetter("rank"))
                if len(self._running) > 1:
                    self._preempt(last)
                elif not self._tree.unpin():
                    raise AssertionError("a sequence that is alone outgrew the KV memory")

    def _grow(self, sequence: BatchSequence, token_ids: Sequence[int]) -> bool:
        """Gives a sequence a block for `token_ids`; False when there is none."""
        assert sequence.node is not None
        node = self._tree.grow(sequence.node, tuple(token_ids), sequence)
        if node is None:
            return False
        sequence.node = node
        sequence.open.append(node)
        sequence.blocks.append(node.block)
        return True

    def _preempt(self, sequence: BatchSequence) -> None:
        self.preemptions += 1
        self._stop(sequence, None)
        self._queue(sequence)

    def _stop(self, sequence: BatchSequence, keep_until: float | None) -> None:
        """Takes a sequence off the running; its blocks go to the tree."""
        self._running.remove(sequence)
        self._is_in_order = False
        if sequence.uncomputed > 1:
            self._prefilling.remove(sequence)
        assert sequence.node is not None
        self._tree.leave(sequence.node, sequence, keep_until)
        sequence.is_running, sequence.node, sequence.computed = False, None, 0
        sequence.blocks.clear()
        sequence.open.clear()
        for _, _, follower in sequence.followers:
            self._wake(follower)
        sequence.followers.clear()

    def _admit(self) -> None:
        """Lets those that wait run, the first in rank first: nobody passes one that does not fit."""
        while self._waiting and len(self._running) < self._max_sequences and not self._is_stuck:
            _, sequence = self._waiting.first()
            # The last token is always computed: its logits choose the next one.
            found = self._tree.match(sequence.token_ids, len(sequence.token_ids) - 1)
            leader = found.owner
            if leader is not None and found.promised // BLOCK_TOKENS > found.cached // BLOCK_TOKENS:
                self._waiting.pop()
                self._follow(leader, sequence, found.promised)
            elif self._start(sequence, found):
                self._waiting.pop()
            elif self._running or not self._tree.unpin():
                self._is_stuck = True

    def _follow(self, leader: BatchSequence, sequence: BatchSequence, tokens: int) -> None:
        """Lets a sequence wait until another has computed so many tokens, at the urgency of the more urgent one."""
        sequence.ticket = None
        heapq.heappush(leader.followers, (tokens, sequence.rank, sequence))
        if sequence.rank < leader.urgency and leader.uncomputed > 1:
            self._prefilling.remove(leader)
            leader.urgency = sequence.rank
            insort(self._prefilling, leader, key=attrgetter("urgency"))

    def _start(self, sequence: BatchSequence, found: Match[BatchSequence]) -> bool:
        """Gives a sequence the blocks of all its tokens; False when they do not fit."""
        blocks = blocks_for(len(sequence.token_ids))
        reserve = len(self._running) + 1 if self._running else 0
        self._tree.hold(found.node)
        if blocks - len(found.blocks) + reserve > self._tree.available:
            self._tree.let_go(found.node)
            return False
        sequence.node, sequence.blocks, sequence.computed = found.node, list(found.blocks), found.cached
        source = None if found.source is None else found.source.block
        for number in range(len(found.blocks), blocks):
            has_grown = self._grow(sequence, sequence.token_ids[number * BLOCK_TOKENS : (number + 1) * BLOCK_TOKENS])
            assert has_grown
        if source is not None:
            first = sequence.open[0]
            first.computed = found.copied
            # The block may have been evicted for this one, or even be it; copies are made before anything else.
            if source != first.block:
                self._copies.append(BlockCopy(source, first.block, found.copied))
        self._count(sequence)
        sequence.is_running, sequence.ticket, sequence.urgency = True, None, sequence.rank
        self._running.append(sequence)
        self._is_in_order = False
        if sequence.uncomputed > 1:
            insort(self._prefilling, sequence, key=attrgetter("urgency"))
        return True

    def _count(self, sequence: BatchSequence) -> None:
        """Counts what the tree spared a prompt, once: what a preempted one finds again is its own."""
        if not sequence.was_admitted:
            sequence.was_admitted = True
            sequence.cached_tokens = sequence.computed
            self.prefix_queries += sequence.prompt_tokens
            self.prefix_hits += sequence.computed

    def _put_in_order(self) -> None:
        """Makes neighbours of those that share leading blocks: a sort by block numbers walks the tree in depth."""
        self._running.sort(key=attrgetter("blocks"))
        before: list[int] = []
        for sequence in self._running:
            sequence.shared_blocks = shared_prefix(before, sequence.blocks)
            before = sequence.blocks
        self._is_in_order = True

    def _take_tokens(self) -> None:
        """Decides how many tokens each computes."""
        for sequence in self._running:
            sequence.take = 1
        budget = self._prefill_tokens * (IDLE_FACTOR if len(self._prefilling) == len(self._running) else 1)
        for sequence in self._prefilling:
            sequence.take = min(budget, sequence.uncomputed)
            budget -= sequence.take

    def _chunk(self, sequence: BatchSequence, shared_blocks: int) -> Chunk:
        start, end = sequence.computed, sequence.computed + sequence.take
        blocks = blocks_for(end)
        return Chunk(
            token_ids=sequence.token_ids[start:end],
            start=start,
            blocks=sequence.blocks if blocks == len(sequence.blocks) else sequence.blocks[:blocks],
            samples=end == len(sequence.token_ids) and sequence.max_tokens > 0,
            shared_blocks=shared_blocks,
        )

    def _record(self, sequence: BatchSequence, tokens: int) -> None:
        """Notes in the tree that the next `tokens` of a sequence are computed."""
        end = sequence.computed + tokens
        while sequence.computed < end:
            node = sequence.open[0]
            begin = sequence.computed - node.computed
            for token_id in sequence.token_ids[begin + len(node.tokens) : min(end, begin + BLOCK_TOKENS)]:
                self._tree.extend(node, token_id)
            step = min(end - sequence.computed, BLOCK_TOKENS - node.computed)
            node.computed += step
            sequence.computed += step
            if node.computed == BLOCK_TOKENS:
                self._complete(sequence, node)

    def _complete(self, sequence: BatchSequence, node: Node[BatchSequence]) -> None:
        sequence.open.popleft()
        kept = self._tree.complete(node)
        if kept is not node:
            # Both hold the same, bit by bit; one of them is enough.
            sequence.node = kept
            sequence.blocks[-1] = kept.block
            self._is_in_order = False
