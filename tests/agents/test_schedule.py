"""Critical paths, counted by hand: a word is a token, every text that decodes says one word a tick.

The parent says `<Parallel> <Outlines>` and then three entries of four words each (`<Outline> 1 a </Outline>`), closes
the list, and after the join says two words: `so </Answer>`. Threads say 10, 4 and 7 words, their close included.
"""

import pytest

from asterism.agents.accounting import Limits
from asterism.agents.asks import Sampling
from asterism.agents.policies import EAGER, All, FirstVerified, Quorum
from tests.agents.making import OUTLINED, SPAWNED, VERIFIER, declared, run

LIST = "<Parallel> <Outlines> <Outline> 1 a </Outline> <Outline> 2 b </Outline> <Outline> 3 c </Outline> </Outlines>"
LENGTHS = {"a": 10, "b": 4, "c": 7}


def words(count: int, last: str = "x") -> str:
    return " ".join(["x"] * (count - 2) + [last, "</Thread>"])


def write(thread: str, prompt: str, sampling: Sampling) -> str:
    """The parent goes on where its list stands; `b` finds the answer."""
    if thread != "main":
        name = prompt.split()[-2]
        return words(LENGTHS[name], "right" if name == "b" else "x")
    if "</Parallel>" in prompt:
        return "so </Answer>"
    said = prompt.split()[1:]
    return " ".join(LIST.split()[len(said) :])


LIST_TOKENS = 2 + 3 * 4 + 1


def test_barrier_waits_for_the_whole_list_and_the_slowest_thread() -> None:
    reasoned, spent, engine = run(write, declared(eager=False), VERIFIER)
    assert spent.critical_path_tokens == LIST_TOKENS + 10 + 2 == engine.ticks
    assert spent.total_tokens == LIST_TOKENS + 10 + 4 + 7 + 2
    assert spent.acceleration == spent.total_tokens / spent.critical_path_tokens
    assert reasoned.tail == "so"
    assert spent.threads_cancelled == 0


def test_first_verified_thread_cancels_the_others() -> None:
    reasoned, spent, engine = run(write, declared(policy=FirstVerified(), eager=False), VERIFIER)
    assert spent.critical_path_tokens == LIST_TOKENS + 4 + 2 == engine.ticks
    assert spent.total_tokens == LIST_TOKENS + 4 + 4 + 4 + 2
    assert spent.threads_cancelled == 2
    assert reasoned.winner is not None
    assert reasoned.winner.name == "t2"


def test_eager_threads_start_when_their_own_outline_closes() -> None:
    _, spent, engine = run(write, declared(), VERIFIER)
    # The first starts after 6 words, the third after 14: the first ends at 16, the third at 21.
    assert spent.critical_path_tokens == 14 + 7 + 2 == engine.ticks
    assert spent.total_tokens == LIST_TOKENS + 10 + 4 + 7 + 2


def test_eager_and_cancel_end_the_list_in_the_middle() -> None:
    reasoned, spent, engine = run(write, declared(policy=FirstVerified()), VERIFIER)
    # The second starts after 10 words and wins at 14, when the third entry has just been closed.
    assert spent.critical_path_tokens == 10 + 4 + 2 == engine.ticks
    assert reasoned.winner is not None
    assert "<Thread> 2 b : won </Thread> </Parallel>" in reasoned.text
    assert "c" not in engine.prompts("main")[-1].split("</Outlines>")[1]


def test_quorum_goes_on_with_those_that_ended() -> None:
    reasoned, spent, _ = run(write, declared(policy=Quorum(2), eager=False), VERIFIER)
    assert spent.critical_path_tokens == LIST_TOKENS + 7 + 2
    assert [thread.outcome for thread in reasoned.threads] == ["cancelled", "verified", "refuted"]
    _, first, _ = run(write, declared(policy=EAGER, eager=False), VERIFIER)
    assert first.critical_path_tokens == LIST_TOKENS + 4 + 2


@pytest.mark.parametrize(("slots", "barrier"), [(3, 10), (2, 11), (1, 21)])
def test_width_follows_the_slots_that_are_given(slots: int, barrier: int) -> None:
    reasoning = declared(limits=Limits(at_once=slots, fork_from=1), eager=False)
    _, spent, engine = run(write, reasoning, VERIFIER)
    assert engine.ticks == LIST_TOKENS + barrier + 2
    # A wait for a slot is no decoded token: the chain stays that of the slowest thread.
    assert spent.critical_path_tokens == LIST_TOKENS + 10 + 2
    assert max(len(fork.branches) for fork in engine.forks) <= slots


def test_width_follows_the_slots_that_the_worker_shows() -> None:
    _, _, engine = run(write, declared(eager=False), VERIFIER, slots=2)
    assert engine.ticks == LIST_TOKENS + 11 + 2


def test_with_fewer_slots_than_a_fork_needs_the_model_goes_on_in_one_text() -> None:
    def one_text(thread: str, prompt: str, sampling: Sampling) -> str:
        assert thread == "main"
        assert "<Parallel>" in sampling.banned
        return "so </Answer>" if prompt.endswith("<Search>") else LIST

    reasoned, spent, _ = run(one_text, declared(opens_with="<Parallel> <Outlines>"), VERIFIER, slots=1)
    assert (reasoned.text, spent.fallbacks, spent.critical_path_tokens) == ("<Search> so", 1, 2)


TASKS = {"p": 3, "q": 5}


def test_spawned_children_have_contexts_of_their_own_and_their_results_replace_the_block() -> None:
    def spawn(thread: str, prompt: str, sampling: Sampling) -> str:
        if thread == "main":
            if "<Result>" in prompt:
                return "done </Answer>"
            full = ["hm", "<Spawn>", "<Task>", "p", "</Task>", "<Task>", "q", "</Task>", "</Spawn>"]
            return " ".join(full[len(prompt.split()) - 1 :])
        assert prompt in TASKS
        return " ".join(["y"] * (TASKS[prompt] - 2) + [f"<Return> {prompt}!", "</Return>"])

    reasoned, spent, engine = run(spawn, declared(SPAWNED))
    assert reasoned.text == "hm <Result> p! </Result> <Result> q! </Result> done"
    # The second child starts after 8 words and says 6: the list has long been closed then.
    assert spent.critical_path_tokens == 8 + 6 + 2 == engine.ticks
    assert all("<Result>" in sampling.stop for sampling in engine.decoded)


def two_levels(thread: str, prompt: str, sampling: Sampling) -> str:
    """Threads of the first level list two of their own; only `b` below `2` is right."""
    if thread == "main":
        if "</Parallel>" in prompt:
            return "so </Answer>"
        full = [
            "<Parallel>",
            "<Outlines>",
            "<Outline>",
            "1",
            "</Outline>",
            "<Outline>",
            "2",
            "</Outline>",
            "</Outlines>",
        ]
        return " ".join(full[len(prompt.split()) - 1 :])
    if thread.count(".") == 0:
        if "</Thread> </Parallel>" in prompt:
            return "none </Thread>"
        own = prompt.split("<Thread>")[1].split()
        number = own[0]
        inner = [f"{number}a", f"{number}b"]
        full = ["<Parallel>", "<Outlines>", *(f"<Outline> {one} </Outline>" for one in inner), "</Outlines>"]
        return " ".join(" ".join(full).split()[len(own) - 2 :])
    leaf = prompt.split()[-2]
    return words(20 if leaf.endswith("a") else 5, "right" if leaf == "2b" else "x")


def test_a_verified_thread_of_the_second_level_ends_the_search_up_the_tree() -> None:
    limits = Limits(depth=2)
    reasoned, spent, engine = run(two_levels, declared(policy=FirstVerified(), limits=limits), VERIFIER)
    # Outline 2 closes after 8 words; its second outline after 8 more; that thread says 5; then the tail.
    assert spent.critical_path_tokens == 8 + 8 + 5 + 2 == engine.ticks
    assert reasoned.winner is not None
    assert (reasoned.winner.name, reasoned.winner.brief) == ("t2", "below: won")
    assert {thread.name: thread.outcome for thread in reasoned.threads} == {
        "t1": "cancelled",
        "t2": "verified",
        "t1.1": "cancelled",
        "t1.2": "refuted",
        "t2.1": "cancelled",
        "t2.2": "verified",
    }
    assert not engine.live


def test_two_levels_under_the_barrier_join_from_the_leaves_up() -> None:
    limits = Limits(depth=2)
    reasoned, spent, _ = run(two_levels, declared(limits=limits, eager=False), VERIFIER)
    inner_list, leaf, inner_tail = 2 + 2 * 3 + 1, 20, 2
    assert spent.critical_path_tokens == (2 + 2 * 3 + 1) + inner_list + leaf + inner_tail + 2
    assert [thread.name for thread in reasoned.threads] == ["t1", "t2", "t1.1", "t1.2", "t2.1", "t2.2"]
    assert spent.joins == 3


def test_nesting_stops_at_the_depth_that_is_declared() -> None:
    _, spent, engine = run(two_levels, declared(limits=Limits(depth=1)), VERIFIER)
    assert all("." not in thread for _, thread in engine.forked)
    assert spent.forged_marks > 0


def test_what_has_ended_is_computed_while_the_slowest_thread_decodes() -> None:
    lengths = dict(LENGTHS)
    lengths.update(a=4, b=6, c=20)

    def slow(thread: str, prompt: str, sampling: Sampling) -> str:
        if thread == "main.join":
            return ""
        return words(lengths[prompt.split()[-2]]) if thread != "main" else write(thread, prompt, sampling)

    _, plain, _ = run(slow, declared(eager=False))
    _, spent, engine = run(slow, declared(eager=False, incremental=True))
    early = engine.prompts("main.join")
    assert [prompt.count("<Thread>") for prompt in early] == [1, 2]
    assert spent.critical_path_tokens == plain.critical_path_tokens
    assert spent.early_prefill_tokens > 0
    assert spent.join_prefill_tokens < plain.join_prefill_tokens
    assert engine.prompts("main")[-1].startswith(early[-1])


def test_threads_share_the_prefix_of_their_list() -> None:
    _, spent, engine = run(write, declared(OUTLINED, All(), eager=False), VERIFIER)
    forked = [fork for fork in engine.forks if len(fork.branches) == 3]
    assert len(forked) == 1
    assert spent.cached_tokens >= 2 * (1 + LIST_TOKENS)
