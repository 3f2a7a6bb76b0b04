"""A plan that arrives in pieces gives the same stars for every cut, and a bad line harms no other."""

import json
from typing import Final

import pytest
from hypothesis import given

from asterism.orchestrator.core.edits import AddStar, added_lines
from asterism.orchestrator.core.line import LineKind
from asterism.orchestrator.core.star import Constant, OutputOf, ParentOutcomes, StarKind, StarSpec
from asterism.planner.document import read_document
from asterism.planner.plan_file import plan_batches
from asterism.planner.push_parser import MAX_CHARACTERS, MAX_STARS, BadStar, Found, GoodStar, PushParser
from tests.strategies import json_values

PLAN: Final = """\
Here is the plan, as asked:
```python
fetch = tool.http.get(url="https://example.org/a", note="$1 {{x}} ${a.out}", raw={"$from": "nobody"})
# a comment
1. rates = map.agent.answer(prompt='Is "it" good?', offer=item.price, n=index).over(fetch.items).model("m").max_items(9)
bad = tool.http.get(url=https)
check = approval(question="Send\\u00e4 \\ud83d\\ude00?", shows=rates)
post = tool.http.post(
    body=rates[0]["any key"],
    after=bad.x,
).when(check, result.approved and len(result.notes) > 2).after_end(fetch).title("hi").timeout(5)
some = gather.list(outcomes=parents).quorum(2, fetch, rates, check).priority(-3).attempts(1).needs("gpu", "label:a=b")
```
That is all.
last = reason.text(prompt=some, empty=null, yes=True, list=[1, -2.5e3, {"a": []}]).may_edit().stream(some)"""


def _whole(text: str) -> list[Found]:
    parser = PushParser()
    return [*parser.feed(text), *parser.finish()]


def _specs(found: list[Found]) -> dict[str, StarSpec]:
    edits = [edit for star in found if isinstance(star, GoodStar) for edit in star.compiled.edits]
    return {edit.spec.id: edit.spec for edit in edits if isinstance(edit, AddStar)}


def _bad(found: list[Found]) -> list[tuple[str | None, str]]:
    return [(star.id, str(star)) for star in found if isinstance(star, BadStar)]


def test_a_plan_gives_the_stars_that_its_lines_say() -> None:
    found = _whole(PLAN)
    specs = _specs(found)

    assert list(specs) == ["fetch", "rates.each", "rates", "check", "post", "some", "last"]
    assert [name for name, _ in _bad(found)] == ["bad"]
    assert specs["fetch"].inputs == {
        "url": Constant("https://example.org/a"),
        "note": Constant("$1 {{x}} ${a.out}"),
        "raw": Constant({"$from": "nobody"}),
    }
    assert specs["check"].kind is StarKind.APPROVAL
    assert specs["check"].inputs["question"] == Constant("Sendä 😀?")
    assert specs["post"].inputs["body"] == OutputOf(specs["rates"].id, (0, "any key"))
    assert specs["post"].timeouts.start_to_close_s == 5
    assert specs["some"].inputs == {"outcomes": ParentOutcomes()}
    assert (specs["some"].quorum, specs["some"].priority, specs["some"].retry.max_attempts) == (2, -3, 1)
    assert specs["some"].requires == {"gpu", "label:a=b"}
    assert specs["last"].may_edit
    assert specs["last"].inputs["list"] == Constant([1, -2500.0, {"a": []}])


def test_lines_of_every_kind_lead_where_they_should() -> None:
    lines = {
        (line.parent, line.child): line
        for star in _whole(PLAN)
        if isinstance(star, GoodStar)
        for line in added_lines(star.compiled.edits)
    }

    kinds = {f"{parent} -> {child}": line.kind for (parent, child), line in lines.items()}
    assert kinds == {
        "fetch -> rates.each": LineKind.SUCCESS,
        "rates.each -> rates": LineKind.SUCCESS,
        "rates -> check": LineKind.SUCCESS,
        "check -> post": LineKind.CONDITION,
        "fetch -> post": LineKind.COMPLETION,
        "rates -> post": LineKind.SUCCESS,
        "bad -> post": LineKind.SUCCESS,
        "fetch -> some": LineKind.QUORUM,
        "rates -> some": LineKind.QUORUM,
        "check -> some": LineKind.QUORUM,
        "some -> last": LineKind.STREAM,
    }


@pytest.mark.parametrize("plan", [PLAN, "a = tool.x(\n`étape-2 = map.agent.y(\n z=a)`\nSo b: T = approval(\nc=a)\n"])
def test_every_cut_in_two_gives_the_same_stars(plan: str) -> None:
    whole = _whole(plan)

    for cut in range(len(plan) + 1):
        parser = PushParser()
        assert [*parser.feed(plan[:cut]), *parser.feed(plan[cut:]), *parser.finish()] == whole


def test_letter_by_letter_each_star_comes_with_the_newline_that_ends_it() -> None:
    parser = PushParser()
    came = {str(star.id): PLAN[: at + 1] for at in range(len(PLAN)) for star in parser.feed(PLAN[at])}

    assert came["fetch"].endswith('"nobody"})\n')
    assert came["post"].endswith(".timeout(5)\n")
    assert [star.id for star in parser.finish()] == ["last"]


@given(json_values)
def test_any_value_written_as_json_is_data(value: object) -> None:
    (star,) = _whole(f"a = tool.x(value={json.dumps(value)})")

    assert isinstance(star, GoodStar)
    (edit,) = star.compiled.edits
    assert isinstance(edit, AddStar)
    read = edit.spec.inputs["value"]
    assert isinstance(read, Constant)
    assert json.dumps(read.value) == json.dumps(value)


@pytest.mark.parametrize(
    ("line", "place", "reason"),
    [
        ("x = tol.y()", "line 2, column 5", "'tol.y' is no kind of star; there are tool, agent"),
        ("x = tool()", "line 2, column 9", "write tool.NAME(...)"),
        ("x = tool.()", "line 2, column 10", "the name of a program or tool is missing"),
        ("x = tool.y", "line 2, column 11", "a call needs '(' here"),
        ("x = tool.y(1)", "line 2, column 12", "an argument begins with its name"),
        ("x = tool.y(a)", "line 2, column 12", "each argument has a name"),
        ("x = tool.y(a=1 b=2)", "line 2, column 16", "a comma or the closing bracket is missing before 'b'"),
        ("x = tool.y(a=1, a=2)", "line 2, column 19", "a is given twice"),
        ("x = tool.y(a=b)", "line 2, column 14", "there is no star 'b' before this line"),
        ("x = tool.y(a=x)", "line 2, column 14", "may name stars before its own line"),
        ("x = tool.y(a=[ok])", "line 2, column 15", "ok is no value here"),
        ("x = tool.y(a=item)", "line 2, column 14", "item has a meaning in a map only"),
        ('x = tool.y(a="b)', "line 2, column 14", "has no closing"),
        ("x = tool.y(a='\\ud800')", "line 2, column 14", "half of a surrogate pair"),
        ("x = tool.y(a={b: 1})", "line 2, column 15", "a key is a text in quotes"),
        ("x = tool.y(a=[1}", "line 2, column 16", "closes what was not opened so"),
        ("x = tool.y(a=" + "[" * 99 + "]" * 99 + ")", "line 2, column 78", "nests deeper than 64 levels"),
        ("x = tool.y(a=ok" + ".b" * 40 + ")", "line 2, column 82", "a path has at most 32 steps"),
        ("x = tool.y(a=ok." + "1" * 5000 + ")", "line 2, column 16", "an index is at most 4294967295"),
        ("x = tool.y(a=" + "1" * 5000 + ")", "line 2, column 14", "a whole number has at most 300 digits"),
        ("x = tool.y(a=ok[-1])", "line 2, column 17", "an index from 0 or a key in quotes"),
        ("x = tool.y(a=1e999)", "line 2, column 14", "too large for a number"),
        ("x = tool.y().aftr(ok)", "line 2, column 14", "there is no .aftr(...); there are after"),
        ("x = tool.y().after()", "line 2, column 14", "name at least one star"),
        ("x = tool.y().after(ok.b)", "line 2, column 22", "a star is named here, and not a part"),
        ("x = tool.y().after(ok, ok)", "line 2, column 24", "the parent 'ok' is given twice"),
        ("x = tool.y().when(ok, 1)", "line 2, column 23", "a value alone is no condition"),
        ("x = tool.y().when(ok)", "line 2, column 21", ".when(STAR, CONDITION) needs ','"),
        ("x = tool.y().quorum(0, ok)", "line 2, column 14", "quorum.at_least: Input should be greater than or"),
        ("x = tool.y().over(ok.b)", "line 2, column 14", "this belongs to a map"),
        ("x = tool.y().priority(101)", "line 2, column 14", "priority: Input should be less than or equal to 100"),
        ("x = tool.y().timeout(0)", "line 2, column 14", "timeouts.start_to_close_s: Input should be greater than 0"),
        ("x = tool.y().model(m)", "line 2, column 20", "a text in quotes stands in the brackets"),
        ("x = tool.y() now", "line 2, column 14", "the star ends here, and 'now' follows"),
        ("x = map.tool.y()", "line 2, column 1", "over: this field is required"),
        ("x = map.approval().over(ok.b)", "line 2, column 17", "write map.approval.NAME(...)"),
        ("x = map.map.y().over(ok.b)", "line 2, column 9", "each.kind: Input should be"),
        ('x = map.tool.y().over("ok")', "line 2, column 23", "a map goes over a list in an earlier star's result"),
        ("x = map.tool.y(a=parents).over(ok.b)", "line 2, column 18", "has no parents of its own"),
        ("plan = tool.y()", "line 2, column 1", "'plan' has a meaning of its own: write plan_2"),
        ("- step-2 = tool.y(", "line 2, column 3", "an id is letters, digits and _"),
        ("1. **Step.2** = agent.y(a=ok)", "line 2, column 6", "'Step.2' does not: write Step_2 in its place"),
        ("So we have (b-1 = map.tool.y(", "line 2, column 13", "in the midst of a text is no line"),
        ("I could say x = tool.y() there", "line 2, column 13", "in the midst of a text is no line"),
        (" " * 60_000 + "! x = tool.y()", "line 2, column 60003", "in the midst of a text is no line"),
        ("+*`(" * 15_000 + "! x = tool.y()", "line 2, column 60003", "in the midst of a text is no line"),
        ("= approval()", "line 2, column 1", "write star in its place"),
        ("> `x` = tool.y()", "line 2, column 4", "nothing else stands on the line of a star"),
        ("Step 1: x = tool.y()", "line 2, column 9", "between its id and =: write x = ..."),
        ("x: dict[str, int] = tool.y()", "line 2, column 1", "between its id and =: write x = ..."),
        ("(x := tool.y())", "line 2, column 2", "between its id and =: write x = ..."),
        ("x" * 400 + " = tool.y()", "line 2, column 102", "has at most 60 characters"),
        ("`ok = tool.y()`", "line 2, column 2", "the id 'ok' is taken"),
        ("ok = tool.y()", "line 2, column 1", "the id 'ok' is taken"),
        ("x = tool.y(", "line 2, column 12", "an argument begins with its name, not with the end"),
        ("x = tool.y(" + "a" * MAX_CHARACTERS, "line 2, column 1", "a star has at most 65536 characters"),
        ("  .after(ok)", "line 2, column 1", "stands on the line where its call ends"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_with_its_place_and_poisons_no_other(line: str, place: str, reason: str) -> None:
    found = _whole(f"ok = tool.x()\n{line}\nnext = tool.z(a=ok)\n")

    assert [star.id for star in found if isinstance(star, GoodStar)] == ["ok", "next"]
    (bad,) = (star for star in found if isinstance(star, BadStar))
    assert str(bad.at) == place
    assert reason in bad.reason


@pytest.mark.parametrize(
    "line",
    [
        "Each star is one line: ID = KIND.NAME(ARGUMENT=VALUE, ...)",
        "The step-2 result is then given to tool.y(a) and to approval(b).",
        "if step-2 == tool.y(a) or step-2 != approval(b) or step-2 >= tool.y(c):",
        "# step-2 = tool.y(a), which I left out",
        "step-2 = tol.y(a)",
        "step-2 = tool",
        "step-2 = tool.(a)",
        "The approval = yes (a person's)",
        "step-2 := 3, é = 4, **x = 5**",
        "```python",
        "As I said, ok = tool.x() begins.",
    ],
)
def test_prose_and_comments_are_no_stars(line: str) -> None:
    found = _whole(f"ok = tool.x()\n{line}\nnext = tool.z(a=ok)\n")

    assert [star.id for star in found] == ["ok", "next"]
    assert _bad(found) == []


def test_a_star_with_an_odd_id_goes_over_lines_and_ends_the_one_before() -> None:
    text = "a = tool.x(\n- step-2 = tool.y(\n    task=1,\n    data=2,\n).timeout(3)\nb = tool.z(of=step_2)\n"
    bad, odd, user = _whole(text)

    assert (bad.id, odd.id, user.id) == ("a", "step_2", "b")
    assert odd.text.endswith(".timeout(3)")
    assert isinstance(user, GoodStar)


def test_an_odd_id_has_one_place_and_shares_it_with_no_other_star() -> None:
    found = _whole("a_1 = tool.x()\na-1 = tool.y()\na.1 = tool.y()\na-1 = tool.y()\n")

    assert [star.id for star in found] == ["a_1", "a_1_2", "a_1_3", "a_1_2"]


def test_a_repair_under_the_old_id_is_told_the_new_one_again() -> None:
    parser = PushParser()
    (bad,) = parser.feed("step-2 = tool.x()\n")
    assert isinstance(bad, BadStar)

    again = parser.repair(bad, "Sure:\nstep-2 = tool.x()")
    mended = parser.repair(bad, "step_2 = tool.x()")

    assert isinstance(again, BadStar)
    assert (again.id, again.reason) == ("step_2", bad.reason)
    assert isinstance(mended, GoodStar)


def test_what_depends_on_a_bad_line_may_name_it_and_the_repaired_line_takes_its_place() -> None:
    parser = PushParser()
    bad, user = parser.feed("a = tol.x()\nb = tool.y(of=a.z)\n")
    assert isinstance(bad, BadStar)
    assert isinstance(user, GoodStar)

    wrong = parser.repair(bad, "c = tool.x()")
    cyclic = parser.repair(bad, "a = tool.x(of=b)")
    mended = parser.repair(bad, "Sorry! Here it is:\n```\na = tool.x(\n  of=1)\n```\nb = tool.evil()")

    assert isinstance(wrong, BadStar)
    assert "keeps its id a" in wrong.reason
    assert isinstance(cyclic, BadStar)
    assert "may name stars before its own line" in cyclic.reason
    assert isinstance(mended, GoodStar)
    assert mended.id == "a"


def test_a_model_that_repeats_itself_adds_nothing() -> None:
    found = _whole("a = tool.x(n=1)\n" * 5)

    assert len(found) == 1


def test_a_model_that_does_not_stop_is_not_followed_for_ever() -> None:
    parser = PushParser()
    found = parser.feed("".join(f"s{i} = tool.x()\n" for i in range(MAX_STARS + 50)))

    assert len(found) == MAX_STARS
    assert parser.is_full


def test_a_line_without_an_end_is_not_kept() -> None:
    parser = PushParser()

    for _ in range(100):
        assert parser.feed("a = tool.x(" + "y" * MAX_CHARACTERS) == []
    (bad,) = parser.finish()

    assert isinstance(bad, BadStar)
    assert bad.id == "a"
    assert len(bad.text) < 3000


def test_lines_and_a_plan_file_that_say_the_same_give_the_same_edits() -> None:
    lines = """\
a = tool.x(text="hi", of={"$odd": 1}).timeout(9).title("first")
m = map.agent.answer(q=item.text, n=index).over(a.items).keep_failures().gather("merge", all=parents).model("big")
b = agent.react(goal=m).when(a, result.ok or len(result.items) > 3).may_edit()
c = approval(text=b)
d = gather.list(all=parents).quorum(1, a, b).after_end(c)
"""
    file = """\
stars:
  a:
    {kind: tool, program: x, inputs: {text: hi, of: {$value: {$odd: 1}}}, timeouts: {start_to_close_s: 9}, title: first}
  m:
    kind: map
    over: {$from: a, $path: [items]}
    each:
      kind: agent
      program: answer
      inputs: {q: {$item: true, $path: [text]}, n: {$index: true}}
      requires: [model:big]
    on: completion
    gather: {program: merge, inputs: {all: {$parents: true}}}
  b:
    kind: agent
    program: react
    inputs: {goal: {$from: m}}
    after: [{star: a, when: "result.ok or len(result.items) > 3"}]
    may_edit: true
  c: {kind: approval, inputs: {text: {$from: b}}}
  d:
    kind: gather
    program: list
    inputs: {all: {$parents: true}}
    quorum: {at_least: 1, of: [a, b]}
    after: [{star: c, on: completion}]
"""
    found = _whole(lines)
    from_lines = [edit for star in found if isinstance(star, GoodStar) for edit in star.compiled.edits]

    assert len(found) == 5
    assert _bad(found) == []
    from_file = [edit for batch in plan_batches(file) for edit in batch]
    as_json = json.dumps(read_document(file).value)
    assert {str(edit) for edit in from_lines} == {str(edit) for edit in from_file}
    assert [edit for batch in plan_batches(as_json) for edit in batch] == from_file
