"""Models that list, fork and join for ever: every ask stays one that a worker serves, and an answer comes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asterism.agents.accounting import Accounting, Limits
from asterism.agents.asks import (
    MAX_PROMPT_CHARACTERS,
    MAX_SEGMENTS,
    Ask,
    Branch,
    CancelBranches,
    Clock,
    ClockReading,
    Fork,
    Forked,
    Generated,
    Join,
    Program,
    ProgramResult,
    Reply,
    segments_of,
)
from asterism.agents.reasoning import Reasoned, Reasoning
from asterism.agents.running import reason
from asterism.agents.scheme import Scheme
from asterism.workers.ask_check import check_ask
from tests.agents.driver import drive, finished
from tests.agents.making import OUTLINED, SPAWNED, declared


@dataclass
class Repeating:
    """Each text says the same words again and again, and goes on in the middle where it was stopped."""

    words: Sequence[str]
    others: Sequence[str]
    """What every text but the parent's says."""
    at: dict[str, int] = field(default_factory=dict)
    live: list[tuple[int, Branch]] = field(default_factory=list)
    groups: int = 0
    most_segments: int = 0
    most_characters: int = 0

    def answer(self, ask: Ask) -> Reply:
        match check_ask(ask):
            case Clock():
                return ClockReading(0.0, 16)
            case Fork(prefix, branches):
                for branch in branches:
                    prompt = (*segments_of(prefix), *segments_of(branch.suffix))
                    self.most_segments = max(self.most_segments, len(prompt))
                    self.most_characters = max(self.most_characters, sum(map(len, prompt)))
                    self.live.append((self.groups, branch))
                self.groups += 1
                return Forked(self.groups - 1, 0)
            case Join():
                return self._end(*self.live.pop(0)) if self.live else None
            case CancelBranches(_, _, threads):
                cut = [one for one in self.live if not threads or one[1].thread in threads]
                self.live = [one for one in self.live if one not in cut]
                return tuple(
                    Generated(branch.thread, "", "cancelled", None, 0, 0, 0, group=group) for group, branch in cut
                )
            case _:
                raise AssertionError(f"no answer to {ask}")

    def _end(self, group: int, branch: Branch) -> Generated:
        words = self.words if branch.thread == "main" else self.others
        at = self.at.get(branch.thread, 0)
        most = branch.sampling.max_tokens
        said: list[str] = []
        while len(said) < most and words:
            word = words[(at + len(said)) % len(words)]
            said.append(word)
            if word in branch.sampling.stop:
                break
        self.at[branch.thread] = at + len(said)
        # One word more than is wanted, where nothing stopped it, so that it does not look like an end of its own.
        ended = finished(branch.thread, "", " ".join([*said, "more"]), branch.sampling)
        return Generated(ended.thread, ended.text, ended.finish_reason, ended.stop, ended.tokens, 0, 0, group=group)


def run(engine: Repeating, reasoning: Reasoning) -> tuple[Reasoned, Accounting]:
    spent = Accounting()
    found: list[Reasoned] = []

    def program() -> Program:
        found.append((yield from reason("question", reasoning, accounting=spent)))
        return ProgramResult(None)

    drive(program(), engine.answer, most_asks=100_000)
    return found[0], spent


ROOMY = Limits(threads=64, tokens_parent=60_000, tokens_a_thread=40, tokens=200_000)
ENTRY = ["<Outline>", "a", "</Outline>"]


@pytest.mark.parametrize("repeated", [["</Outline>"], ["x", "</Outline>"], ENTRY], ids=["close", "word", "entry"])
def test_a_list_is_ended_at_its_bound_and_the_answer_comes(repeated: list[str]) -> None:
    engine = Repeating(["<Parallel>", *ENTRY, "<Outline>", "b", "</Outline>", *repeated * 30_000], ["y", "</Thread>"])
    reasoned, spent = run(engine, declared(limits=ROOMY))
    assert [thread.entry for thread in reasoned.threads] == ["a", "b"]
    assert spent.malformed_entries + spent.repeated_entries == 1_024 - 2
    # It is cut off when it comes, and no other is waited for.
    assert spent.dropped_entries == 1
    assert spent.joins == 1
    assert reasoned.text.partition("</Outlines>")[0].count("</Outline>") == 1_024
    assert engine.most_segments <= MAX_SEGMENTS


@pytest.mark.parametrize("eager", [True, False])
def test_entries_behind_the_declared_bound_get_no_thread(eager: bool) -> None:
    words = ["<Parallel>", *(word for name in "abcdef" for word in ("<Outline>", name, "</Outline>")), "</Outlines>"]
    engine = Repeating([*words, "so", "</Answer>"], ["y", "</Thread>"])
    reasoned, spent = run(engine, declared(eager=eager, limits=Limits(entries=4)))
    assert [thread.entry for thread in reasoned.threads] == ["a", "b", "c", "d"]
    assert spent.dropped_entries == (1 if eager else 2)
    assert spent.joins == 1


def test_the_list_that_has_nothing_but_closing_marks_is_taken_back() -> None:
    reasoned, spent = run(Repeating(["<Parallel>", *["</Outline>"] * 60_000], []), declared(limits=ROOMY))
    assert (spent.malformed_entries, spent.dropped_entries, spent.fallbacks) == (1_024, 1, 1)
    assert reasoned.text.startswith("<Search>")


def test_a_parent_that_joins_one_shared_result_for_ever_ends_at_a_bound_of_its_prompt() -> None:
    block = ["<Parallel>", *ENTRY, "</Outlines>"]
    engine = Repeating(block, [*["y" * 5_000] * 39, "</Thread>"])
    reasoned, spent = run(engine, declared(limits=ROOMY))
    assert spent.threads_forked == 1
    assert spent.threads_shared > 10
    # 195 kilobytes each, of which a join shows 12.
    assert spent.threads_truncated == spent.joins
    assert engine.most_characters <= MAX_PROMPT_CHARACTERS
    assert reasoned.text.count("</Thread>") == spent.joins


WORDS = st.sampled_from(
    ["<Outline>", "a", "b", "</Outline>", "</Outline>", "<Parallel>", "</Outlines>", "x", "</Thread>"]
)
SPAWN = {
    "<Outline>": "<Task>",
    "</Outline>": "</Task>",
    "<Parallel>": "<Spawn>",
    "</Outlines>": "</Spawn>",
    "</Thread>": "</Return>",
}


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([OUTLINED, SPAWNED]),
    st.lists(WORDS, min_size=1, max_size=8),
    st.lists(WORDS, max_size=8),
    st.booleans(),
    st.integers(0, 2),
)
@example(OUTLINED, ["x", "</Outline>"], [], True, 1)
@example(OUTLINED, ["<Parallel>", *ENTRY, "</Outlines>"], ["<Parallel>", "</Outline>"], True, 2)
def test_whatever_is_repeated_every_ask_is_served_and_an_answer_comes(
    scheme: Scheme, words: list[str], others: list[str], eager: bool, depth: int
) -> None:
    if scheme is SPAWNED:
        words, others = [SPAWN.get(word, word) for word in words], [SPAWN.get(word, word) for word in others]
    limits = Limits(threads=20, depth=depth, tokens_parent=12_000, tokens_a_thread=6_000, tokens=30_000)
    engine = Repeating([scheme.block_opens, *words], others)
    reasoned, spent = run(engine, declared(scheme, limits=limits, eager=eager))
    assert reasoned.finish_reason in ("stop", "length")
    assert spent.total_tokens <= limits.tokens
    assert engine.live == []
