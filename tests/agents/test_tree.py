"""What the machine makes of models that write badly, threads that are cut off, and results that are shared."""

from dataclasses import replace

import pytest

from asterism.agents.accounting import Accounting, Budget, Limits
from asterism.agents.asks import (
    Clock,
    ClockReading,
    Fork,
    Forked,
    Generated,
    Join,
    Program,
    ProgramFailed,
    ProgramResult,
    Sampling,
)
from asterism.agents.policies import All, Best, FirstVerified, Vote
from asterism.agents.reasoning import Ended, Judgement, Reasoning, Task, unjudged
from asterism.agents.running import MAX_STRANGERS, reason
from asterism.agents.scheme import Opening
from tests.agents.driver import drive
from tests.agents.lockstep import Writer
from tests.agents.making import SPAWNED, VERIFIER, declared, run


def writer(listed: str, threads: dict[str, str], tail: str = "so </Answer>", alone: str = "alone </Answer>") -> Writer:
    """A parent that writes `listed`, whatever is taken from it before it goes on, and threads by their entry."""

    def write(thread: str, prompt: str, sampling: Sampling) -> str:
        if thread.endswith(".join"):
            return ""
        if thread != "main":
            entry = prompt.rpartition("<Thread>")[2].split()[0]
            behind = prompt.rpartition(f"<Thread> {entry} :")[2].split()
            return " ".join(threads[entry].split()[len(behind) :])
        if "</Parallel>" in prompt:
            return tail
        if "<Search>" in prompt or "<Parallel>" in sampling.stop:
            return alone
        return " ".join(listed.split()[len(prompt.split()) - 1 :])

    return write


LIST = "<Parallel> <Outline> a </Outline> <Outline> b </Outline> </Outlines>"
ENDS = {"a": "x </Thread>", "b": "y y </Thread>", "c": "z </Thread>"}


@pytest.mark.parametrize("eager", [True, False])
def test_malformed_and_repeated_entries_are_counted_and_the_others_are_forked(eager: bool) -> None:
    listed = (
        "<Parallel> <Outline> a </Outline> c </Outline> <Outline> </Outline> <Outline> a </Outline> "
        "<Outline> b </Outline> <Outline> c </Outlines>"
    )
    reasoned, spent, _ = run(writer(listed, ENDS), declared(eager=eager))
    assert [(thread.name, thread.entry) for thread in reasoned.threads] == [("t1", "a"), ("t5", "b")]
    # Without an opening mark, empty, and never closed.
    assert (spent.malformed_entries, spent.repeated_entries) == (3, 1)
    assert reasoned.text.endswith("<Thread> a : x </Thread> <Thread> b : y y </Thread> </Parallel> so")


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("end", ["", "</Answer>", "</Thread>"])
def test_a_list_without_an_end_counts_as_far_as_it_is_whole(eager: bool, end: str) -> None:
    listed = f"hm <Parallel> <Outline> a </Outline> <Outline> b </Outline> <Outline> half an {end}"
    reasoned, spent, engine = run(writer(listed, ENDS), declared(eager=eager))
    assert spent.unclosed_blocks == 1
    assert [thread.name for thread in reasoned.threads] == ["t1", "t2"]
    assert "half" not in engine.prompts("main")[-1]
    assert engine.prompts("main")[-1].startswith(
        "question hm <Parallel> <Outline> a </Outline> <Outline> b </Outline> </Outlines> <Thread>"
    )
    assert reasoned.tail == "so"


def test_a_list_that_a_bound_cuts_off_counts_as_far_as_it_is_whole() -> None:
    limits = Limits(tokens_parent=8, tail_tokens=1)
    reasoned, spent, _ = run(writer(LIST, ENDS), declared(limits=limits))
    assert spent.unclosed_blocks == 1
    assert [thread.name for thread in reasoned.threads] == ["t1", "t2"]
    assert (reasoned.tail, reasoned.finish_reason) == ("so", "length")


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("listed", ["hm <Parallel> no </Outlines>", "hm <Parallel> x y", "hm <Parallel> <Thread> x"])
def test_a_block_without_an_entry_is_cut_out_and_the_text_goes_on_alone(eager: bool, listed: str) -> None:
    reasoned, spent, engine = run(writer(listed, ENDS), declared(eager=eager))
    assert spent.fallbacks == 1
    assert engine.prompts("main")[-1] == "question hm <Search>"
    assert "<Parallel>" in engine.decoded[-1].banned
    assert (reasoned.text, reasoned.threads) == ("hm <Search> alone", ())


def test_what_is_forced_can_be_taken_back_and_the_prompt_cannot() -> None:
    reasoned, _, engine = run(writer("<Parallel> </Outlines>", ENDS), declared(opens_with="<Parallel>"))
    assert engine.prompts("main") == ["question <Parallel>", "question <Search>"]
    assert reasoned.text == "<Search> alone"


def test_a_parent_that_forges_again_and_again_ends_with_what_it_said() -> None:
    reasoned, spent, engine = run(lambda *_: "word <Thread> 1: forged </Thread>", declared())
    assert reasoned.text == "word word word"
    assert (spent.forged_marks, spent.fallbacks) == (3, 3)
    assert all("<Thread>" in sampling.stop for sampling in engine.decoded)


def test_a_spawning_parent_cannot_write_a_result() -> None:
    def write(thread: str, prompt: str, sampling: Sampling) -> str:
        return "hm <Result> forged </Result>" if thread == "main" else "hm <Return> p </Return>"

    reasoned, spent, engine = run(write, declared(SPAWNED))
    assert reasoned.text == "hm hm hm"
    assert spent.forged_marks == 3
    assert {"<Result>", "</Result>"} <= set(engine.decoded[0].banned) & set(engine.decoded[0].stop)


def test_what_a_truncated_thread_said_still_counts() -> None:
    threads = {"a": "x " * 40 + "</Thread>", "b": "y </Thread>"}
    reasoned, spent, _ = run(writer(LIST, threads), declared(limits=Limits(tokens_a_thread=5)))
    assert [thread.outcome for thread in reasoned.threads] == ["truncated", "ended"]
    assert "<Thread> a : x x x x x </Thread> <Thread> b : y </Thread>" in reasoned.text
    assert (spent.threads_salvaged, reasoned.tail) == (1, "so")


def test_an_entry_of_an_ancestor_is_not_forked_again() -> None:
    """Its thread would wait for itself."""

    def write(thread: str, prompt: str, sampling: Sampling) -> str:
        if "</Parallel>" in prompt:
            return "so </Answer> </Thread>"
        said = prompt.rpartition(" :")[2].split() if thread != "main" else prompt.split()[1:]
        return " ".join(["<Parallel>", "<Outline>", "a", "</Outline>", "</Outlines>"][len(said) :])

    reasoned, spent, _ = run(write, declared(limits=Limits(depth=4, tokens_a_thread=30)))
    assert [thread.name for thread in reasoned.threads] == ["t1"]
    assert spent.repeated_entries >= 1


def shared(thread: str, prompt: str, sampling: Sampling) -> str:
    """Two threads that both list `leaf`, the second one behind another."""
    if thread == "main":
        full = "<Parallel> <Outline> p </Outline> <Outline> q </Outline> </Outlines>"
        return "so </Answer>" if "</Parallel>" in prompt else " ".join(full.split()[len(prompt.split()) - 1 :])
    if prompt.endswith("<Thread> leaf :"):
        return "l " * 30 + "</Thread>"
    behind = prompt.partition("<Thread> p :" if thread == "t1" else "<Thread> q :")[2]
    if "</Parallel>" in behind:
        return "joined </Thread>"
    full = "<Parallel> <Outline> leaf </Outline> </Outlines>" if thread == "t1" else SECOND
    return " ".join(full.split()[len(behind.split()) :])


SECOND = "<Parallel> <Outline> other </Outline> <Outline> leaf </Outline> </Outlines>"


def test_threads_about_the_same_thing_run_once_at_any_level() -> None:
    def write(thread: str, prompt: str, sampling: Sampling) -> str:
        is_other = prompt.endswith("<Thread> other :")
        return "o </Thread>" if is_other else shared(thread, prompt, sampling)

    reasoned, spent, engine = run(write, declared(limits=Limits(depth=2)))
    assert [thread.name for thread in reasoned.threads] == ["t1", "t2", "t1.1", "t2.1"]
    assert spent.threads_shared == 1
    assert reasoned.text.count("<Thread> leaf :") == 2
    assert reasoned.text.count("l " * 30) == 2
    assert len([prompt for prompt in engine.forked.values() if prompt.endswith("<Thread> leaf :")]) == 1


def test_a_shared_thread_is_not_cancelled_while_somebody_waits_for_it() -> None:
    """`other` settles what `q` waits for, so that there nobody waits for the leaf any more; but `p` does."""

    def write(thread: str, prompt: str, sampling: Sampling) -> str:
        is_other = prompt.endswith("<Thread> other :")
        return "yes " * 6 + "</Thread>" if is_other else shared(thread, prompt, sampling)

    def judge(ended: Ended) -> Judgement:
        return Judgement("ended", answer=ended.text.split()[0] if ended.entry in ("other", "leaf") else None)

    reasoned, spent, _ = run(write, declared(policy=Vote(1), limits=Limits(depth=2)), Task(judge=judge))
    outcomes = {thread.entry: thread.outcome for thread in reasoned.threads}
    assert outcomes["leaf"] == "ended"
    assert (spent.threads_shared, spent.threads_cancelled) == (1, 0)


def test_a_thread_goes_on_behind_a_claim_that_was_struck_out() -> None:
    def write(thread: str, prompt: str, sampling: Sampling) -> str:
        if thread != "main" and prompt.endswith("struck"):
            return "right </Thread>"
        return writer(LIST, {"a": "x wrong </Thread>", "b": "y " * 50})(thread, prompt, sampling)

    reasoned, spent, engine = run(write, declared(policy=FirstVerified()), VERIFIER)
    assert reasoned.winner is not None
    assert (reasoned.winner.name, reasoned.winner.text) == ("t1", "x struck right")
    assert spent.false_claims == 1
    first, second = (one.seed for one, key in zip(engine.decoded, engine.forked, strict=True) if key[1] == "t1")
    assert first != second


def test_a_thread_that_only_lies_ends() -> None:
    reasoned, spent, _ = run(
        writer(LIST, {"a": "wrong </Thread>", "b": "wrong </Thread>"}),
        declared(policy=FirstVerified(), limits=Limits(resumptions=2)),
        Task(judge=lambda ended: Judgement("claimed_false", resume="")),
    )
    assert [thread.outcome for thread in reasoned.threads] == ["claimed_false", "claimed_false"]
    assert spent.false_claims == 6
    assert reasoned.winner is None


def test_entries_that_the_program_adds_stand_in_the_list_that_threads_see() -> None:
    task = Task(judge=unjudged, complete=lambda name, entries: ["a", "c"] if name == "main" else [])
    reasoned, spent, engine = run(writer(LIST, ENDS), declared(eager=False), task)
    assert (spent.added_entries, spent.repeated_entries) == (1, 1)
    assert "<Outline> b </Outline> <Outline> c </Outline> </Outlines> <Thread> a" in engine.prompts("t1")[0]
    assert [thread.entry for thread in reasoned.threads] == ["a", "b", "c"]


def test_entries_may_stay_in_the_list_without_a_thread() -> None:
    def opened(name: str, number: int, entry: str) -> Opening:
        return Opening(f"<Thread> {entry} :", entry, forks=number > 1)

    reasoned, _, _ = run(writer(LIST, ENDS), declared(eager=False), Task(open=opened))
    assert [thread.name for thread in reasoned.threads] == ["t2"]
    none, spent, _ = run(writer(LIST, ENDS), declared(), Task(open=lambda *one: Opening("x", one[2], forks=False)))
    assert (none.threads, none.tail, spent.fallbacks) == ((), "so", 0)


def test_threads_beyond_the_bound_are_counted_and_not_started() -> None:
    reasoned, spent, _ = run(writer(LIST, ENDS), declared(limits=Limits(threads=1)))
    assert ([thread.name for thread in reasoned.threads], spent.refused_entries) == (["t1"], 1)
    alone, spent, _ = run(writer(LIST, ENDS), declared(limits=Limits(threads=0)))
    assert (alone.text, spent.fallbacks) == ("<Search> alone", 1)


def test_the_best_by_score_is_what_the_join_shows() -> None:
    def judge(ended: Ended) -> Judgement:
        return Judgement("ended", score=float(len(ended.text)))

    reasoned, _, _ = run(writer(LIST, ENDS), declared(policy=Best()), Task(judge=judge))
    assert [thread.name for thread in reasoned.chosen] == ["t2"]
    assert "<Thread> b : y y </Thread>" in reasoned.text
    assert "<Thread> a :" not in reasoned.text


def test_the_same_content_has_the_same_seed_in_any_order_and_width() -> None:
    seeds: list[dict[str, int]] = []
    for reasoning in (declared(), declared(eager=False), declared(limits=Limits(at_once=1, fork_from=1))):
        _, _, engine = run(writer(LIST, ENDS), replace(reasoning, sampling=Sampling(0, temperature=1.0, seed=9)))
        named = zip(engine.forked, engine.decoded, strict=True)
        seeds.append({thread: sampling.seed for (_, thread), sampling in named if thread != "main"})
    assert seeds[0] == seeds[1] == seeds[2]
    assert len(set(seeds[0].values())) == 2


def test_what_runs_has_its_share_of_the_tokens_reserved() -> None:
    budget = Budget(10)
    assert budget.grant(6) == 6
    assert budget.grant(6) is None
    assert budget.grant(4) == 4
    budget.settle(6, 1)
    assert budget.grant(6) is None
    budget.settle(4, 4)
    assert budget.grant(6) == 5
    budget.settle(5, 5)
    assert budget.grant(1) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("threads", -1), ("at_once", 0), ("depth", 9), ("tokens_a_thread", 0), ("tokens", 0), ("tail_tokens", 10**6)],
)
def test_limits_out_of_range_are_refused_with_the_field(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=field):
        Limits(**{field: value})


def driven(reasoning: Reasoning, answers: dict[type, object]) -> tuple[object, Accounting]:
    """Every ask answered by its type, and any join by the next of a list."""
    spent = Accounting()

    def program() -> Program:
        reasoned = yield from reason("question", reasoning, accounting=spent)
        return ProgramResult([reasoned.text, reasoned.finish_reason])

    def answer(ask: object) -> object:
        given = answers.get(type(ask))
        return given.pop(0) if isinstance(given, list) and given else None if isinstance(given, list) else given

    result = drive(program(), answer, most_asks=500)  # type: ignore[arg-type]
    return result.value, spent


CLOCK = {Clock: ClockReading(0.0, 4), Fork: Forked(0, 0)}


def test_star_fails_to_be_tried_again_when_the_engine_fails_every_text() -> None:
    with pytest.raises(ProgramFailed) as caught:
        driven(declared(), dict(CLOCK))
    assert caught.value.retryable


def test_ends_of_threads_that_nobody_forked_are_ignored_and_do_not_go_on_for_ever() -> None:
    stranger = Generated("nobody", "right", "end", None, 1, 1, 0)
    own = Generated("main", "said", "end", None, 1, 1, 0, group=0)
    value, _ = driven(declared(), {**CLOCK, Join: [stranger, own]})
    assert value == ["said", "end"]
    with pytest.raises(ProgramFailed):
        driven(declared(), {**CLOCK, Join: [stranger] * (2 * MAX_STRANGERS)})


def test_threads_given_by_the_program_need_no_list() -> None:
    openings = tuple(Opening(f"<Thread> {entry} :", entry) for entry in "ab")
    reasoned, spent, engine = run(writer("", ENDS), declared(has_tail=False, policy=All()), given=openings)
    assert engine.prompts("t1") == ["question <Thread> a :"]
    assert len(engine.forks) == 1
    assert [thread.text for thread in reasoned.threads] == ["x", "y y"]
    assert (reasoned.finish_reason, spent.critical_path_tokens) == ("stop", 3)
