"""The journal of a request leads, by the core's own fold, to what the machine has; and what differs is named."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.edits import AddStar, RebindInputs, RemoveLine, UpdateStar
from asterism.orchestrator.core.errors import DataLoss
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.records import ConstellationRecord
from asterism.orchestrator.core.star import Constant, StarError, StarKind, StarState
from asterism.protocol.replay import differences, edited, replay, until_revision
from asterism.protocol.view.difference import as_json, difference, in_words, summary
from tests.cli.stories import ID, constellation, line, star, story
from tests.planner.pending_graphs import Pair, pairs
from tests.planner.test_pending import told
from tests.store.histories import History, histories


def of_constellation(history: History, wanted: TaskConstellation) -> list[ConstellationRecord]:
    records = [record for batch in history.batches for record in batch]
    return [r for r in records if isinstance(r, ConstellationRecord) and r.constellation == wanted.id]


@settings(max_examples=40)
@given(histories())
def test_the_journal_leads_to_what_the_machine_has(history: History) -> None:
    for known in history.machine.constellations.values():
        records = of_constellation(history, known)
        rebuilt = replay(known.id, records)
        assert (list(differences(rebuilt.constellation, known)), rebuilt.records) == ([], len(records))
        for revision in range(known.revision + 1):
            assert replay(known.id, until_revision(records, revision)).constellation.revision == revision


@settings(max_examples=60)
@given(pairs())
def test_graphs_differ_exactly_where_there_is_a_difference(pair: Pair) -> None:
    found = difference(pair.base, pair.target)
    assert bool(found) == (told(pair.base) != told(pair.target))
    assert bool(in_words(found)) == bool(found)
    assert set(found.added) == pair.target.stars.keys() - pair.base.stars.keys()
    assert set(found.removed) == pair.base.stars.keys() - pair.target.stars.keys()


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ((), "no record"),
        (story()[1:], "record 2, EditsApplied, does not follow"),
        ((story()[0], story()[0]), "record 1, RequestAccepted, does not follow"),
        ((*story()[:2], story()[2], story()[1]), "record 2, EditsApplied, does not follow"),
        ((story()[0], story()[3]), "record 4, EditsApplied, makes revision 2 of 0"),
        ((story()[0], story()[2]), "record 3, AttemptLeased, does not fit the graph"),
        ((replace(story()[0], constellation=ConstellationId("c2")),), "does not follow"),
    ],
)
def test_a_journal_with_a_hole_is_told(records: Sequence[ConstellationRecord], reason: str) -> None:
    with pytest.raises(DataLoss, match=reason):
        replay(ID, records)


def test_each_thing_that_differs_is_named() -> None:
    mine, theirs = replay(ID, story()).constellation, constellation()
    assert list(differences(mine, theirs)) == []
    theirs.reason = "why"
    theirs.stars[StarId("plan")].result = {"stars": 4}
    theirs.stars[StarId("b01-a")].state = StarState.FAILED
    theirs.stars[StarId("b01-b")].error = StarError("lost", "no")
    theirs.stars[StarId("new")] = copy.deepcopy(theirs.stars[StarId("plan")])
    theirs.remove_line(StarId("b01-a"), StarId("report"))
    found = [text.split(" by the journal")[0] for text in differences(mine, theirs)]
    assert found[0] == "reason: "
    assert found[1].startswith("star plan: result: ")
    assert "star b01-a: state: SUCCEEDED" in found
    assert "star new: not in the journal" in found
    assert "line b01-a -> report: not with the orchestrator" in found


def test_a_difference_in_words_and_as_json() -> None:
    before = constellation(4)
    long = Constant("x" * 200 + "one")
    before = edited(before, (RebindInputs(StarId("report"), {"task": long, "n": Constant(1)}),))
    after = edited(
        before,
        (
            AddStar(star("check", StarKind.TOOL, "noop", "looks")),
            line("b01-a", "check"),
            RemoveLine(StarId("b01-b"), StarId("report")),
            UpdateStar(StarId("report"), priority=5),
            RebindInputs(StarId("report"), {"task": Constant("x" * 200 + "two"), "n": Constant(True)}),
        ),
    )
    found = difference(before, after)
    assert summary(found) == "+1 star, 1 changed"
    assert in_words(found) == [
        "+ check: tool noop, after b01-a  looks",
        "~ report",
        f'    inputs.task: …{"x" * 20}one" -> …{"x" * 20}two"',
        "    inputs.n: 1 -> true",
        "    priority: 0 -> 5",
        "    no longer after b01-b (however it ends)",
    ]
    told_to_programs = as_json(found)
    assert told_to_programs["removed"] == []
    assert told_to_programs["changed"] == [
        {
            "star": "report",
            "fields": [
                {"field": "inputs.task", "before": "x" * 200 + "one", "after": "x" * 200 + "two"},
                {"field": "inputs.n", "before": 1, "after": True},
                {"field": "priority", "before": 0, "after": 5},
            ],
            "lines_added": [],
            "lines_removed": [{"parent": "b01-b", "kind": "completion"}],
        }
    ]
