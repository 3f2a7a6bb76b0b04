"""The request of `make run`, as a newcomer runs it: real model, real workers, answers checked here once more."""

import ast
import json
import operator
import signal
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations
from pathlib import Path
from typing import Any

import psutil
import pytest

from asterism.protocol.client import AsyncClient
from tests.processes import Fleet, attached, wait_for_line

BOARDS = Path(__file__).resolve().parents[2] / "deploy" / "requests" / "boards.txt"
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}

pytestmark = pytest.mark.timeout(240)


def boards() -> list[tuple[int, ...]]:
    lines = (line.partition("#")[0].split() for line in BOARDS.read_text().splitlines())
    return [tuple(sorted(int(word) for word in words)) for words in lines if words]


def value(expression: str) -> tuple[Fraction, tuple[int, ...]]:
    """What an expression is worth and the numbers in it, by a reading of its own that shares no code with ours."""
    used: list[int] = []

    def walk(node: ast.expr) -> Fraction:
        if isinstance(node, ast.BinOp):
            result: Fraction = OPERATORS[type(node.op)](walk(node.left), walk(node.right))
            return result
        assert isinstance(node, ast.Constant)
        assert isinstance(node.value, int)
        used.append(node.value)
        return Fraction(node.value)

    return walk(ast.parse(expression, mode="eval").body), tuple(sorted(used))


def is_solvable(numbers: Sequence[Fraction]) -> bool:
    """Whether some way of joining two numbers again and again ends in 24."""
    if len(numbers) == 1:
        return numbers[0] == 24
    for i, j in permutations(range(len(numbers)), 2):
        a, b = numbers[i], numbers[j]
        rest = [number for k, number in enumerate(numbers) if k not in (i, j)]
        joined = [a + b, a - b, a * b, *([a / b] if b else [])]
        if any(is_solvable([*rest, number]) for number in joined):
            return True
    return False


def processes_of(folder: Path) -> list[psutil.Process]:
    """Everything alive that was started with this folder as its own."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("ASTERISM_CONFIG_HOME") == str(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_every_board_is_solved_verified_or_reported_honestly(tmp_path: Path) -> None:
    graph_file = tmp_path / "graph.json"
    fleet = Fleet(tmp_path)
    run = fleet.start("run", ["run", str(BOARDS), "--workers", "3", "--output", "json", "--graph", str(graph_file)])
    try:
        assert run.wait(200) == 0, run.read()
    finally:
        fleet.end()
    assert processes_of(tmp_path) == []
    graph = json.loads(graph_file.read_text())
    answers = {tuple(sorted(board["numbers"])): board for board in last_report(graph)["boards"]}
    assert set(answers) == set(boards())
    right = 0
    for numbers, board in answers.items():
        if board["answer"] == "solution":
            assert value(board["expression"]) == (Fraction(24), numbers)
            right += 1
        elif board["answer"] == "none exists":
            assert not is_solvable([Fraction(number) for number in numbers])
            searched_by = next(star for star in graph["stars"] if star["id"] == board["by_star"])
            assert (searched_by["kind"], searched_by["program"]) == ("tool", "countdown.search")
            right += 1
        else:
            assert board["answer"] == "not found within the budget"
    assert right >= 10
    check_shape(graph)


def last_report(graph: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = next(star for star in graph["stars"] if star["id"] == "report")["result"]
    return result


def check_shape(graph: dict[str, Any]) -> None:
    """The request needed every part of the shape."""
    by_results = [
        revision
        for revision in graph["revisions"]
        if revision["after_execution_began"] and revision["by"] not in ("star:plan", "client:local")
    ]
    assert len(by_results) >= 2
    assert len(graph["workers"]) >= 3
    states = Counter((star["kind"], star["state"]) for star in graph["stars"])
    assert states["reason", "CANCELLED"] >= 1
    threads = [star.get("threads") or 0 for star in graph["stars"] if star["kind"] == "reason"]
    assert max(threads) > 1
    deeper = [star for star in graph["stars"] if star["added_by"] not in ("star:plan", "client:local")]
    assert {star["kind"] for star in deeper} >= {"reason", "tool"}


def test_ctrl_c_cancels_the_request_and_leaves_nothing_behind(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    run = fleet.start("run", ["run", str(BOARDS), "--workers", "2"])
    try:
        wait_for_line(run, "runs on")
        run.signal(signal.SIGINT)
        assert run.wait(60) == 130
    finally:
        fleet.end()
    assert "CANCELLED" in run.read()
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("boards.txt", "4 6 8 3\n1 2 3 0\n", "line 2"),
        ("plan.yaml", "stars:\n  a: {kind: tool, program: [\n", "line 3"),
        ("plan.json", '{"stars": [{"id": "a", "kind": "tool", "program": "no-such-tool"}]}', "no-such-tool"),
        (
            "cycle.yaml",
            "stars:\n  a: {kind: tool, program: noop, after: [b]}\n  b: {kind: tool, program: noop, after: [a]}\n",
            "a -> b -> a",
        ),
        ("twice.yaml", "stars:\n  - {id: a, kind: tool, program: noop}\n  - {id: a, kind: tool, program: noop}\n", "a"),
        ("ref.yaml", "stars:\n  a: {kind: tool, program: noop, after: [ghost]}\n", "ghost"),
    ],
)
async def test_bad_input_is_refused_at_the_door(running: Fleet, name: str, text: str, complaint: str) -> None:
    running.start_worker("ada", "--model", "none")
    async with AsyncClient(running.address) as client:
        await attached(client, 1)
    request = running.folder / name
    request.write_text(text)
    submit = running.start("submit", ["submit", str(request), "--address", running.address])
    assert submit.wait(30) == 2
    assert complaint in submit.read()
    async with AsyncClient(running.address) as client:
        assert [summary async for summary in client.list()] == []


def test_nobody_there_is_exit_3(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    asked = fleet.start("list", ["list", "--address", "127.0.0.1:1"])
    assert asked.wait(60) == 3
