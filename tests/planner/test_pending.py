"""What a person edits: the pending part of a graph as a file, and back as the edits that lead to what the file says."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.edits import AddStar, RemoveStar, UpdateStar
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.star import StarSpec, StarState, TaskStar
from asterism.orchestrator.core.values import Json
from asterism.planner.document import read_document
from asterism.planner.edits_json import line_to_json, star_to_json
from asterism.planner.pending import read_pending, write_notes, write_pending
from asterism.planner.plan_file import plan_batches
from asterism.planner.yaml_text import yaml_lines
from tests.planner.pending_graphs import Pair, edited, empty, pairs, planned
from tests.strategies import json_mappings


def told(constellation: TaskConstellation) -> Json:
    """Stars and lines as text that differs where values do, whatever their order."""
    stars = {star_id: star_to_json(star.spec) for star_id, star in constellation.stars.items()}
    lines = {f"{line.parent} {line.child}": line_to_json(line) for line in constellation.lines()}
    return json.dumps([stars, lines], sort_keys=True)


@given(json_mappings)
def test_yaml_reads_back_as_it_was_written(value: Mapping[str, Json]) -> None:
    text = "\n".join((*yaml_lines({"of": value}), ""))
    assert json.dumps(read_document(text).value) == json.dumps({"of": value})


@given(st.text("ab -:#'\"{}[],\n\t|>&*!%@`?~é\u2028", max_size=40), st.integers(0, 2))
def test_text_with_signs_of_yaml_reads_back(text: str, depth: int) -> None:
    value: Json = text
    for _ in range(depth):
        value = [value, {"k" * 200: value, text[:5]: "x" * 150}]
    assert read_document("\n".join((*yaml_lines({"of": value}), ""))).value == {"of": value}


@settings(max_examples=60)
@given(pairs())
def test_edits_lead_to_the_graph_that_the_file_says(pair: Pair) -> None:
    edits = read_pending(write_pending(pair.target)).edits_of(pair.base)
    assert told(edited(pair.base, edits) if edits else pair.base) == told(pair.target)


@settings(max_examples=60)
@given(pairs())
def test_a_file_left_as_it_is_asks_for_nothing(pair: Pair) -> None:
    file = read_pending(write_pending(pair.base))
    assert (file.constellation, file.seq, file.edits_of(pair.base)) == ("c1", 7, ())


@pytest.fixture
def graph() -> TaskConstellation:
    return planned()


def test_the_file_looks_like_a_plan_that_a_person_wrote(graph: TaskConstellation) -> None:
    assert (
        write_pending(graph)
        == """\
# The pending part of c1 at revision 6.
# Change, add and remove stars and what they stand after; leave everything as it is to change nothing.
# A star under another id is another star. What runs or has ended is not here, and may be a parent.
# Runs or has ended: fetch RUNNING
constellation: c1
seq: 10
stars:
  old:  # WAITING
    kind: tool
    program: noop
    after: [fetch]
  each:  # WAITING
    kind: map
    over: {$from: fetch, $path: [items]}
    each:
      kind: agent
      program: answer
      inputs:
        task: Rate it.
        offer: {$item: true}
        page: {$from: old}
  report:  # WAITING
    kind: agent
    program: answer
    title: The report
    inputs:
      task: |-
        Write it up.
        In two lines.
      rated: {$from: each}
    after: [{star: old, when: "result.ok == true"}]
"""
    )


def test_a_renamed_star_is_removed_and_added(graph: TaskConstellation) -> None:
    edits = read_pending(write_pending(graph).replace("report:", "summary:")).edits_of(graph)
    assert isinstance(edits[0], AddStar)
    assert RemoveStar(StarId("report")) in edits
    assert "summary" in edited(graph, edits).stars


def test_a_title_alone_is_one_edit(graph: TaskConstellation) -> None:
    edits = read_pending(write_pending(graph).replace("The report", "A report")).edits_of(graph)
    assert edits == (UpdateStar(StarId("report"), title="A report"),)


def test_of_a_map_the_task_can_be_changed_and_the_list_taken_from_elsewhere(graph: TaskConstellation) -> None:
    text = write_pending(graph).replace("Rate it.", "Weigh it.").replace("$from: fetch", "$from: old")
    of = edited(graph, read_pending(text).edits_of(graph))
    assert "Weigh it." in str(of.stars[StarId("each.each")].spec.inputs["template"])
    assert set(of.parents[StarId("each.each")]) == {"old"}


def test_without_stars_everything_pending_goes(graph: TaskConstellation) -> None:
    for text in ("stars: {}", "stars:", "stars: []", '{"stars": []}'):
        assert set(edited(graph, read_pending(text).edits_of(graph)).stars) == {"fetch"}


def test_an_ended_graph_takes_new_stars() -> None:
    of = empty()
    of.stars[StarId("a")] = TaskStar(next(iter(_specs("a"))), StarState.SUCCEEDED, 1)
    text = write_pending(of)
    assert text.endswith("stars: {}\n")
    file = read_pending(text.replace("stars: {}", "stars: {b: {kind: tool, program: t, after: [a]}}"))
    assert isinstance(file.edits_of(of)[0], AddStar)


def _specs(*names: str) -> list[StarSpec]:
    text = json.dumps({"stars": {name: {"kind": "tool", "program": "t"} for name in names}})
    return [edit.spec for edits in plan_batches(text) for edit in edits if isinstance(edit, AddStar)]


@pytest.mark.parametrize(
    ("old", "new", "place", "reason"),
    [
        ("stars:\n", "stars:\n  fetch: {kind: tool, program: other}\n", "line 8, column 10", "RUNNING"),
        ("title: The report", "priority: high", "line 25, column 15", "integer"),
        (
            "program: answer\n    title",
            "program: other\n    title",
            "line 24, column 14",
            "no edit changes the program",
        ),
        ("      rated: {$from: each}\n", "", "line 27, column 7", "takes away an input, as 'rated'"),
        ("after: [fetch]", "after: [gone]", "line 11, column 13", "no star 'gone'"),
        ("after: [fetch]", "after: [report]", "line 9, column 5", "wait for each other"),
        ("  report:", "  report~2:", "line", "kept for retries"),
        ("after: [fetch]", "after: [fetch", "line", "unreadable YAML"),
        ("stars:\n", "stars:\n  fetch: {kind: tool, program: noop}\nx: 1\n", "line", ""),
        ("constellation: c1", "constellation: [c1]", "line 5", "string"),
    ],
)
def test_what_cannot_be_is_refused_at_its_place(
    graph: TaskConstellation, old: str, new: str, place: str, reason: str
) -> None:
    text = write_pending(graph)
    assert old in text
    with pytest.raises(InvalidField) as refused:
        read_pending(text.replace(old, new, 1)).edits_of(graph)
    assert refused.value.field.startswith(place), refused.value.message
    assert reason in refused.value.reason


@pytest.mark.parametrize(
    "text", ["", "# nothing", "[]", "stars: 3", "seq: 0\nstars: {}", "seq: true\nstars: {}", "{", "a"]
)
def test_what_is_no_such_file_is_refused(text: str) -> None:
    with pytest.raises(InvalidField):
        read_pending(text)


def test_notes_take_the_place_of_earlier_ones(graph: TaskConstellation) -> None:
    text = write_pending(graph)
    noted = write_notes(write_notes(text, ["line 3: bad\nand more"]), ["other"])
    assert noted == "#! other\n" + text
    file = read_pending(noted)
    assert (file.seq, file.edits_of(graph)) == (10, ())
    assert file.place_of("report").startswith("line 24")
    assert file.place_of("nobody") == ""
