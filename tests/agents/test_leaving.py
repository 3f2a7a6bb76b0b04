"""Threads that become stars, on the real core: each runs by itself, the join writes the answer, losses included."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.agents.asks import Json, Program, ProgramContext, ProgramFailed, ProgramResult, Sampling
from asterism.agents.reason_text import reason_child, reason_join, reason_text
from asterism.agents.trip import Rates, Trip, away_s, here_s, pays
from asterism.orchestrator.core.ids import FencingToken, StarId
from asterism.orchestrator.core.request import ConstellationState, Request
from asterism.orchestrator.core.star import StarState
from asterism.planner.programs import plan
from asterism.workers.runner import encode_result, read_edits
from tests.agents.driver import drive
from tests.agents.lockstep import Lockstep
from tests.planner.fleet import Ended, Fleet

PROGRAMS = {"reason.text": reason_text, "reason.child": reason_child, "reason.join": reason_join}
LIST = "<Parallel> <Outline> 1: a </Outline> <Outline> 2: b </Outline> <Outline> 3: c </Outline> </Outlines>"
SAYS = {"a": "x </Thread>", "b": "y right </Thread>", "c": "z z z </Thread>"}
MARKS: dict[str, Json] = {"glue": " ", "opening": "{thread_opens} {outline} :", "closes_block": True}
DECLARED: dict[str, Json] = {
    "marks": MARKS,
    "stop": ["</Answer>"],
    "sampling": {"temperature": 0.5, "seed": 3},
    "limits": {"at_once": 3, "tokens_a_thread": 400},
}
AWAY: dict[str, Json] = {"workers": 3, "tokens": 400}


def model(thread: str, prompt: str, sampling: Sampling) -> str:
    """Says the same wherever it runs."""
    if "</Parallel>" in prompt:
        return "so </Answer>"
    if prompt.endswith(" :"):
        return SAYS[prompt.split()[-2]]
    if "<Parallel>" in sampling.stop:
        return "alone </Answer>"
    return " ".join(LIST.split()[len(prompt.split()) - 1 :])


def asked(declared: Mapping[str, Json], away: Json = None, then: bool = False) -> Request:
    """A star that asks, and one that waits for the answer if `then`."""
    inputs: dict[str, Json] = {"prompt": "question", "declared": declared, "away": away}
    star = {
        "id": "ask",
        "kind": "reason",
        "program": "reason.text",
        "requires": ["model:countdown"],
        "may_edit": True,
        "inputs": inputs,
    }
    after = {"id": "after", "kind": "tool", "program": "noop", "after": ["ask"]}
    return Request("plan", json.dumps({"stars": [star, after] if then else [star]}))


def run_star(fleet: Fleet, token: FencingToken) -> Ended:
    """The program of a running star to its end, on an engine of its own."""
    assign = fleet.running[token]
    if assign.program == "plan":
        return fleet.run(token, plan)
    if assign.program == "noop":
        return ProgramResult(None)
    context = ProgramContext(assign.constellation, assign.star, assign.attempt, assign.revision, assign.model)
    program: Callable[[Mapping[str, Json], ProgramContext], Program] = PROGRAMS[assign.program]
    try:
        return drive(program(assign.inputs, context), Lockstep(model).answer)
    except ProgramFailed as failed:
        return failed


def play(
    fleet: Fleet, *, lose: frozenset[str] = frozenset(), order: Callable[[list[FencingToken]], FencingToken] = min
) -> None:
    """To the end of the request; stars in `lose` fail for good."""
    while fleet.constellation.state is ConstellationState.RUNNING:
        token = order(sorted(fleet.running))
        star = fleet.running[token].star
        failed = ProgramFailed("engine_error", "it broke", retryable=False)
        fleet.end(token, failed if star in lose else run_star(fleet, token))


def answer_of(fleet: Fleet, star: str) -> Any:
    assert fleet.refusals == []
    result = fleet.constellation.stars[StarId(star)].result
    assert isinstance(result, Mapping)
    return result


def test_threads_run_here_where_the_trip_does_not_pay() -> None:
    aways: list[Json] = [None, {"workers": 1}, {"workers": 3, "tokens": 1, "rates": {"hop_s": 5}}]
    for away in aways:
        fleet = Fleet(asked(DECLARED, away))
        play(fleet)
        assert set(fleet.constellation.stars) == {"plan", "ask"}
        assert answer_of(fleet, "ask")["tail"] == "so"


def test_threads_become_stars_and_the_join_writes_the_same_answer() -> None:
    here = Fleet(asked({**DECLARED, "eager": False}))
    play(here)
    fleet = Fleet(asked(DECLARED, AWAY))
    play(fleet)
    assert set(fleet.constellation.stars) == {"plan", "ask", "ask.t1", "ask.t2", "ask.t3", "ask.join"}
    alone, joined = answer_of(here, "ask"), answer_of(fleet, "ask.join")
    assert joined["text"] == alone["text"]
    assert joined["tail"] == alone["tail"] == "so"
    for part in ("total_tokens", "critical_path_tokens", "threads_forked", "joins"):
        assert joined["accounting"][part] == alone["accounting"][part]
    assert fleet.constellation.state is ConstellationState.SUCCEEDED
    assert list(fleet.constellation.answer()) == ["ask.join"]


def test_a_thread_samples_with_the_seed_that_it_has_at_home() -> None:
    seeds: dict[str, list[int]] = {"home": [], "away": []}

    def watching(place: str) -> Callable[[str, str, Sampling], str]:
        def write(thread: str, prompt: str, sampling: Sampling) -> str:
            if prompt.endswith(" :"):
                seeds[place].append(sampling.seed)
            return model(thread, prompt, sampling)

        return write

    inputs: dict[str, Json] = {"prompt": "question", "declared": {**DECLARED, "eager": False}}
    context = ProgramContext("c", "ask", 1, 0, "m")
    drive(reason_text(inputs, context), Lockstep(watching("home")).answer)
    left = drive(reason_text({**inputs, "away": AWAY}, context), Lockstep(watching("away")).answer)
    assert isinstance(left.value, dict)
    for number in (1, 2, 3):
        child = {"leaving": left.value["leaving"], "declared": DECLARED, "thread": number}
        drive(reason_child(child, context), Lockstep(watching("away")).answer)
    assert seeds["home"] == seeds["away"]
    assert len(set(seeds["home"])) == 3


def test_a_verified_thread_cancels_the_stars_of_the_others() -> None:
    declared = {**DECLARED, "policy": "first_verified", "verifier": {"contains": "right"}}
    fleet = Fleet(asked(declared, AWAY))
    # The second thread's star ends first.
    play(fleet, order=lambda tokens: next((t for t in tokens if fleet.running[t].star == "ask.t2"), tokens[0]))
    states = {star: fleet.constellation.stars[StarId(star)].state for star in ("ask.t1", "ask.t2", "ask.t3")}
    assert states == {
        "ask.t1": StarState.CANCELLED,
        "ask.t2": StarState.SUCCEEDED,
        "ask.t3": StarState.CANCELLED,
    }
    joined = answer_of(fleet, "ask.join")
    assert joined["missing"] == 2
    assert "<Thread> b : y right </Thread> </Parallel>" in joined["text"]
    assert "<Thread> a :" not in joined["text"]


@given(st.sets(st.sampled_from(["ask.t1", "ask.t2", "ask.t3"])), st.randoms(use_true_random=False))
def test_an_answer_comes_whatever_threads_are_lost_and_in_any_order(lost: set[str], chance: Any) -> None:
    fleet = Fleet(asked(DECLARED, AWAY))
    play(fleet, lose=frozenset(lost), order=chance.choice)
    joined = answer_of(fleet, "ask.join")
    assert joined["missing"] == len(lost)
    if len(lost) == 3:
        assert (joined["tail"], joined["accounting"]["fallbacks"]) == ("alone", 1)
    else:
        kept = [SAYS[entry].split()[0] for number, entry in enumerate("abc", 1) if f"ask.t{number}" not in lost]
        assert [part.split()[2] for part in joined["text"].split("<Thread>")[1:]] == kept
        assert joined["tail"] == "so"


def test_whoever_waits_for_the_answer_waits_for_the_join() -> None:
    fleet = Fleet(asked(DECLARED, {**AWAY, "then": ["after"]}, then=True))
    play(fleet)
    assert fleet.refusals == []
    stars = fleet.constellation.stars
    ended = {star: stars[StarId(star)].finished_at for star in ("ask.join", "after")}
    assert ended["after"] is not None
    assert ended["ask.join"] is not None
    assert ended["ask.join"] < ended["after"]


def test_a_vote_shows_what_it_chose() -> None:
    declared = {**DECLARED, "policy": "vote"}
    fleet = Fleet(asked(declared, AWAY))
    play(fleet)
    joined = answer_of(fleet, "ask.join")
    assert joined["chosen"] == ["ask.t1"]
    assert joined["text"].count("<Thread>") == 1


RATES = Rates()
TRIPS = st.builds(
    Trip,
    threads=st.integers(2, 64),
    tokens=st.integers(1, 4_000),
    prompt_tokens=st.integers(1, 4_000),
    slots=st.integers(1, 32),
    workers=st.integers(2, 16),
)


@given(TRIPS)
def test_a_trip_pays_only_where_it_ends_sooner(trip: Trip) -> None:
    assert pays(trip, RATES) == (away_s(trip, RATES) <= 0.8 * here_s(trip, RATES))
    longer = Trip(
        threads=trip.threads,
        tokens=2 * trip.tokens,
        prompt_tokens=trip.prompt_tokens,
        slots=trip.slots,
        workers=trip.workers,
    )
    assert pays(longer, RATES) or not pays(trip, RATES)


@pytest.mark.parametrize(
    ("trip", "expected"),
    [
        (Trip(threads=1, tokens=4_000, prompt_tokens=50, slots=16, workers=9), False),
        (Trip(threads=8, tokens=4_000, prompt_tokens=50, slots=16, workers=1), False),
        # Two threads go side by side on one device almost as fast as one: nothing to gain.
        (Trip(threads=2, tokens=400, prompt_tokens=50, slots=16, workers=2), False),
        (Trip(threads=8, tokens=400, prompt_tokens=50, slots=16, workers=3), True),
        # With one slot, each waits for the one before it.
        (Trip(threads=2, tokens=100, prompt_tokens=50, slots=1, workers=2), True),
        # So short that computing the prompt again takes longer than the threads.
        (Trip(threads=8, tokens=5, prompt_tokens=2_000, slots=16, workers=9), False),
    ],
)
def test_when_a_trip_pays(trip: Trip, expected: bool) -> None:
    assert pays(trip, RATES) is expected


@pytest.mark.parametrize(
    ("threads", "prompt", "leaves"),
    [(60, "question", True), (150, "question", False), (60, "q" * 200_000, False)],
    ids=["few", "so many that name each other", "behind a long prompt"],
)
def test_what_is_too_large_to_travel_stays(threads: int, prompt: str, leaves: bool) -> None:
    outlines = [f"<Outline> e{number} </Outline>" for number in range(threads)]
    written = ["<Parallel>", *" ".join(outlines).split(), "</Outlines>"]

    def write(thread: str, prompt: str, sampling: Sampling) -> str:
        if prompt.endswith(" :"):
            return "x </Thread>"
        return "so </Answer>" if "</Parallel>" in prompt else " ".join(written[len(prompt.split()) - 1 :])

    limits: Json = {"threads": 200, "at_once": 4, "tokens_a_thread": 400, "tokens": 500_000}
    inputs: dict[str, Json] = {
        "prompt": prompt,
        "declared": {**DECLARED, "policy": "first_verified", "limits": limits},
        "away": {"workers": 4, "tokens": 400, "rates": {"prefill_tokens_per_s": 1e8}},
    }
    context = ProgramContext("c", "ask." * 12, 1, 0, "m")
    ended = drive(reason_text(inputs, context), Lockstep(write).answer, most_asks=5_000)

    assert bool(ended.edits) is leaves
    read_edits("result.edits", ended.edits)
    encode_result(ended.value)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompt": 5}, "prompt"),
        ({"declared": []}, "declared"),
        ({"declared": {"protocol": "other"}}, "declared.protocol"),
        ({"declared": {"protocol": ["outlined"]}}, "declared.protocol"),
        ({"declared": {"colour": 1}}, "declared.colour"),
        ({"declared": {"policy": {"vote": 0}}}, "declared"),
        ({"declared": {"policy": "most"}}, "declared.policy"),
        ({"declared": {"policy": {"quorum": True}}}, "declared.policy"),
        ({"declared": {"limits": {"depth": 99}}}, "depth"),
        ({"declared": {"limits": {"depth": "2"}}}, "declared.limits.depth"),
        ({"declared": {"limits": {"deep": 2}}}, "declared.limits.deep"),
        ({"declared": {"sampling": {"max_tokens": 2}}}, "declared.sampling.max_tokens"),
        ({"declared": {"sampling": {"temperature": True}}}, "declared.sampling.temperature"),
        ({"declared": {"sampling": {"temperature": 10**400}}}, "declared.sampling.temperature"),
        ({"declared": {"marks": {"entry_closes": " "}}}, "declared.marks.entry_closes"),
        ({"declared": {"marks": {"opening": "{nothing}"}}}, "declared.marks"),
        ({"declared": {"marks": {"opening": "{outline.__class__}"}}}, "declared.marks"),
        ({"declared": {"marks": {"entry": "{outline:>99999999}"}}}, "declared.marks.entry"),
        ({"declared": {"marks": {"entry": "{"}}}, "declared.marks.entry"),
        ({"declared": {"protocol": "spawned", "marks": {"child_prompt": "{task!r}"}}}, "declared.marks.child_prompt"),
        ({"declared": {"eager": 1}}, "declared.eager"),
        ({"declared": {"stop": ["x"] * 9}}, "stop"),
        ({"declared": {"verifier": {"contains": ""}}}, "declared.verifier.contains"),
        ({"away": {}}, "away.workers"),
        ({"away": {"workers": 2, "rates": {"hop_s": -1}}}, "away.rates.hop_s"),
        ({"away": {"workers": 2, "rates": {"prefill_tokens_per_s": 0}}}, "away.rates.prefill_tokens_per_s"),
        ({"away": {"workers": 2, "to": "x"}}, "away.to"),
    ],
)
def test_wrong_inputs_are_refused_with_their_field(changes: Mapping[str, Json], field: str) -> None:
    inputs: dict[str, Json] = {"prompt": "question", **changes}
    with pytest.raises(ProgramFailed) as refused:
        drive(reason_text(inputs, ProgramContext("c", "s", 1, 0, "m")), Lockstep(model).answer)
    assert refused.value.code == "invalid_input"
    assert field in refused.value.message
    assert not refused.value.retryable


def test_a_list_of_the_requests_own_is_not_written_by_the_model() -> None:
    inputs: dict[str, Json] = {"prompt": "question", "declared": DECLARED, "outlines": ["b", "c"]}
    lockstep = Lockstep(model)
    ended = drive(reason_text(inputs, ProgramContext("c", "s", 1, 0, "m")), lockstep.answer)
    value = ended.value
    assert isinstance(value, dict)
    assert value["text"] == (
        "<Parallel> <Outlines> <Outline> 1: b </Outline> <Outline> 2: c </Outline> </Outlines>"
        " <Thread> b : y right </Thread> <Thread> c : z z z </Thread> </Parallel> so"
    )
    threads: Any = value["threads"]
    assert [thread["entry"] for thread in threads] == ["b", "c"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outlines": ["b", " "]}, r"outlines\[1\]: says nothing"),
        ({"outlines": "b"}, "outlines: must be a list of texts"),
        ({"outlines": ["b"] * 65}, "outlines: are 65; at most "),
        ({"outlines": ["b"], "away": AWAY}, "away: is for a list that the model writes"),
    ],
)
def test_a_list_that_cannot_be_is_refused(change: dict[str, Json], message: str) -> None:
    inputs: dict[str, Json] = {"prompt": "question", "declared": DECLARED, **change}
    with pytest.raises(ProgramFailed, match=message):
        drive(reason_text(inputs, ProgramContext("c", "s", 1, 0, "m")), Lockstep(model).answer)
