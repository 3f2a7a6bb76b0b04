import pytest

from asterism.agents.asking import Asking
from asterism.agents.asks import (
    CancelBranches,
    Fork,
    Forked,
    Generated,
    Join,
    Program,
    ProgramFailed,
    ProgramResult,
    Sampling,
)
from asterism.agents.threads import (
    Accounting,
    JoinPolicy,
    Judge,
    Judgement,
    ReasoningThread,
    ThreadReport,
    run_threads,
)
from tests.agents.driver import ScriptedWriter, drive

SAMPLING = Sampling(max_tokens=10, seed=5, stop=("stop",))
THREADS = (ReasoningThread("a", " open a"), ReasoningThread("b", " open b"), ReasoningThread("c", " open c"))


def judge_by_words(thread: ReasoningThread, generated: Generated) -> Judgement:
    """`right` verifies; `wrong` is a false claim that is struck out; anything else is refuted."""
    if "right" in generated.text:
        return Judgement("verified")
    if generated.text.endswith("wrong"):
        return Judgement("claimed_false", generated.text.replace("wrong", "struck"))
    return Judgement("truncated" if generated.finish_reason == "length" else "refuted")


def program(accounting: Accounting, policy: JoinPolicy = "first-verified", judge: Judge = judge_by_words) -> Program:
    reports: tuple[ThreadReport, ...] = yield from _asking(accounting, policy, judge)
    return ProgramResult([[report.name, report.outcome, report.tokens] for report in reports])


def _asking(accounting: Accounting, policy: JoinPolicy, judge: Judge) -> Asking[tuple[ThreadReport, ...]]:
    return run_threads("prefix", THREADS, sampling=SAMPLING, policy=policy, judge=judge, accounting=accounting)


def test_first_verified_thread_cancels_the_others() -> None:
    accounting = Accounting()
    writer = ScriptedWriter(lambda prompt, _: "x right stop" if prompt.endswith("b") else "x y z stop")
    result = drive(program(accounting), writer.answer)
    assert result.value == [["a", "refuted", 4], ["b", "verified", 3], ["c", "cancelled", 1]]
    assert accounting.threads_cancelled == 1
    assert accounting.total_tokens == 8
    assert accounting.critical_path_tokens == 3


def test_all_threads_are_awaited_under_the_policy_all() -> None:
    accounting = Accounting()
    writer = ScriptedWriter(lambda prompt, _: "x right stop" if prompt.endswith("a") else "x y z stop")
    result = drive(program(accounting, "all"), writer.answer)
    assert result.value == [["a", "verified", 3], ["b", "refuted", 4], ["c", "refuted", 4]]
    assert accounting.critical_path_tokens == 4
    assert not any(isinstance(ask, CancelBranches) for ask in writer.asks)


def test_thread_goes_on_behind_a_false_claim_within_its_budget() -> None:
    writer = ScriptedWriter(lambda prompt, _: "right stop" if "struck" in prompt else "x wrong stop")
    accounting = Accounting()
    result = drive(program(accounting), writer.answer)
    forks = [ask for ask in writer.asks if isinstance(ask, Fork)]
    assert len(forks) == 2
    assert forks[1].prefix == "prefix"
    assert forks[1].branches[0].suffix == " open a x struck"
    assert forks[1].branches[0].sampling.max_tokens == SAMPLING.max_tokens - 3
    assert accounting.false_claims == 3
    assert result.value == [["a", "verified", 5], ["b", "cancelled", 4], ["c", "cancelled", 4]]


def test_a_thread_that_only_lies_ends() -> None:
    writer = ScriptedWriter(lambda prompt, _: "wrong stop")
    result = drive(program(Accounting()), writer.answer, most_asks=40)
    assert isinstance(result.value, list)
    assert [entry[1] for entry in result.value if isinstance(entry, list)] == ["claimed_false"] * 3


def test_each_thread_samples_with_a_seed_of_its_own() -> None:
    writer = ScriptedWriter(lambda prompt, _: "stop")
    drive(program(Accounting()), writer.answer)
    fork = writer.asks[0]
    assert isinstance(fork, Fork)
    assert [branch.sampling.seed for branch in fork.branches] == [5, 6, 7]


def test_thread_that_the_engine_never_reports_counts_as_truncated() -> None:
    def answer(ask: object) -> Forked | None:
        return Forked(0, 1) if isinstance(ask, Fork) else None

    result = drive(program(Accounting()), answer)
    assert result.value == [["a", "truncated", 0], ["b", "truncated", 0], ["c", "truncated", 0]]


def test_report_of_an_unknown_thread_is_ignored() -> None:
    def answer(ask: object) -> Forked | Generated:
        return Forked(0, 1) if isinstance(ask, Fork) else Generated("nobody", "right", "end", None, 1, 1, 0)

    result = drive(program(Accounting()), answer, most_asks=10)
    assert result.value == [["a", "truncated", 0], ["b", "truncated", 0], ["c", "truncated", 0]]


def test_star_fails_to_be_tried_again_when_every_thread_ends_in_an_error() -> None:
    names = iter("abc")

    def answer(ask: object) -> Forked | Generated:
        return Forked(0, 1) if isinstance(ask, Fork) else Generated(next(names), "", "error", None, 0, 1, 0)

    with pytest.raises(ProgramFailed) as caught:
        drive(program(Accounting()), answer)
    assert caught.value.retryable


def test_thread_that_ended_before_the_cancel_reached_it_still_costs() -> None:
    ends = iter([Generated("a", "right", "stop", "stop", 2, 1, 0), Generated("c", "y", "stop", "stop", 7, 1, 0)])

    def answer(ask: object) -> Forked | Generated | tuple[Generated, ...]:
        match ask:
            case Fork():
                return Forked(0, 1)
            case Join():
                return next(ends)
        return (Generated("b", "", "cancelled", None, 3, 1, 0),)

    accounting = Accounting()
    drive(program(accounting), answer)
    assert accounting.total_tokens == 12


@pytest.mark.parametrize("names", [[], ["a", "a"], [str(number) for number in range(65)]])
def test_fork_out_of_bounds_is_refused(names: list[str]) -> None:
    threads = [ReasoningThread(name, "") for name in names]
    asking = run_threads("p", threads, sampling=SAMPLING, policy="all", judge=judge_by_words, accounting=Accounting())
    with pytest.raises(ProgramFailed):
        next(asking)
