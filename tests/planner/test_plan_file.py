"""A plan file gives the graph that it says, in an order in which every batch holds, or an error that says where."""

import json
import random
from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from asterism.orchestrator.core.condition import Comparison, Condition
from asterism.orchestrator.core.edits import AddLine, AddStar, added_lines
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.star import Constant, OutputOf, StarSpec
from asterism.orchestrator.core.values import Json
from asterism.planner.document import read_document
from asterism.planner.plan_file import MAX_BATCH_STARS, plan_batches
from tests.strategies import json_values

PLAN = """\
stars:
  fetch: {kind: tool, program: noop, inputs: {text: "${a.out} {{x}} $1"}}
  sum:
    kind: gather
    program: add
    requires: [model:small]
    priority: 5
    retry: {max_attempts: 2}
    timeouts: {start_to_close_s: null}
    inputs:
      of: {$from: fetch, $path: [items, 0]}
      literal: {$value: {$from: nowhere}}
    after:
      - star: check
        when: {path: [result, ok], is: eq, value: true}
      - {star: log, on: completion}
  check: {kind: tool, program: noop, after: [fetch]}
  log: {kind: tool, program: noop}
"""


def _stars(text: str) -> dict[StarId, StarSpec]:
    edits = [edit for batch in plan_batches(text) for edit in batch]
    return {edit.spec.id: edit.spec for edit in edits if isinstance(edit, AddStar)}


def _lines(text: str) -> set[tuple[StarId, StarId, LineKind]]:
    edits = [edit for batch in plan_batches(text) for edit in batch]
    return {(line.parent, line.child, line.kind) for line in added_lines(edits)}


def test_a_plan_gives_the_stars_and_lines_that_it_says() -> None:
    stars = _stars(PLAN)

    assert stars[StarId("fetch")].inputs == {"text": Constant("${a.out} {{x}} $1")}
    assert stars[StarId("sum")].inputs == {
        "of": OutputOf(StarId("fetch"), ("items", 0)),
        "literal": Constant({"$from": "nowhere"}),
    }
    assert stars[StarId("sum")].retry.max_attempts == 2
    assert stars[StarId("sum")].timeouts.start_to_close_s is None
    assert _lines(PLAN) == {
        ("fetch", "check", LineKind.SUCCESS),
        ("fetch", "sum", LineKind.SUCCESS),
        ("check", "sum", LineKind.CONDITION),
        ("log", "sum", LineKind.COMPLETION),
    }
    edits = [edit for batch in plan_batches(PLAN) for edit in batch]
    condition = Condition.of(("result", "ok"), Comparison.EQ, True)
    assert AddLine(TaskStarLine(StarId("check"), StarId("sum"), LineKind.CONDITION, condition)) in edits


def test_json_and_yaml_of_one_plan_give_the_same_edits() -> None:
    as_json = json.dumps(read_document(PLAN).value)

    assert list(plan_batches(as_json)) == list(plan_batches(PLAN))


def test_missing_ids_are_generated_and_given_ones_kept() -> None:
    text = json.dumps({"stars": [_noop(), _noop(id="star-1"), _noop(), _noop(id="x")]})

    assert list(_stars(text)) == ["star-2", "star-1", "star-3", "x"]


def test_a_list_and_a_map_mean_the_same() -> None:
    as_list = {"stars": [_noop(id="a"), _noop(id="b", after=["a"])]}
    as_map = {"stars": {"a": _noop(), "b": _noop(after=["a"])}}

    assert list(plan_batches(json.dumps(as_list))) == list(plan_batches(json.dumps(as_map)))


@given(st.integers(1, 200), st.randoms(use_true_random=False))
def test_parents_come_first_and_each_star_brings_all_its_lines(count: int, chance: random.Random) -> None:
    ids = [f"s{i}" for i in range(count)]
    stars = [_noop(id=name, after=chance.sample(ids[:i], min(i, 2))) for i, name in enumerate(ids)]
    chance.shuffle(stars)
    seen: set[StarId] = set()

    batches = list(plan_batches(json.dumps({"stars": stars})))

    for batch in batches:
        added = [edit.spec.id for edit in batch if isinstance(edit, AddStar)]
        assert 1 <= len(added) <= MAX_BATCH_STARS
        for edit in batch:
            assert all(line.child in added and line.parent in seen for line in added_lines((edit,)))
            if isinstance(edit, AddStar):
                seen.add(edit.spec.id)
    assert len(seen) == count
    assert sum(isinstance(edit, AddStar) for edit in batches[0]) == 1


def test_a_chain_of_ten_thousand_from_its_end() -> None:
    stars = [_noop(id=f"s{i}", after=[f"s{i - 1}"] if i else []) for i in range(10_000)]

    assert len(_stars(json.dumps({"stars": stars[::-1]}))) == 10_000


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("stars:\n  a: [1, 2\n", "line 3, column 1", "unreadable YAML"),
        ("stars: &x {}\nb: *x\n", "line 2, column 4", "aliases are not read"),
        ("stars: !!python/object:os.system x\n", "line 1, column 8", "the tag"),
        ("stars: {}\nstars: {}\n", "line 2, column 1", "given twice"),
        ("? [1]\n: 2\n", "line 1, column 3", "a key must be text"),
        ("--- {stars: {}}\n--- {stars: {}}\n", "line 2, column 1", "a second document"),
        ("[" * 1000, "line 1, column 65", "nests deeper than 64"),
        ("stars: []\n", "line 1, column 8", "at least one star"),
        ("- 1\n", "line 1, column 1", "must be a mapping"),
        ("stars:\n  - {id: a, kind: tool}\n", "line 2, column 5", "stars[0].program: this field is required"),
        ("stars:\n  - {id: a, kind: toll, program: p}\n", "line 2, column 19", "stars[0].kind: Input should be 'tool', "
         "'agent', 'reason', 'plan', 'gather', 'approval' or 'map'"),
        ("stars:\n  - {id: a, kind: tool, program: p, aftr: []}\n", "line 2, column 43", "stars[0].aftr: there is no"),
        ("stars:\n  - {id: a, kind: tool, program: p, after: [b]}\n", "line 2, column 45", "no star 'b'"),
        ("stars:\n  - {id: a, kind: tool, program: p}\n  - {id: b, kind: approval, after: [{star: a, on: stream}]}\n",
         "line 3, column 37", "a person decides about what is whole"),
        ("stars:\n  - {id: a, kind: tool, program: p}\n  - {id: b, kind: tool, program: p, "
         "after: [{star: a, on: stream}], inputs: {x: {$parents: true}}}\n",
         "line 3, column 45", "takes the outcomes of all parents"),
        ("stars:\n  - {id: a, kind: tool, program: p}\n  - {id: a, kind: tool, program: p}\n",
         "line 3, column 10", "the id 'a' is taken by stars[0]"),
        ("stars:\n  plan: {kind: tool, program: p}\n", "line 2, column 9", "the planning star's own"),
        ("stars:\n  a: {kind: tool, program: p, after: [c]}\n  b: {kind: tool, program: p, after: [a]}\n"
         "  c: {kind: tool, program: p, inputs: {x: {$from: b}}}\n", "line 2, column 6", "a -> b -> c -> a"),
        ("stars:\n  a: {kind: tool, program: p, inputs: {x: {$form: b}}}\n", "line 2, column 43", "begins with"),
        ("stars:\n  a: {kind: tool, program: p, after: [a]}\n", "line 2, column 6", "a -> a"),
        ("stars:\n  a: {kind: tool, program: p, priority: 1e999}\n", "line 2, column 41", "too large"),
        ('{"stars": [}', "line 1, column 12", "unreadable JSON"),
        ('{"stars": [], "stars": []}', "document", "given twice"),
        ('{"stars": NaN}', "document", "no JSON number"),
        ('{"stars": ' + "[" * 100_000, "document", "nests deeper"),
        ('{"stars": -' + "1" * 301 + "}", "document", "a whole number has at most 300 digits"),
        ('{"stars": ' + "1" * 5_000 + "}", "document", "a whole number has at most 300 digits"),
        ("stars: " + "1" * 5_000, "line 1, column 8", "a whole number has at most 300 digits"),
        ('{"stars": [{"kind": "tool"}]}', "stars[0].program", "this field is required"),
        ("", "document", "must be a mapping"),
    ],
)  # fmt: skip
def test_a_wrong_plan_is_refused_with_its_place(text: str, place: str, reason: str) -> None:
    with pytest.raises(InvalidField) as refused:
        list(plan_batches(text))

    assert refused.value.field == place
    assert reason in refused.value.reason


@given(st.text(max_size=40) | st.text("[]{}:,-&*!#|>'\"\n \t1a", max_size=60))
def test_any_text_is_a_plan_or_refused(text: str) -> None:
    with suppress(InvalidField):
        assert list(plan_batches(text))


@given(json_values)
def test_yaml_written_by_another_program_reads_as_it_was_meant(value: Json) -> None:
    text = yaml.dump({"value": value}, Dumper=_NoAliases)

    read = read_document("# not JSON\n" + text).value

    assert json.dumps(read, sort_keys=True) == json.dumps({"value": value}, sort_keys=True)


class _NoAliases(yaml.SafeDumper):
    """Writes a part that is there twice twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _noop(**fields: Json) -> dict[str, Json]:
    return {"kind": "tool", "program": "noop", **fields}
