"""What results carry: each part within its bytes, what was cut named, and 64 threads from elsewhere always joined."""

import json
from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.agents.accounting import Accounting
from asterism.agents.asks import Json, Program, ProgramContext, ProgramFailed, Sampling
from asterism.agents.leaving import MAX_LEAVING_BYTES, read_leaving
from asterism.agents.reason_text import reason_child, reason_join, reason_text
from asterism.agents.trimming import BY_ANSWER, BY_CHILD, MAX_CHILDREN, Carried, cut_text, json_size, trimmed
from asterism.orchestrator.core.ids import FencingToken, StarId
from asterism.orchestrator.core.inputs import MAX_INPUTS_BYTES
from asterism.orchestrator.core.request import ConstellationState, Request
from asterism.orchestrator.core.values import MAX_VALUE_BYTES
from asterism.planner.programs import plan
from asterism.workers.runner import encode_result
from tests.agents.driver import CONTEXT, drive
from tests.agents.lockstep import Lockstep
from tests.planner.fleet import Fleet

CARRIED = Carried(body=60, answer=10, text=40, tail=2, threads=30, chosen=20)
PARTS = st.fixed_dictionaries(
    {
        "text": st.text(max_size=60),
        "tail": st.text(max_size=5),
        "threads": st.lists(st.dictionaries(st.text(max_size=3), st.integers(), max_size=2), max_size=9),
        "chosen": st.lists(st.text(max_size=9), max_size=9),
        "winner": st.text(max_size=200),
    },
    optional={"body": st.text(max_size=99), "answer": st.none() | st.text(max_size=30)},
)


@given(PARTS)
def test_parts_are_beginnings_within_their_bytes_and_what_was_cut_is_named(value: dict[str, Any]) -> None:
    kept: dict[str, Any] = trimmed(value, CARRIED)
    changed = [name for name in value if kept[name] != value[name]]
    assert kept["truncated"] == sorted(changed)
    for name, part in value.items():
        if name == "winner":
            assert kept[name] == part
        elif part is not None:
            assert json_size(kept[name]) <= getattr(CARRIED, name)
            assert part[: len(kept[name])] == kept[name]
            assert name not in changed or json_size(part) > getattr(CARRIED, name)


@given(st.text(), st.integers(2, 50))
def test_a_text_is_cut_no_sooner_than_it_must_be(text: str, most: int) -> None:
    kept = cut_text(text, most)
    assert json_size(kept) <= most
    assert kept == text or json_size(text[: len(kept) + 1]) > most


def test_all_parts_of_a_result_and_all_children_of_a_join_have_room() -> None:
    left = 8 * 1024
    most_of_answer = sum(astuple(BY_ANSWER)[2:]) + MAX_LEAVING_BYTES
    assert most_of_answer + left <= MAX_VALUE_BYTES
    child = sum(astuple(BY_CHILD)) + json_size(Accounting().to_json()) + 512
    # The parent's result is there as an outcome, its `leaving` and the declaration once more as inputs.
    assert MAX_CHILDREN * child + MAX_VALUE_BYTES + MAX_LEAVING_BYTES + 64 * 1024 <= MAX_INPUTS_BYTES


LONG = 'wörd"\\' * 30_000
"""One word, and 240 KiB of JSON."""
PROGRAMS = {"plan": plan, "reason.text": reason_text, "reason.child": reason_child, "reason.join": reason_join}


def chatty(thread: str, prompt: str, sampling: Sampling) -> str:
    """A parent that lists as many threads as may leave, which say one very long word each."""
    if prompt.endswith(" :"):
        return f"{LONG} {LONG} </Thread>"
    if "</Parallel>" in prompt:
        return "so </Answer>"
    written = ["<Parallel>", *(f"<Outline> e{number} </Outline>" for number in range(MAX_CHILDREN)), "</Outlines>"]
    return " ".join(" ".join(written).split()[len(prompt.split()) - 1 :])


def asked(policy: str, away: Json) -> Request:
    declared: Json = {
        "marks": {"glue": " ", "opening": "{thread_opens} {outline} :", "closes_block": True},
        "stop": ["</Answer>"],
        "policy": policy,
        "limits": {"at_once": 4, "tokens_a_thread": 400},
    }
    inputs: Json = {"prompt": "question", "declared": declared, "away": away}
    star = {"id": "ask", "kind": "reason", "program": "reason.text", "may_edit": True, "inputs": inputs}
    return Request("plan", json.dumps({"stars": [star]}))


def end(fleet: Fleet, token: FencingToken) -> None:
    """Run the star's program, and check that a worker could send its result."""
    assign = fleet.running[token]
    context = ProgramContext(assign.constellation, assign.star, assign.attempt, assign.revision, "countdown")

    def run() -> Program:
        return PROGRAMS[assign.program](assign.inputs, context)

    if assign.program == "plan":
        fleet.end(token, fleet.run(token, plan))
        return
    ended = drive(run(), Lockstep(chatty).answer, most_asks=5_000)
    encode_result(ended.value)
    fleet.end(token, ended)


def result_of(fleet: Fleet, star: str) -> Mapping[str, Any]:
    result = fleet.constellation.stars[StarId(star)].result
    assert isinstance(result, Mapping)
    return result


@pytest.mark.parametrize("policy", ["all", "vote", "best"])
@pytest.mark.parametrize("away", [None, {"workers": 4, "tokens": 400}], ids=["here", "away"])
def test_as_many_children_as_may_leave_are_joined_whatever_they_say(policy: str, away: Json) -> None:
    fleet = Fleet(asked(policy, away))
    while fleet.constellation.state is ConstellationState.RUNNING:
        end(fleet, min(fleet.running))
    assert fleet.constellation.state is ConstellationState.SUCCEEDED
    assert len(fleet.constellation.stars) == (2 if away is None else MAX_CHILDREN + 3)
    answer = result_of(fleet, "ask" if away is None else "ask.join")
    # A vote that runs here cancels the last one, which can change nothing.
    shown = 1 if policy == "best" else MAX_CHILDREN - (policy == "vote" and away is None)
    assert answer["tail"] == "so"
    assert answer["accounting"]["threads_truncated"] == shown
    assert "text" in answer["truncated"] or policy == "best"
    if away is not None:
        assert answer["missing"] == 0
        assert result_of(fleet, "ask.t64")["truncated"] == ["answer", "body", "tail", "text"]


def test_more_children_than_may_leave_are_refused_where_they_are_read() -> None:
    thread: Json = {"opening": "o", "content": "c", "entry": "e"}
    leaving: dict[str, Json] = {"context": [], "said": [], "block": [0, 0], "threads": [thread] * MAX_CHILDREN}
    assert len(read_leaving(leaving).openings) == MAX_CHILDREN
    ended = reason_child({"leaving": {**leaving, "threads": [thread] * (MAX_CHILDREN + 1)}}, CONTEXT)
    with pytest.raises(ProgramFailed, match=r"leaving.threads: are 65; at most 64"):
        drive(ended, Lockstep(chatty).answer)
