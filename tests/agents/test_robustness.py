"""What models and engines do wrong, case by case, on both programs: an answer comes, and nothing unverified is in it.

Each case asserts that every thread was joined or cancelled and that the accounting counts what went wrong. The machine
alone is asked the same in `test_tree.py` and `test_tree_properties.py`, prompts that grow in `test_bounds.py`, threads
whose stars are lost in `test_leaving.py`, and killed workers in `tests/e2e/test_kill.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from asterism.agents.asks import Ask, Generated, Join, Json, Program, ProgramFailed, Reply
from asterism.agents.countdown import verify
from asterism.agents.reason_countdown import reason_countdown
from asterism.agents.reason_text import reason_text
from tests.agents.board import BOARD, LIE, LIST, LOSER, NUMBERS, WINNER, good_model, rest_of_list
from tests.agents.driver import CONTEXT, Writer, drive
from tests.agents.lockstep import Lockstep

TRUE_CLAIM = "yes 12 * 2 = 24"
IN_FIRST = "8 + 6 = 14 left 3 4 14 -> 24 :"
IN_WINNER = "4 * 3 = 12 left 6 8 12 -> 24 :"


@dataclass
class Faulty(Lockstep):
    """Errors in the texts that `fails` names by thread and prompt; from join number `loses` on it tells no ends."""

    fails: Callable[[str, str], bool] = lambda thread, prompt: False
    keeps: bool = False
    """Whether the text that was decoded before the error is told."""
    loses: int | None = None
    joins: int = 0

    def answer(self, ask: Ask) -> Reply:
        if isinstance(ask, Join):
            self.joins += 1
            if self.loses is not None and self.joins >= self.loses:
                return None
        told = super().answer(ask)
        if isinstance(told, Generated) and self.fails(told.thread, self.forked[told.group, told.thread]):
            failed = told if self.keeps else replace(told, text="", tokens=0)
            return replace(failed, finish_reason="error", stop=None)
        return told


def engine(write: Writer, **faults: Any) -> Faulty:
    return Faulty(lambda thread, prompt, sampling: write(prompt, sampling), **faults)


def run(program: Program, on: Faulty) -> dict[str, Any]:
    value = drive(program, on.answer).value
    assert isinstance(value, dict)
    return value


def on_board(on: Faulty, **inputs: Json) -> dict[str, Any]:
    """`reason.countdown` on the board, and what must hold of its answer whatever happened."""
    asked: Mapping[str, Json] = {"numbers": NUMBERS, "target": 24, "threads": 3, "mode": "parallel", **inputs}
    value = run(reason_countdown(asked, CONTEXT), on)
    verified = [thread for thread in value["threads"] if thread["outcome"] == "verified"]
    assert value["solved"] == (value["expression"] is not None) == bool(verified)
    assert value["expression"] is None or verify(BOARD, value["expression"]).is_correct
    check_nothing_is_left(on)
    return value


def on_text(on: Faulty, **changes: Json) -> dict[str, Any]:
    """`reason.text` with a verifier that wants `right`, the first verified thread ending the search."""
    declared: dict[str, Json] = {
        "marks": {"glue": " ", "opening": "{thread_opens} {outline} :", "closes_block": True},
        "stop": ["</Answer>"],
        "policy": "first_verified",
        "verifier": {"contains": "right"},
        **changes,
    }
    value = run(reason_text({"prompt": "question", "declared": declared}, CONTEXT), on)
    outcomes = {thread["thread"]: thread["outcome"] for thread in value["threads"]}
    assert value["winner"] is None or outcomes[value["winner"]] == "verified"
    assert [outcomes[name] for name in value["chosen"]] in ([], ["verified"])
    check_nothing_is_left(on)
    return value


def check_nothing_is_left(on: Faulty) -> None:
    """Every branch was told to the program as an end or as a cancelled one, unless the engine told nothing any more."""
    assert on.loses is not None or (on.live == [] and set(on.forked) == on.given)


def counted(value: Mapping[str, Any], *names: str) -> list[int]:
    return [value["accounting"][name] for name in names]


def outcomes(value: Mapping[str, Any]) -> list[str]:
    return [thread["outcome"] for thread in value["threads"]]


def board_model(listed: tuple[str, ...] = LIST, **threads: str) -> Writer:
    """Lists `listed`; `first` and `winner` say what the threads of two outlines do, `tail` what the join does."""

    def write(prompt: str, sampling: object) -> str:
        if prompt.endswith("<Answer>"):
            return threads.get("tail", "2 </Answer>")
        if "<Thread>" not in prompt and "<Search>" not in prompt:
            return rest_of_list(prompt, *listed)
        if prompt.endswith(IN_WINNER):
            return threads.get("winner", WINNER)
        return threads.get("first", LOSER) if prompt.endswith(IN_FIRST) else LOSER

    return write


def text_model(listed: str, threads: Mapping[str, str], tail: str = "so </Answer>") -> Writer:
    """Writes `listed` behind the question, `threads` by their entries, and `alone` where it may not fork."""

    def write(prompt: str, sampling: Any) -> str:
        if "</Parallel>" in prompt:
            return tail
        if prompt.endswith(" :"):
            return threads[prompt.split()[-2]]
        if "<Parallel>" in sampling.stop:
            return "alone </Answer>"
        return " ".join(listed.split()[len(prompt.split()) - 1 :])

    return write


TWO = "<Parallel> <Outline> a </Outline> <Outline> b </Outline> </Outlines>"
SAYS = {"a": "x x x </Thread>", "b": "y right </Thread>", "c": "z </Thread>"}


def test_malformed_outlines_are_counted_and_cost_no_thread() -> None:
    value = on_board(engine(board_model(("8 + 6 = 15", "no move", "4 * 3 = 12", "8 - 3 = 5"))), threads=2)
    assert [thread["outline"] for thread in value["threads"]] == ["4 * 3 = 12", "8 - 3 = 5"]
    assert value["solved"]
    assert counted(value, "malformed_entries", "threads_forked") == [2, 2]

    listed = "<Parallel> a </Outline> <Outline> </Outline> <Outline> b </Outline> <Outline> c </Outlines>"
    said = on_text(engine(text_model(listed, SAYS)), eager=False)
    assert (said["winner"], said["tail"]) == ("t3", "so")
    assert counted(said, "malformed_entries", "threads_forked") == [3, 1]


def test_duplicate_outlines_are_counted_and_explored_once() -> None:
    value = on_board(engine(board_model(("4 * 3 = 12", "4 * 3 = 12", "8 - 3 = 5"))), threads=2)
    assert [thread["outline"] for thread in value["threads"]] == ["4 * 3 = 12", "8 - 3 = 5"]
    assert value["solved"]
    assert counted(value, "repeated_entries", "threads_forked") == [1, 2]

    said = on_text(
        engine(text_model(TWO.replace("</Outlines>", "<Outline> a </Outline> </Outlines>"), SAYS)), eager=False
    )
    assert (said["winner"], said["tail"]) == ("t2", "so")
    assert counted(said, "repeated_entries", "threads_forked") == [1, 2]


@pytest.mark.parametrize("eager", [True, False])
def test_where_outlines_are_missing_the_program_writes_them_or_the_model_goes_on_in_one_text(eager: bool) -> None:
    value = on_board(engine(lambda prompt, _: LOSER if "</Outlines>" in prompt else "no no </Outlines>"), eager=eager)
    assert [thread["outline"] for thread in value["threads"]] == ["4 + 3 = 7", "4 - 3 = 1", "4 * 3 = 12"]
    assert counted(value, "added_entries", "fallbacks") == [3, 0]

    said = on_text(engine(text_model("hm <Parallel> no right </Outlines>", SAYS)), eager=eager)
    assert (said["text"].split(), said["winner"]) == (["hm", "alone"], None)
    assert counted(said, "threads_forked", "fallbacks") == [0, 1]


def test_a_truncated_thread_is_salvaged_and_does_not_end_the_answer() -> None:
    # The claim stands before the bound, and the model babbles on; the other thread does nothing else.
    babbling = board_model(winner=WINNER.replace("</Thread>", "1 " * 99), first="1 " * 99)
    value = on_board(engine(babbling), tokens=30, wait="all")
    assert outcomes(value) == ["truncated", "verified", "refuted"]
    assert value["solved"]
    assert counted(value, "threads_salvaged", "joins") == [1, 1]

    endless = {"a": "x " * 99, "b": "y right " + "y " * 99}
    said = on_text(engine(text_model(TWO, endless)), limits={"tokens_a_thread": 9})
    assert outcomes(said) == ["truncated", "verified"]
    assert (said["winner"], said["tail"]) == ("t2", "so")
    assert counted(said, "threads_salvaged") == [2]
    nobody = on_text(engine(text_model(TWO, {**endless, "b": "y " * 99})), limits={"tokens_a_thread": 9})
    assert (nobody["winner"], nobody["tail"], counted(nobody, "threads_salvaged")) == (None, "so", [2])


def test_a_thread_that_a_parent_forges_is_not_read() -> None:
    forged = f"<Thread> 1 : 4 * 3 = 12 left 6 8 12 -> 24 : {TRUE_CLAIM} </Thread> </Parallel> <Answer> 1 </Answer>"

    def write(prompt: str, sampling: Any) -> str:
        is_forging = "<Thread>" not in prompt and prompt.count("<Outline>") == 1
        return forged if is_forging else board_model(winner=LOSER)(prompt, sampling)

    value = on_board(engine(write), wait="all")
    assert not value["solved"]
    assert set(outcomes(value)) == {"refuted"}
    assert counted(value, "forged_marks") == [1]

    listed = "<Parallel> <Outline> a </Outline> <Thread> a : right </Thread> </Parallel> right </Answer>"
    said = on_text(engine(text_model(listed, SAYS)))
    assert (said["winner"], said["tail"], outcomes(said)) == (None, "so", ["refuted"])
    assert "right" not in said["text"]
    assert counted(said, "forged_marks", "unclosed_blocks") == [1, 1]


@pytest.mark.parametrize("mark", ["<Result>", "</Result>"])
def test_a_result_that_a_spawning_parent_forges_is_not_read(mark: str) -> None:
    marks: Json = {"glue": " ", "bannable": ["<Result>"]}
    on = engine(lambda prompt, sampling: f"hm {mark} right </Result> </Answer>")
    said = on_text(on, protocol="spawned", marks=marks)
    assert (said["text"], said["winner"], said["threads"]) == ("hm hm hm", None, [])
    assert counted(said, "forged_marks", "joins") == [3, 0]
    assert all("<Result>" in sampling.banned for sampling in on.decoded)


@pytest.mark.parametrize("tail", ["1 </Answer>", "9 </Answer>", "none", "", f"{TRUE_CLAIM} </Answer>"])
def test_a_winner_that_the_model_forges_at_the_join_does_not_count(tail: str) -> None:
    """A claim that was verified stands, whatever the model says; without one no word of it makes an answer."""
    value = on_board(engine(board_model(tail=tail)))
    assert value["solved"]
    assert counted(value, "false_claims") == [1 if tail[:1].isdigit() else 0]
    assert not on_board(engine(board_model(winner=LOSER, tail=tail)), wait="all")["solved"]

    said = on_text(engine(text_model(TWO, {**SAYS, "b": "y </Thread>"}, tail="right b won </Answer>")))
    assert (said["winner"], said["chosen"], said["tail"]) == (None, [], "right b won")


def test_a_claim_that_a_thread_forges_is_struck_out_and_counted() -> None:
    """That it goes on behind it is in `test_reason_countdown.py`."""
    value = on_board(engine(board_model(first=LIE, winner=LIE)), wait="all")
    assert not value["solved"]
    assert counted(value, "false_claims")[0] >= 2
    assert "verified" not in outcomes(value)


@pytest.mark.parametrize("keeps", [False, True])
def test_an_engine_error_at_the_join_leaves_what_was_verified(keeps: bool) -> None:
    value = on_board(engine(good_model, fails=lambda thread, prompt: "</Parallel>" in prompt, keeps=keeps))
    assert value["solved"]
    assert counted(value, "joins") == [1]

    said = on_text(engine(text_model(TWO, SAYS), fails=lambda thread, prompt: "</Parallel>" in prompt, keeps=keeps))
    assert (said["winner"], said["finish_reason"], said["tail"]) == ("t2", "error", "so" if keeps else "")
    assert "<Thread> b : y right </Thread> </Parallel>" in said["text"]


def test_a_join_that_never_comes_leaves_what_was_verified() -> None:
    """The engine tells no end any more once the tail is asked for, or while the threads decode."""
    last = engine(good_model)
    on_board(last, eager=False)
    value = on_board(engine(good_model, loses=last.joins), eager=False)
    assert value["solved"]
    assert counted(value, "threads_lost") == [1]

    # With the list told and nothing else, there is nothing to answer with: the star is tried again.
    with pytest.raises(ProgramFailed) as failed:
        on_board(engine(good_model, loses=2), eager=False)
    assert failed.value.retryable


@pytest.mark.parametrize("keeps", [False, True])
def test_an_engine_error_in_one_thread_leaves_the_others(keeps: bool) -> None:
    def fails(thread: str, prompt: str) -> bool:
        return thread == "t1"

    value = on_board(engine(board_model(first="with 14 add " * 9), fails=fails, keeps=keeps), tokens=40, wait="all")
    assert outcomes(value) == ["truncated", "verified", "refuted"]
    assert value["solved"]
    assert counted(value, "joins", "threads_forked") == [1, 3]

    said = on_text(engine(text_model(TWO, {**SAYS, "a": "x </Thread>"}), fails=fails, keeps=keeps))
    assert outcomes(said) == ["truncated", "verified"]
    assert said["tail"] == "so"
    assert ("<Thread> a : x" in said["text"]) is keeps
    assert counted(said, "threads_salvaged") == [int(keeps)]


def test_an_engine_that_fails_every_text_fails_the_star_to_be_tried_again() -> None:
    for program in (on_board, on_text):
        with pytest.raises(ProgramFailed) as failed:
            program(engine(good_model, fails=lambda thread, prompt: True))
        assert (failed.value.code, failed.value.retryable) == ("engine_error", True)
