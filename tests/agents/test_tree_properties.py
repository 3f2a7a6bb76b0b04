"""Whatever a model writes and an engine answers: both machines end within their bounds, and lose nothing."""

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.agents.accounting import Accounting, Limits
from asterism.agents.asks import Program, ProgramFailed, ProgramResult, prompt_text, segments_of
from asterism.agents.policies import All, Best, FirstVerified, JoinPolicy, Quorum, Vote
from asterism.agents.reasoning import Ended, Judgement, Reasoned, Reasoning, Task
from asterism.agents.running import reason
from asterism.agents.scheme import Opening, Scheme
from tests.agents.driver import drive
from tests.agents.hostile import Hostile
from tests.agents.making import OUTLINED, SPAWNED, by_words, declared

POLICIES: list[JoinPolicy] = [All(), FirstVerified(), Quorum(1), Quorum(3), Vote(), Vote(2), Best()]


def judge(ended: Ended) -> Judgement:
    """As in the other tests, with an answer and a score for the policies that ask for them."""
    words = ended.text.split()
    return replace(by_words(ended), answer=words[-1] if words else None, score=float(len(words)))


def complete(name: str, entries: Sequence[str]) -> Sequence[str]:
    return ["forgotten"] if "b" in entries else []


LIMITS = st.builds(
    Limits,
    threads=st.sampled_from([30, 30, 30, 12, 3, 1, 0]),
    at_once=st.sampled_from([None, 6, 3, 2, 1]),
    fork_from=st.sampled_from([1, 1, 1, 2]),
    depth=st.sampled_from([2, 2, 3, 3, 1, 0]),
    tokens_a_thread=st.sampled_from([80, 30, 8, 1]),
    tokens_parent=st.sampled_from([300, 100, 20]),
    tail_tokens=st.sampled_from([None, 20, 5, 0]),
    tokens=st.sampled_from([4_000, 4_000, 1_500, 400, 40, 1]),
    resumptions=st.integers(0, 3),
)
"""Roomy ones come first and most: a bound that cuts everything off hides what is behind it."""

CHANCES = st.integers(0, 2**32).map(random.Random)
"""Not `st.randoms`: drawn word by word, hardly any text had a whole list in it."""


def reasoning_of(scheme: Scheme, policy: JoinPolicy, limits: Limits, *, has_opening: bool, **others: bool) -> Reasoning:
    return declared(scheme, policy, limits, opens_with=scheme.block_opens if has_opening else "", **others)  # type: ignore[arg-type]


REASONINGS = st.builds(
    reasoning_of,
    st.sampled_from([OUTLINED, SPAWNED]),
    st.sampled_from(POLICIES),
    LIMITS,
    eager=st.booleans(),
    incremental=st.booleans(),
    has_opening=st.booleans(),
    has_tail=st.booleans(),
)


def run(
    reasoning: Reasoning, engine: Hostile, given_threads: tuple[Opening, ...] = ()
) -> tuple[Reasoned | None, Accounting]:
    """The answer, or None when the engine was at fault throughout."""
    spent = Accounting()
    found: list[Reasoned] = []

    def program() -> Program:
        task = Task(judge=judge, complete=complete)
        found.append((yield from reason("question", reasoning, task, spent, given=given_threads)))
        return ProgramResult(None)

    with suppress(ProgramFailed):
        drive(program(), engine.answer, most_asks=20 * reasoning.limits.tokens + 400)
    return (found[0] if found else None), spent


def check_bounds(reasoning: Reasoning, engine: Hostile, spent: Accounting) -> None:
    limits = reasoning.limits
    assert engine.most_live <= (16 if limits.at_once is None else limits.at_once)
    assert spent.threads_forked <= limits.threads
    names = {branch.thread for fork in engine.forks for branch in fork.branches if branch.sampling.max_tokens}
    assert all(name.count(".") < limits.depth for name in names - {"main"})
    for asked, _ in engine.answers:
        most = limits.tokens_parent if asked.branch.thread == "main" else limits.tokens_a_thread
        assert asked.branch.sampling.max_tokens <= most
    assert engine.most_promised <= limits.tokens
    assert len(engine.forks) <= 3 * limits.tokens + limits.threads + 4


@settings(max_examples=600, deadline=None)
@given(REASONINGS, CHANCES)
def test_any_text_ends_within_its_bounds_and_every_thread_is_joined_or_cancelled(
    reasoning: Reasoning, chance: random.Random
) -> None:
    engine = Hostile(chance, reasoning.scheme)
    reasoned, spent = run(reasoning, engine)
    assert reasoned is not None
    check_bounds(reasoning, engine, spent)
    assert engine.live == []
    assert spent.total_tokens == sum(generated.tokens for _, generated in engine.answers) <= reasoning.limits.tokens
    assert spent.critical_path_tokens <= spent.total_tokens
    assert spent.threads_cancelled <= spent.threads_forked
    assert {thread.outcome for thread in reasoned.chosen} <= (
        {"verified"} if reasoning.policy == FirstVerified() else {thread.outcome for thread in reasoned.threads}
    )
    check_nothing_unverified_ends_a_search(reasoned)
    check_no_mark_can_be_forged(reasoning, engine)
    check_the_parent_is_never_lost(reasoning, engine, reasoned)


def check_nothing_unverified_ends_a_search(reasoned: Reasoned) -> None:
    verified = {thread.name for thread in reasoned.threads if thread.outcome == "verified"}
    for thread in reasoned.threads:
        if thread.name in verified:
            below = any(name.startswith(f"{thread.name}.") or name != thread.name for name in verified)
            assert "right" in thread.text.split() or below
    if reasoned.winner is not None:
        assert reasoned.winner.name in verified


def check_no_mark_can_be_forged(reasoning: Reasoning, engine: Hostile) -> None:
    """A stop string on every engine, so that no text has one in it; banned too where the vocabulary has it."""
    scheme = reasoning.scheme
    for asked, generated in engine.answers:
        sampling = asked.branch.sampling
        if sampling.max_tokens:
            assert set(scheme.reserved) <= set(sampling.stop)
            assert {mark for mark in scheme.reserved if mark in scheme.bannable} <= set(sampling.banned)
            assert not any(mark in generated.text for mark in scheme.reserved)


def check_the_parent_is_never_lost(reasoning: Reasoning, engine: Hostile, reasoned: Reasoned) -> None:
    """What the parent said before its first block stands in every later prompt and in the text at the end."""
    # In the order in which they were asked for: a list that was cut may end by itself when the tail has ended already.
    texts = [
        (asked.prompt, generated.text)
        for asked, generated in sorted(engine.answers, key=lambda answer: answer[0].group)
        if asked.branch.thread == "main" and generated.finish_reason != "cancelled"
    ]
    later = [prompt.split() for prompt, _ in texts[1:]] + [["question", *reasoned.text.split()]]
    for (prompt, text), following in zip(texts, later, strict=True):
        kept = f"{prompt} {text}".partition(reasoning.scheme.block_opens)[0].split()
        assert following[: len(kept)] == kept


@settings(max_examples=300, deadline=None)
@given(CHANCES)
def test_a_parent_that_goes_on_is_not_cancelled_with_what_it_wrote_before(chance: random.Random) -> None:
    """A thread that is out of tokens when its turn comes may settle its parent's vote, in mid-list."""
    limits = Limits(threads=30, at_once=6, fork_from=1, depth=2, tokens_a_thread=6, tokens_parent=300, resumptions=1)
    reasoning = reasoning_of(OUTLINED, Vote(1), limits, has_opening=True, eager=True, incremental=False, has_tail=True)
    reasoned, _ = run(reasoning, Hostile(chance, OUTLINED))
    assert reasoned is not None
    assert reasoned.finish_reason != "cancelled"


@settings(max_examples=600, deadline=None)
@given(REASONINGS, CHANCES, st.sampled_from([0.05, 0.3, 1.0]))
def test_an_engine_that_lies_moves_no_bound(reasoning: Reasoning, chance: random.Random, faults: float) -> None:
    engine = Hostile(chance, reasoning.scheme, faults)
    _, spent = run(reasoning, engine)
    limits = reasoning.limits
    assert spent.threads_forked <= limits.threads
    assert engine.most_live <= (16 if limits.at_once is None else limits.at_once) or engine.has_lost
    # When every answer is about a thread that nobody forked, no end of ours is ever told.
    assert engine.live == [] or engine.has_lost or faults == 1.0
    assert spent.threads_lost == 0 or engine.has_lost or faults > 0


@settings(max_examples=200, deadline=None)
@given(REASONINGS, CHANCES, st.integers(1, 6))
def test_threads_that_the_program_gives_are_forked_behind_the_prompt(
    reasoning: Reasoning, chance: random.Random, count: int
) -> None:
    openings = tuple(Opening(f"open {number}", f"{number}") for number in range(count))
    engine = Hostile(chance, reasoning.scheme)
    reasoned, spent = run(replace(reasoning, opens_with=""), engine, openings)
    assert reasoned is not None
    assert engine.live == []
    assert spent.threads_forked <= reasoning.limits.threads
    assert spent.total_tokens <= reasoning.limits.tokens


@settings(max_examples=200, deadline=None)
@given(REASONINGS, CHANCES)
def test_contents_run_once_and_seeds_follow_them(reasoning: Reasoning, chance: random.Random) -> None:
    """Equal contents under different names would be different threads with equal seeds: there are none."""
    engine = Hostile(chance, reasoning.scheme)
    reasoned, _ = run(reasoning, engine)
    assert reasoned is not None
    entries = [thread.entry for thread in reasoned.threads if thread.outcome != "cancelled"]
    contents = [opening.content for entry in entries if (opening := reasoning.scheme.open(1, entry)) is not None]
    assert len(contents) == len(set(contents))


@pytest.mark.parametrize("scheme", [OUTLINED, SPAWNED])
def test_prompts_are_segments_so_that_what_is_shared_has_the_same_tokens(scheme: Scheme) -> None:
    engine = Hostile(random.Random(3), scheme)
    run(declared(scheme, limits=Limits(depth=2, fork_from=1), opens_with=scheme.block_opens), engine)
    for fork in engine.forks:
        assert isinstance(fork.prefix, tuple)
        assert all(segments_of(fork.prefix))
    said = {generated.text for _, generated in engine.answers if generated.text}
    continued = [fork for fork in engine.forks if set(segments_of(fork.prefix)) & said]
    assert continued
    assert all(prompt_text(fork.prefix) for fork in continued)
