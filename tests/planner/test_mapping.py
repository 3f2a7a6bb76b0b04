"""A map runs a star for each item of a list that only a result tells, and gathers them; on the real machine."""

import json
from collections.abc import Mapping
from typing import Final

import pytest

from asterism.agents.asks import ProgramFailed, ProgramResult
from asterism.orchestrator.core.effects import Place
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.events import AttemptSucceeded, RetryRequested
from asterism.orchestrator.core.ids import FencingToken, StarId
from asterism.orchestrator.core.request import ConstellationState, Request
from asterism.orchestrator.core.star import OutputOf, StarState
from asterism.orchestrator.core.values import Artifact, Json
from asterism.planner.check import check
from asterism.planner.mapping import MAX_BATCH_BYTES
from asterism.planner.plan_file import plan_batches
from asterism.planner.programs import PROGRAMS
from tests.planner.fleet import ID, PROFILE, WORKER, Fleet

EACH: Final[dict[str, Json]] = {
    "kind": "tool",
    "program": "noop",
    "inputs": {
        "name": {"$item": True, "$path": ["name"]},
        "number": {"$index": True},
        "with": {"$from": "other"},
        "text": "$1 {{item}}",
    },
}


def _request(**fields: Json) -> Request:
    stars: dict[str, Json] = {
        "source": {"kind": "tool", "program": "noop"},
        "other": {"kind": "tool", "program": "noop"},
        "m": {"kind": "map", "over": {"$from": "source", "$path": ["items"]}, "each": EACH, **fields},
        "end": {"kind": "tool", "program": "noop", "inputs": {"list": {"$from": "m"}}},
    }
    return Request("plan", json.dumps({"stars": stars}))


class _Run:
    """A planned request with a map, whose tools end as the test says."""

    def __init__(self, request: Request) -> None:
        self.fleet = Fleet(request)
        self.run_program("plan")

    def token(self, star: str) -> FencingToken:
        return next(token for token, assign in self.fleet.running.items() if assign.star == star)

    def inputs(self, star: str) -> Mapping[str, Json]:
        return self.fleet.running[self.token(star)].inputs

    def run_program(self, star: str) -> ProgramResult | ProgramFailed:
        token = self.token(star)
        ended = self.fleet.run(token, PROGRAMS[self.fleet.running[token].program].function)
        self.fleet.end(token, ended)
        return ended

    def end(self, star: str, ended: "Json | ProgramFailed") -> None:
        self.fleet.end(self.token(star), ended if isinstance(ended, ProgramFailed) else ProgramResult(ended))

    def state(self, star: str) -> StarState:
        return self.fleet.constellation.stars[StarId(star)].state

    def begin(self, items: Json) -> ProgramResult | ProgramFailed:
        self.end("source", {"items": items})
        self.end("other", "other's")
        return self.run_program("m.each")


FAILED: Final = ProgramFailed("broken", "no", retryable=False)


def test_each_item_gets_a_star_and_the_map_gives_their_results_in_order() -> None:
    run = _Run(_request())
    run.begin([{"name": f"n{i}"} for i in range(12)])

    assert run.inputs("m.3") == {"name": "n2", "number": 2, "with": "other's", "text": "$1 {{item}}"}
    source = run.fleet.constellation.stars[StarId("m.3")].spec.inputs["name"]
    assert source == OutputOf(StarId("source"), ("items", 2, "name"))  # by reference: no item is copied
    assert run.state("m") is StarState.WAITING
    for number in (5, 12, 1, 11, 2, 10, 3, 9, 4, 8, 6, 7):
        run.end(f"m.{number}", f"result {number}")
    run.run_program("m")

    assert run.inputs("end") == {"list": [f"result {number}" for number in range(1, 13)]}


def test_an_empty_list_gives_an_empty_list() -> None:
    run = _Run(_request())
    run.begin([])
    run.run_program("m")

    assert run.inputs("end") == {"list": []}


@pytest.mark.parametrize(
    ("items", "code", "reason"),
    [
        ("text", "not_a_list", "source.items is a text, and a map needs a list"),
        ({"a": 1}, "not_a_list", "source.items is a mapping, and"),
        (None, "not_a_list", "source.items is null, and"),
        ([1] * 6, "too_many_items", "has 6 items, and the map takes at most 5"),
    ],
)
def test_what_cannot_be_mapped_fails_the_map_and_says_why(items: Json, code: str, reason: str) -> None:
    run = _Run(_request(max_items=5))
    ended = run.begin(items)

    assert isinstance(ended, ProgramFailed)
    assert ended.code == code
    assert reason in ended.message
    assert run.state("m") is StarState.CANCELLED
    assert run.fleet.constellation.state is ConstellationState.FAILED
    assert reason in run.fleet.constellation.reason


def test_stars_that_fill_more_than_a_batch_are_refused_whole() -> None:
    each: Json = {"kind": "tool", "program": "noop", "inputs": {"text": "x" * 2000}}
    run = _Run(_request(each=each, max_items=2000))
    ended = run.begin([0] * (MAX_BATCH_BYTES // 2000))

    assert isinstance(ended, ProgramFailed)
    assert ended.code == "map_too_large"
    assert not any(star.startswith("m.1") for star in run.fleet.constellation.stars)


def test_a_failed_item_skips_the_map_unless_failures_are_kept() -> None:
    strict, lenient = _Run(_request()), _Run(_request(on="completion"))
    for run in (strict, lenient):
        run.begin([{"name": "a"}, {"name": "b"}, {}])
        run.end("m.1", "one")
        run.end("m.2", FAILED)

    assert strict.state("m") is StarState.CANCELLED
    lenient.run_program("m")
    # The third has no name, so its input was missing: it never ran.
    assert lenient.inputs("end") == {"list": ["one", None, None]}


def test_what_failed_is_retried_under_the_same_number() -> None:
    run = _Run(_request())
    run.begin([{"name": "a"}, {"name": "b"}])
    run.end("m.2", FAILED)
    run.end("m.1", "one")

    run.fleet.step(lambda at: RetryRequested(at, ID, "me"))
    run.end("m.2~2", "two")
    run.run_program("m~2")

    assert run.inputs("end~2") == {"list": ["one", "two"]}


def test_a_map_that_failed_for_its_list_is_expanded_in_its_retry() -> None:
    run = _Run(_request())
    run.end("other", "other's")
    run.end("source", FAILED)

    run.fleet.step(lambda at: RetryRequested(at, ID, "me"))
    run.end("source~2", {"items": [{"name": "a"}]})
    run.run_program("m.each~2")
    run.end("m.1", "one")
    run.run_program("m~2")

    assert run.inputs("end~2") == {"list": ["one"]}


def test_items_of_an_artifact_are_taken_from_it_by_reference() -> None:
    run = _Run(_request())
    artifact = Artifact("a" * 64, 100_000)
    run.end("other", "other's")
    source = run.token("source")
    del run.fleet.running[source]
    run.fleet.step(lambda at: AttemptSucceeded(at, WORKER, source, artifact))
    each = run.token("m.each")

    assert run.fleet.running[each].places == (Place("list", (), artifact, ("items",)),)
    run.fleet.running[each].inputs["list"] = [{"name": "a"}, {"name": "b"}]  # type: ignore[index]  # as its worker fills it
    run.run_program("m.each")

    assert run.fleet.running[run.token("m.2")].places == (Place("name", (), artifact, ("items", 1, "name")),)


def test_another_program_may_gather() -> None:
    run = _Run(_request(gather={"program": "gather.list", "inputs": {"title": "all"}}))
    run.begin([{"name": "a"}])
    run.end("m.1", "one")

    assert run.inputs("m") == {
        "title": "all",
        "outcomes": {
            "m.each": {"state": "SUCCEEDED", "result": {"items": 1}, "error": None},
            "m.1": {"state": "SUCCEEDED", "result": "one", "error": None},
        },
    }


@pytest.mark.parametrize(
    ("fields", "place", "reason"),
    [
        ({"each": {"kind": "tool", "program": "rm"}}, "stars.m", "star m.1: no worker knows tool:rm"),
        ({"each": {"kind": "plan", "program": "x"}}, "stars.m.each.kind", "Input should be"),
        ({"each": {**EACH, "inputs": {"a": {"$item": 1}}}}, "stars.m.each.inputs.a.$item", "valid boolean"),
        ({"each": {**EACH, "inputs": {"a": {"$item": False}}}}, "stars.m.each.inputs.a", '"$item" is true'),
        ({"each": {**EACH, "inputs": {"a": {"$index": 1}}}}, "stars.m.each.inputs.a", "no other key"),
        ({"each": {**EACH, "inputs": {"a": {"$parents": True}}}}, "stars.m.each.inputs.a", "no parents of its own"),
        ({"each": {**EACH, "inputs": {"a": {"$from": "nobody"}}}}, "stars.m.each.inputs.a", "no star 'nobody'"),
        ({"over": {"$from": "nobody"}}, "stars.m.over", "no star 'nobody'"),
        ({"max_items": 2001}, "stars.m.max_items", "less than or equal to 2000"),
        ({"gather": {"program": "p", "inputs": {"a": {"$from": "x"}}}}, "stars.m.gather.inputs.a", "no star 'x'"),
    ],
)
def test_a_wrong_map_is_refused_at_the_door(fields: Mapping[str, Json], place: str, reason: str) -> None:
    with pytest.raises(InvalidField) as refused:
        check(_request(**fields), known_capabilities=PROFILE.capabilities({}))

    assert refused.value.field == place
    assert reason in refused.value.reason


def test_no_star_may_take_a_name_that_a_map_makes() -> None:
    stars = json.loads(_request().text)["stars"]
    stars["m.7"] = {"kind": "tool", "program": "noop"}

    with pytest.raises(InvalidField, match="the map 'm' makes a star of this id"):
        list(plan_batches(json.dumps({"stars": stars})))
