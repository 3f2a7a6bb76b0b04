"""`asterism plan check` shows the stars of a plan, or says what is wrong with it and where."""

import io
import json
import sys
from pathlib import Path

import pytest

from asterism.planner.document import read_document
from asterism.planner.outline import as_tree, read_plan
from asterism.protocol.cli import main
from tests.planner.test_plan_file import PLAN

LINES = """\
a = tool.noop()
m = map.agent.answer(task="x", data={"it": item}).over(a.items).model("big")
b = tool.noop(of=m).when(a, result.ok)
"""


def _check(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["plan", "check", *arguments])
    printed = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, printed.out, printed.err


def test_a_good_plan_is_shown_as_a_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)

    code, out, _ = _check(capsys, str(tmp_path / "plan.yaml"))

    assert code == 0
    assert out.splitlines() == [
        "4 stars: the plan can be submitted",
        "fetch  tool noop",
        "  check  tool noop",
        "  sum  gather add  [model:small]  after check if result.ok == true, log (however it ends), fetch",
        "log  tool noop",
    ]


def test_lines_are_read_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINES.encode())))

    code, out, _ = _check(capsys, "-", "--lines")

    assert code == 0
    assert "    m  gather gather.list" in out
    assert "  m.each  gather map.expand, one agent answer for each item" in out


def test_programs_get_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)

    code, out, _ = _check(capsys, str(tmp_path / "plan.yaml"), "--output", "json")

    assert code == 0
    stars = json.loads(out)["stars"]
    assert [star["id"] for star in stars] == ["fetch", "log", "check", "sum"]
    assert stars[2]["lines"] == [{"parent": "fetch", "child": "check"}]


@pytest.mark.parametrize(
    ("text", "arguments", "says"),
    [
        ("stars:\n- {kind: toll, program: x}\n", [], "line 2, column"),
        ("stars:\n- {kind: tool, program: x, timeouts: {start_to_close_s: -1}}\n", [], "greater than 0"),
        ("a = tol.x()\n", ["--lines"], "line 1, column 5: 'tol.x' is no kind of star"),
        ("nothing", ["--lines"], "there is no star in it"),
        ("\xff", [], "no text in UTF-8"),
    ],
)
def test_a_wrong_plan_ends_with_code_2_and_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, arguments: list[str], says: str
) -> None:
    (tmp_path / "plan").write_bytes(text.encode("latin-1"))

    code, out, err = _check(capsys, str(tmp_path / "plan"), *arguments)

    assert (code, out) == (2, "")
    assert says in err


def test_a_plan_that_is_too_large_to_be_submitted_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.yaml").write_text("stars:\n" + "- {kind: tool, program: noop}\n" * 10_050)

    code, out, err = _check(capsys, str(tmp_path / "plan.yaml"))

    assert (code, out) == (2, "")
    size = len(
        json.dumps({"form": "plan", "text": (tmp_path / "plan.yaml").read_text(), "name": "plan.yaml", "options": None})
    )
    assert f"the request has {size} bytes as JSON; at most 262144 can be planned" in err


def test_a_mark_of_the_byte_order_is_no_part_of_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(read_document(PLAN).value), encoding="utf-8-sig")

    assert _check(capsys, str(tmp_path / "plan.json"))[0] == 0


def test_a_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = _check(capsys, "/nowhere/plan.yaml")

    assert code == 2
    assert "/nowhere/plan.yaml cannot be read: No such file" in err


def test_a_chain_of_ten_thousand_is_a_tree() -> None:
    stars = {f"s{i}": {"kind": "tool", "program": "noop", "after": [f"s{i - 1}"] if i else []} for i in range(10_000)}

    assert as_tree(read_plan(json.dumps({"stars": stars}), is_lines=False)).count("\n") == 10_001
