"""The scheduler against a cache that is a list of tokens per slot: what it reads must have been written there."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from asterism.workers.engine.batch import Batch, BatchSequence, Step, shared_prefix

SLOTS, CONTEXT, PREFILL, END = 3, 24, 6, 9
UNWRITTEN = -1


def next_token(token_ids: list[int]) -> int:
    """A model: the next token depends on all before it; now and then it is the end."""
    return (7 * sum(token_ids) + 3 * len(token_ids)) % (END + 1)


class ModelCache:
    """What a real cache does with a step; reads and writes are checked."""

    def __init__(self, slots: int) -> None:
        self.slots = [[UNWRITTEN] * CONTEXT for _ in range(slots)]

    def compute(self, step: Step) -> list[int]:
        assert step.tokens
        for copy in step.copies:
            assert copy.source != copy.target
            assert UNWRITTEN not in self.slots[copy.source][: copy.tokens]
            self.slots[copy.target][: copy.tokens] = self.slots[copy.source][: copy.tokens]
        chosen = []
        for row, (tokens, start) in enumerate(zip(step.tokens, step.starts, strict=True)):
            assert 1 <= len(tokens) <= PREFILL
            assert start + len(tokens) <= CONTEXT
            slot = self.slots[step.first_slot + row]
            slot[start : start + len(tokens)] = tokens
            slot[start + len(tokens) :] = [UNWRITTEN] * (CONTEXT - start - len(tokens))
            assert slot[:start] == step.sequences[row].token_ids[:start], "computed on another sequence's tokens"
            chosen.append(next_token(slot[: start + len(tokens)]))
        return chosen


prompts = st.lists(st.integers(0, 1), min_size=1, max_size=CONTEXT - 1)


class Scheduling(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.batch = Batch(slots=SLOTS, context_tokens=CONTEXT, prefill_tokens=PREFILL, end_ids=frozenset({END}))
        self.cache = ModelCache(SLOTS + 1)
        self.live: dict[str, BatchSequence] = {}
        self.prompts: dict[str, list[int]] = {}
        self.submitted = 0

    @rule(beginning=prompts, suffixes=st.lists(st.lists(st.integers(0, 2), max_size=3), min_size=1, max_size=5))
    def fork(self, beginning: list[int], suffixes: list[list[int]]) -> None:
        sequences = []
        for suffix in suffixes:
            self.submitted += 1
            prompt = (beginning + suffix)[: CONTEXT - 1]
            sequence = BatchSequence(f"{self.submitted}", list(prompt), max_tokens=1 + self.submitted % 7)
            sequences.append(sequence)
            self.live[sequence.request_id] = sequence
            self.prompts[sequence.request_id] = prompt
        self.batch.submit(sequences)

    @rule(steps=st.integers(1, 12))
    def compute(self, steps: int) -> None:
        for _ in range(steps):
            step = self.batch.next_step()
            assert (step is None) == (not self.live), "something live is never left without a step"
            if step is None:
                return
            for produced in self.batch.advance(step, self.cache.compute(step)):
                assert produced.token_id == next_token(produced.sequence.token_ids[:-1])
                if produced.finish is not None:
                    self.end(produced.sequence.request_id)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.live:
            self.end(data.draw(st.sampled_from(sorted(self.live))))

    def end(self, request_id: str) -> None:
        sequence = self.batch.finish(request_id)
        assert sequence is not None
        assert sequence is self.live.pop(request_id)
        assert self.batch.finish(request_id) is None
        assert sequence.token_ids[: sequence.prompt_tokens] == self.prompts[request_id]
        assert sequence.generated_tokens <= sequence.max_tokens
        assert len(sequence.token_ids) <= CONTEXT

    @invariant()
    def slots_are_conserved(self) -> None:
        running = self.batch.running
        assert len(running) <= SLOTS
        assert sorted(sequence.request_id for sequence in self.batch.live) == sorted(self.live)
        assert len({id(sequence) for sequence in running}) == len(running)

    @invariant()
    def a_slot_holds_what_its_sequence_computed(self) -> None:
        for slot, sequence in enumerate(self.batch.running):
            held = self.batch.holds(slot)
            assert list(held) == sequence.token_ids[: len(held)]
            assert sequence.cached_tokens <= len(held)
            assert sequence.cached_tokens < sequence.prompt_tokens

    def teardown(self) -> None:
        for _ in range(10_000):
            if not self.live:
                break
            self.compute(1)
        assert not self.live
        assert self.batch.next_step() is None


TestScheduling = Scheduling.TestCase
TestScheduling.settings = settings(max_examples=60, stateful_step_count=25)


def run_to_end(batch: Batch, cache: ModelCache) -> int:
    """Computes all that is live; gives the number of tokens computed."""
    computed = 0
    while (step := batch.next_step()) is not None:
        computed += sum(map(len, step.tokens))
        for produced in batch.advance(step, cache.compute(step)):
            if produced.finish is not None:
                batch.finish(produced.sequence.request_id)
    return computed


@given(first=prompts, second=prompts)
def test_a_prompt_takes_over_the_longest_beginning_that_any_slot_holds(first: list[int], second: list[int]) -> None:
    batch = Batch(slots=SLOTS, context_tokens=CONTEXT, prefill_tokens=PREFILL, end_ids=frozenset())
    cache = ModelCache(SLOTS + 1)
    batch.submit([BatchSequence("first", list(first), 2)])
    run_to_end(batch, cache)
    expected = max(shared_prefix(second[:-1], batch.holds(slot)) for slot in range(SLOTS))
    sequence = BatchSequence("second", list(second), 1)
    batch.submit([sequence])
    assert run_to_end(batch, cache) == len(second) - expected
    assert sequence.cached_tokens == expected


@pytest.mark.parametrize("branches", [2, 3, 8])
def test_the_prefix_of_a_fork_is_computed_once(branches: int) -> None:
    batch = Batch(slots=8, context_tokens=CONTEXT, prefill_tokens=PREFILL, end_ids=frozenset())
    prefix = [1] * 15
    batch.submit([BatchSequence(f"{branch}", [*prefix, 2, branch], 1) for branch in range(branches)])
    assert run_to_end(batch, ModelCache(9)) == 16 + branches


@given(first=prompts, second=prompts)
def test_shared_prefix_counts_pairs(first: list[int], second: list[int]) -> None:
    pairs = 0
    while pairs < min(len(first), len(second)) and first[pairs] == second[pairs]:
        pairs += 1
    assert shared_prefix(first, second) == pairs


def test_the_slot_that_was_not_used_for_longest_gives_way() -> None:
    batch = Batch(slots=3, context_tokens=CONTEXT, prefill_tokens=PREFILL, end_ids=frozenset())
    cache = ModelCache(4)
    for number, prompt in enumerate(([1] * 6, [2] * 6, [3] * 6, [1] * 7, [4] * 6)):
        batch.submit([BatchSequence(f"{number}", prompt, 1)])
        run_to_end(batch, cache)
    assert sorted(batch.holds(slot) for slot in range(3)) == [[1] * 7, [3] * 6, [4] * 6]


def test_all_that_decode_share_each_step() -> None:
    batch = Batch(slots=8, context_tokens=CONTEXT, prefill_tokens=PREFILL, end_ids=frozenset())
    cache = ModelCache(9)
    batch.submit([BatchSequence(f"{number}", [number] * (1 + number), 12) for number in range(8)])
    rows = []
    while (step := batch.next_step()) is not None:
        rows.append(len(step.tokens))
        for produced in batch.advance(step, cache.compute(step)):
            if produced.finish is not None:
                batch.finish(produced.sequence.request_id)
    # 36 prompt tokens at most 6 a step, with a decode step between two of them; then nothing but decode steps of all.
    assert len(rows) <= 2 * 36 // PREFILL + 12
    assert rows.count(8) >= 5
