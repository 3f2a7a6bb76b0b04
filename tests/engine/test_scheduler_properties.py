"""Random stories of fork, join, cancel, preempt, evict and pins, against a memory that knows what it holds."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from asterism.workers.engine.batch_sequence import BatchSequence
from asterism.workers.engine.step import BLOCK_TOKENS
from tests.engine.model_computer import Run

BLOCKS, SEQUENCES, PREFILL = 9, 4, 5
CONTEXT = BLOCKS * BLOCK_TOKENS
"""So that a request may need the whole memory."""

known = st.sampled_from([[1] * 16, [2] * 16, [1, 2, 3] * 7, [3] * 5, [2, 3], [1, 2] * 20, [4]])
segments = st.one_of(known, st.integers(10, 99).map(lambda token: [token] * 24))
prompts = st.lists(segments, min_size=1, max_size=3).map(lambda parts: [token for part in parts for token in part])
suffixes = st.lists(st.integers(0, 3), max_size=20)


class Scheduling(RuleBasedStateMachine):
    """Without pins, so that what is in use is what the running sequences name, to the block."""

    keeps = st.just(0.0)

    def __init__(self) -> None:
        super().__init__()
        self.run = Run(blocks=BLOCKS, max_sequences=SEQUENCES, context_tokens=CONTEXT, prefill_tokens=PREFILL)
        self.texts: list[list[int]] = [[1] * 16]
        self.named: dict[int, tuple[Sequence[int], list[int]]] = {}
        """By list of blocks, which is kept so that no other has its identity: what it held in the step before."""

    @rule(prompt=prompts, max_tokens=st.integers(0, 40), priority=st.integers(0, 2), data=st.data())
    def add(self, prompt: list[int], max_tokens: int, priority: int, data: st.DataObject) -> None:
        keep_s = data.draw(self.keeps)
        self.texts += [
            sequence.token_ids
            for sequence in self.run.submit([prompt], max_tokens=max_tokens, priority=priority, keep_s=keep_s)
        ]
        self.compute(1)

    @rule(prompt=prompts, branches=st.lists(suffixes, min_size=2, max_size=5))
    def fork(self, prompt: list[int], branches: list[list[int]]) -> None:
        self.run.submit([prompt + suffix for suffix in branches], max_tokens=30)
        self.compute(1)

    @rule(data=st.data(), suffix=suffixes, priority=st.integers(0, 2))
    def join(self, data: st.DataObject, suffix: list[int], priority: int) -> None:
        """Goes on from the prompt and the answer, so far, of an earlier one."""
        text = data.draw(st.sampled_from(self.texts[-8:]))
        self.run.submit([(text + suffix)[: CONTEXT - 10]], max_tokens=5, priority=priority)

    @rule(steps=st.sampled_from([1, 2, 3, 5, 20]))
    def compute(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    @rule(data=st.data(), which=st.sampled_from(["running", "live"]))
    def cancel(self, data: st.DataObject, which: str) -> None:
        names = sorted(sequence.request_id for sequence in self.running()) if which == "running" else []
        if names := names or sorted(self.run.live):
            self.run.end(data.draw(st.sampled_from(names)), is_whole=False)

    @rule(seconds=st.integers(1, 4))
    def wait(self, seconds: int) -> None:
        self.run.now += seconds

    def step(self) -> None:
        live, before = list(self.run.live.values()), self.running()
        preemptions = self.run.scheduler.preemptions
        scheduled = self.run.scheduler.next_step(self.run.now)
        assert (scheduled is None) == (not live), "something live is never left without a step"
        if scheduled is None:
            return
        preempted = [sequence for sequence in before if not sequence.is_running]
        stayed = [sequence for sequence in before if sequence.is_running]
        assert self.run.scheduler.preemptions - preemptions == len(preempted)
        assert all(other.rank < sequence.rank for sequence in preempted for other in stayed)
        started = [sequence for sequence in live if sequence.is_running and sequence not in before]
        # One that waits for another's prefix has no ticket.
        queued = [sequence for sequence in live if not sequence.is_running and sequence.ticket is not None]
        assert all(sequence.rank < other.rank for sequence in started for other in queued), "one that waits was passed"
        for blocks in (chunk.blocks for chunk in scheduled.step.chunks):
            _, earlier = self.named.get(id(blocks), (blocks, []))
            assert list(blocks[: max(0, len(earlier) - 1)]) == earlier[:-1], "a list of blocks changed before its end"
            self.named[id(blocks)] = blocks, list(blocks)
        self.run.carry_out(scheduled)

    def running(self) -> list[BatchSequence]:
        return [sequence for sequence in self.run.live.values() if sequence.is_running]

    def named_blocks(self) -> set[int]:
        return {block for sequence in self.running() for block in sequence.blocks}

    @invariant()
    def blocks_in_use_are_those_of_running_sequences(self) -> None:
        assert self.run.scheduler.used_blocks == len(self.named_blocks())

    @invariant()
    def counts_agree(self) -> None:
        assert self.run.scheduler.running == len(self.running()) <= SEQUENCES
        assert self.run.scheduler.waiting == len(self.run.live) - len(self.running())

    def teardown(self) -> None:
        self.run.run()
        self.run.now += 100
        assert self.run.scheduler.next_step(self.run.now) is None
        assert self.run.scheduler.used_blocks == 0
        # No block was lost: one request can have all of them.
        self.run.submit([[7] * CONTEXT], max_tokens=0)
        self.run.run()


class SchedulingWithPins(Scheduling):
    """Pins take room from the others, and nothing waits for ever."""

    keeps = st.sampled_from([0.0, 1.0, 3.0, 50.0])

    @invariant()
    def blocks_in_use_are_those_of_running_sequences(self) -> None:
        assert self.run.scheduler.used_blocks >= len(self.named_blocks())


TestScheduling = Scheduling.TestCase
TestScheduling.settings = settings(max_examples=80, stateful_step_count=30)
TestSchedulingWithPins = SchedulingWithPins.TestCase
TestSchedulingWithPins.settings = settings(max_examples=60, stateful_step_count=30)


@given(
    prefix=st.integers(0, 70),
    branches=st.integers(2, 8),
    suffix=st.integers(1, 40),
    tokens=st.integers(1, 40),
    separate=st.booleans(),
)
@settings(max_examples=60)
def test_no_block_of_a_fork_and_its_join_is_computed_twice(
    prefix: int, branches: int, suffix: int, tokens: int, separate: bool
) -> None:
    run = Run(blocks=200, max_sequences=8, context_tokens=1000, prefill_tokens=32)
    prompt = [1, 2, 3, 4, 5] * (prefix // 5) + [6] * (prefix % 5)
    bodies = [[100 + branch] * suffix for branch in range(branches)]
    if separate:
        threads = [run.submit([prompt + body], max_tokens=tokens)[0] for body in bodies]
    else:
        threads = run.submit([prompt + body for body in bodies], max_tokens=tokens)
    run.run()
    joined = threads[0].token_ids + [token for thread in threads[1:] for token in thread.token_ids[prefix:]]
    join = run.submit([[*joined, 50]], max_tokens=5)[0]
    run.run()
    assert run.computer.repeated_blocks == 0
    # All of the first thread but its last token, which was chosen and not computed.
    assert join.cached_tokens == len(threads[0].token_ids) - 1
    again = run.submit([[*join.token_ids, 51]], max_tokens=3)[0]
    run.run()
    assert run.computer.repeated_blocks == 0
    assert again.cached_tokens == len(join.token_ids) - 1


@given(length=st.integers(1, 60), shared=st.integers(0, 60))
@settings(max_examples=60)
def test_a_prompt_computes_only_what_no_other_has(length: int, shared: int) -> None:
    run = Run(blocks=20, max_sequences=2, context_tokens=100, prefill_tokens=32)
    first = list(range(20, 20 + length))
    run.submit([first], max_tokens=0)
    run.run()
    second = run.submit([[*first[:shared], 5]], max_tokens=0)[0]
    run.run()
    assert second.cached_tokens == min(shared, length)
    assert run.scheduler.prefix_hits == min(shared, length)
    assert run.scheduler.prefix_queries == length + min(shared, length) + 1
