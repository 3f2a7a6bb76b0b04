"""Stories of the scheduler that a person can follow: what waits for what, who gives way, what is found again."""

import pytest

from asterism.workers.engine.batch_sequence import check_fits
from asterism.workers.engine.blocks import BlockPool
from asterism.workers.engine.errors import InvalidRequest
from tests.engine.model_computer import Run

NEVER_ENDS = -1
"""A salt."""


def make(*, blocks: int = 64, max_sequences: int = 8, context_tokens: int = 500, prefill_tokens: int = 32) -> Run:
    return Run(blocks=blocks, max_sequences=max_sequences, context_tokens=context_tokens, prefill_tokens=prefill_tokens)


def distinct(number: int, length: int) -> list[int]:
    """A prompt that shares nothing with those of other numbers."""
    return [1000 * number + 10 + at for at in range(length)]


def test_64_prompts_that_wait_for_an_idle_engine_have_their_first_token_after_one_step() -> None:
    run = make(blocks=400, max_sequences=64, prefill_tokens=256)
    sequences = run.submit([distinct(number, 16) for number in range(64)], max_tokens=30)
    run.step()
    assert [sequence.generated_tokens for sequence in sequences] == [1] * 64


def test_64_branches_of_a_prefix_have_their_first_token_after_two_steps() -> None:
    run = make(blocks=400, max_sequences=64, prefill_tokens=256)
    sequences = run.submit([[*distinct(1, 100), number] for number in range(64)], max_tokens=30)
    run.salts = dict.fromkeys(run.salts, NEVER_ENDS)
    run.step()
    run.step()
    assert min(sequence.generated_tokens for sequence in sequences) == 1
    assert [sequence.cached_tokens for sequence in sequences] == [0] + [100] * 63
    step = run.scheduler.next_step(0.0)
    assert step is not None
    assert [chunk.shared_blocks for chunk in step.step.chunks] == [0] + [6] * 63


def test_a_branch_that_comes_while_the_prefix_is_computed_waits_for_it() -> None:
    run = make()
    first = run.submit([distinct(1, 300)], max_tokens=2)[0]
    run.step()
    assert 0 < first.computed < 200
    late = run.submit([[*distinct(1, 200), 5]])[0]
    run.run()
    assert late.cached_tokens == 200
    assert run.computer.repeated_blocks == 0


def test_who_waits_for_a_cancelled_one_takes_over() -> None:
    run = make(blocks=20, prefill_tokens=10)
    first = run.submit([distinct(1, 200)])[0]
    others = run.submit([[*distinct(1, 150), 5], [*distinct(1, 100), 6]])
    run.step()
    assert first.computed == 40
    run.end(first.request_id, is_whole=False)
    assert run.scheduler.used_blocks == 0
    run.run()
    assert [sequence.cached_tokens for sequence in others] == [40, 100]
    assert run.computer.repeated_blocks == 0


def test_who_shares_less_than_a_block_does_not_wait() -> None:
    run = make(prefill_tokens=256)
    sequences = run.submit([[1] * 15 + distinct(number, 20) for number in range(4)])
    run.step()
    assert not any(run.live)
    assert [sequence.cached_tokens for sequence in sequences] == [0] * 4


def test_decoding_goes_on_in_every_step_beside_a_long_prompt() -> None:
    run = make(prefill_tokens=16)
    quick = run.submit([distinct(1, 5)], max_tokens=20)[0]
    run.step()
    before = quick.generated_tokens
    run.submit([distinct(2, 160)])
    for steps in range(1, 6):
        scheduled = run.step()
        assert scheduled is not None
        assert sum(len(chunk.token_ids) for chunk in scheduled.step.chunks) == 17
        if quick.request_id not in run.live:
            break
        assert quick.generated_tokens == before + steps


def test_higher_priorities_start_first_and_equal_ones_by_arrival() -> None:
    run = make(max_sequences=1)
    sequences = [
        run.submit([distinct(number, 8)], priority=priority)[0] for number, priority in enumerate((0, 1, 2, 1))
    ]
    order = []
    while run.live:
        run.step()
        order += [at for at, sequence in enumerate(sequences) if sequence.generated_tokens and at not in order]
    assert order == [2, 1, 3, 0]


def test_a_prompt_that_does_not_fit_is_passed_by_nobody() -> None:
    run = make(blocks=8)
    long = run.submit([distinct(1, 70)], max_tokens=20)[0]
    run.step()
    big, small = run.submit([distinct(2, 60), distinct(3, 3)])
    run.step()
    assert (big.is_running, small.is_running) == (False, False)
    run.end(long.request_id, is_whole=False)
    run.step()
    assert big.generated_tokens == 1


def test_an_urgent_branch_hurries_the_prefix_that_it_waits_for() -> None:
    run = make(prefill_tokens=16, blocks=100)
    run.submit([distinct(9, 4)], max_tokens=100)  # decodes, so that the budget is small
    run.step()
    middle = run.submit([distinct(1, 300)], priority=1)[0]
    low = run.submit([distinct(2, 64)], priority=0)[0]
    run.step()
    assert (middle.computed, low.computed) == (16, 0)
    urgent = run.submit([[*distinct(2, 48), 7]], priority=2)[0]
    for _ in range(4):
        run.step()
    assert middle.computed == 16, "it waited for what the urgent one needs"
    assert low.request_id not in run.live
    run.step()
    assert urgent.cached_tokens == 48


def test_the_last_in_rank_gives_way_and_says_the_same_in_the_end() -> None:
    run = make(blocks=6)
    sequences = [
        run.submit([distinct(number, 17)], max_tokens=60, priority=priority)[0]
        for number, priority in enumerate((0, 5, 0))
    ]
    run.salts = dict.fromkeys(run.salts, NEVER_ENDS)
    while sequences[1].request_id in run.live:
        run.step()
        assert sequences[1].is_running or sequences[1].generated_tokens == 60, "the first in rank never gives way"
    assert run.scheduler.preemptions > 0
    run.run()
    assert all(sequence.generated_tokens == 60 for sequence in sequences)


class TestPins:
    def test_a_pinned_prefix_outlives_what_was_used_later(self) -> None:
        run = make(blocks=8)
        run.submit([distinct(1, 40)], keep_s=10.0)
        run.run()
        run.submit([distinct(2, 60)])
        run.run()
        run.submit([distinct(3, 60)])
        run.run()
        again = run.submit([[*distinct(1, 40), 5]])[0]
        run.run()
        assert again.cached_tokens == 40

    def test_without_a_pin_it_does_not(self) -> None:
        run = make(blocks=8)
        run.submit([distinct(1, 40)])
        run.run()
        for number in (2, 3):
            run.submit([distinct(number, 60)])
            run.run()
        again = run.submit([[*distinct(1, 40), 5]])[0]
        run.run()
        assert again.cached_tokens == 0

    def test_its_time_ends(self) -> None:
        run = make(blocks=8)
        run.submit([distinct(1, 40)], keep_s=10.0)
        run.run()
        assert run.scheduler.used_blocks == 3
        run.now = 9.9
        run.scheduler.next_step(run.now)
        assert run.scheduler.used_blocks == 3
        run.now = 10.0
        run.scheduler.next_step(run.now)
        assert run.scheduler.used_blocks == 0

    def test_it_gives_way_to_one_that_could_never_start_otherwise(self) -> None:
        run = make(blocks=8)
        run.submit([distinct(1, 40)], keep_s=1000.0)
        run.run()
        whole = run.submit([distinct(2, 128)])[0]
        run.run()
        assert whole.cached_tokens == 0
        assert not run.live


def test_what_was_not_used_for_longest_is_evicted_first() -> None:
    run = make(blocks=8)
    for number in (1, 2, 1, 3, 4):
        run.submit([distinct(number, 32)], max_tokens=0)
        run.run()
    run.submit([distinct(5, 32)], max_tokens=0)
    run.run()
    found = []
    for number in (1, 3, 4, 5, 2):
        found.append(run.submit([[*distinct(number, 31), 5]], max_tokens=0)[0])
        run.run()
    assert [sequence.cached_tokens for sequence in found] == [31, 31, 31, 31, 0]


def test_two_that_decode_the_same_keep_one_copy_of_it() -> None:
    run = make()
    sequences = run.submit([distinct(1, 20)] * 2, max_tokens=50)
    run.salts = dict.fromkeys(run.salts, NEVER_ENDS)
    for _ in range(32):
        run.step()
    assert sequences[0].blocks[:3] == sequences[1].blocks[:3]
    assert run.scheduler.used_blocks == 5
    run.run()


def test_only_what_can_never_fit_is_refused() -> None:
    check_fits(100, 29, context_tokens=500, blocks=8)
    with pytest.raises(InvalidRequest) as refused:
        check_fits(100, 30, context_tokens=500, blocks=8)
    assert refused.value.field == "max_tokens"
    with pytest.raises(InvalidRequest) as refused:
        check_fits(129, 0, context_tokens=500, blocks=8)
    assert refused.value.field == "prompt"
    check_fits(100, 10_000, context_tokens=128, blocks=8)


def test_a_block_is_never_freed_twice() -> None:
    pool = BlockPool(2)
    block = pool.find_free()
    assert block is not None
    pool.share(block)
    pool.release(block)
    pool.release(block)
    assert pool.free == 2
    with pytest.raises(ValueError, match="is free"):
        pool.release(block)
    with pytest.raises(ValueError, match="is free"):
        pool.share(block)
