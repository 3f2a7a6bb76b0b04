"""A constellation's drawn forms."""

import io
import json
from collections.abc import Mapping
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from rich.console import Console

from asterism.orchestrator.core.apply import apply
from asterism.orchestrator.core.condition import Comparison, Condition
from asterism.orchestrator.core.edits import AddStar
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.state import State
from asterism.orchestrator.core.values import Json
from asterism.protocol.answers import Picture
from asterism.protocol.graph.figure import Arrow, ArrowKind
from asterism.protocol.graph.form import GraphForm
from asterism.protocol.graph.layout import Place, place
from asterism.protocol.graph.picture import draw_picture, read_history, reasoning_threads
from asterism.protocol.graph.render import render
from tests.cli.stories import ID, constellation, edits, star, story

TREE = """\
boards.txt — SUCCEEDED, revision 3
└── plan SUCCEEDED  plan · w1 · 0.2s
    ├── report SUCCEEDED  gather.boards · w2 · 0.2s  ← b01-a, b01-b
    ├── b01-a SUCCEEDED  reason.countdown · w3 · 1.0s · 2 attempts · 2 threads
    └── b01-b CANCELLED  reason.countdown · w2 · 2.1s
"""


def drawn(form: GraphForm) -> str:
    return render(form, Picture(constellation(), {}), read_history(story()))


def of(value: Json) -> Mapping[str, Json]:
    assert isinstance(value, dict)
    return value


def test_json_tells_revisions_attempts_threads_and_workers() -> None:
    picture = json.loads(drawn(GraphForm.JSON))
    assert [(item["revision"], item["by"], item["after_execution_began"]) for item in picture["revisions"]] == [
        (1, "policy", False),
        (2, "star:plan", False),
        (3, "star:b01-a", True),
    ]
    assert picture["workers"] == ["w1", "w2", "w3"]
    stars = {item["id"]: item for item in picture["stars"]}
    assert [attempt["outcome"] for attempt in stars["b01-a"]["attempts"]] == ["LOST", "SUCCEEDED"]
    assert (stars["b01-a"]["threads"], stars["b01-b"]["state"]) == (2, "CANCELLED")
    assert (stars["b01-a"]["added_by"], stars["b01-a"]["added_in_revision"]) == ("star:plan", 2)
    assert picture["lines"][0] == {"parent": "b01-a", "child": "report", "kind": "completion"}


def test_the_lease_of_a_plan_is_not_yet_execution() -> None:
    history = read_history(story()[:5])
    assert [revision.after_execution_began for revision in history.revisions] == [False, False]


def test_what_a_star_waits_for_is_in_the_picture() -> None:
    picture = draw_picture(constellation(), read_history(story()), {StarId("report"): "a worker with gpu"})
    stars = picture["stars"]
    assert isinstance(stars, list)
    assert [of(item).get("waiting_for") for item in stars] == [None, "a worker with gpu", None, None]


@pytest.mark.parametrize(
    ("result", "threads"),
    [({"threads": [1, 2, 3]}, 3), ({"threads": 4}, 4), ({"threads": True}, None), ({"threads": "9"}, None), ([], None)],
)
def test_threads_are_counted_where_a_result_tells_them(result: Json, threads: int | None) -> None:
    assert reasoning_threads(result) == threads


def test_a_gathering_star_stands_under_the_one_that_added_it_when_it_has_several_parents() -> None:
    assert drawn(GraphForm.TREE) == TREE


def test_mermaid_and_dot_name_every_star_and_line() -> None:
    mermaid, dot = drawn(GraphForm.MERMAID), drawn(GraphForm.DOT)
    assert '  s1["report<br/>gather.boards · w2 · 0.2s"]:::succeeded' in mermaid.splitlines()
    assert "  s2 -.-> s1" in mermaid.splitlines()
    assert "  s0 -. adds .-> s2" in mermaid.splitlines()
    assert '  "b01-a" -> "report" [style=dashed];' in dot.splitlines()
    assert dot.count("[label=") == 4


@pytest.mark.parametrize("form", GraphForm)
@pytest.mark.parametrize("kind", LineKind)
def test_every_form_draws_every_kind_of_line(form: GraphForm, kind: LineKind) -> None:
    condition = Condition.of(("result",), Comparison.EQ, 1) if kind is LineKind.CONDITION else None
    of = constellation()
    of.remove_line(StarId("b01-a"), StarId("report"))
    of.add_line(TaskStarLine(StarId("b01-a"), StarId("report"), kind, condition))
    assert "report" in render(form, Picture(of, {}), read_history(story()))


def test_svg_is_wellformed_and_needs_nothing_from_outside() -> None:
    text = drawn(GraphForm.SVG)
    root = ElementTree.fromstring(text)
    words = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"report", "b01-a", "b01-b", "plan"} <= set(words)
    assert "href" not in text
    assert "url(#tip)" in text
    assert text.count("http") == 1  # the name of the format


def test_words_from_outside_are_escaped() -> None:
    state = State()
    for record in story()[:2]:
        apply(state, record)
    odd = star("x", program='a"<b>&\\')
    apply(state, edits(3, 0.1, 2, "client:ann", AddStar(odd)))
    picture = Picture(state.constellations[ID], {})
    history = read_history(story()[:2])
    ElementTree.fromstring(render(GraphForm.SVG, picture, history))
    assert '\\na\\"<b>&\\\\"' in render(GraphForm.DOT, picture, history)
    assert '"x<br/>a#34;#60;b#62;#38;#92;"' in render(GraphForm.MERMAID, picture, history)


def test_layers_follow_the_longest_path() -> None:
    a, b, c, d = (StarId(name) for name in "abcd")
    places = place((a, b, c, d), [Arrow(x, y, ArrowKind.SUCCESS) for x, y in ((a, b), (b, c), (a, c))])
    assert places == {a: Place(0, 0), d: Place(0, 1), b: Place(1, 0), c: Place(2, 0)}


def test_a_chain_of_thousands_and_even_a_cycle_are_laid_out() -> None:
    names = [StarId(f"s{number}") for number in range(5000)]
    chain = [Arrow(parent, child, ArrowKind.SUCCESS) for parent, child in pairwise(names)]
    assert place(names, chain)[names[-1]].layer == 4999
    cycle = [Arrow(names[one], names[other], ArrowKind.ADDED) for one, other in ((0, 1), (1, 0))]
    assert set(place(names[:2], cycle)) == set(names[:2])


def test_the_tree_prints_without_colour_where_there_is_none() -> None:
    from asterism.protocol.graph.figure import figure_of
    from asterism.protocol.graph.tree import tree

    out = Console(file=io.StringIO(), width=120, no_color=True)
    with out.capture() as capture:
        out.print(tree(figure_of(constellation(), read_history(story()))))
    assert "\x1b" not in capture.get()
