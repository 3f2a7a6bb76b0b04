"""Tables on narrow terminals: what people copy is whole, the rest makes room."""

from io import StringIO

import pytest
from rich.console import Console
from rich.text import Text

from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.snapshot import Summary
from asterism.protocol.view.columns import WHOLE, Column, fit, table_lines
from asterism.protocol.view.tables import print_requests, print_stars
from tests.cli.stories import START, constellation

ID = ConstellationId("c1a21cda8c4f0000036c5a75")
APPROVE = f"a decision: asterism approve {ID} the-one-that-asks, or reject"
COLUMNS = (Column("id"), Column("name", 4), Column("number", WHOLE, is_number=True))


def terminal(width: int) -> tuple[Console, StringIO]:
    written = StringIO()
    return Console(file=written, width=width, force_terminal=True, color_system=None, highlight=False), written


@pytest.mark.parametrize(
    ("room", "widths"),
    [
        (99, [5, 9, 6]),
        (24, [5, 9, 6]),
        (21, [5, 6, 6]),
        (19, [5, 4, 6]),
        (18, [5, 9, 0]),
        (12, [5, 5, 0]),
        (9, [5, 0, 0]),
    ],
)
def test_columns_shrink_then_go_from_the_last_to_the_first(room: int, widths: list[int]) -> None:
    assert fit(COLUMNS, [5, 9, 6], room) == widths


def test_first_column_is_whole_in_no_room() -> None:
    assert fit(COLUMNS, [24, 9, 6], 10) == [24, 0, 0]


def test_cell_is_cut_padded_or_put_beneath_its_row() -> None:
    row = [Text("a"), Text("long name"), Text("7")]
    assert [line.plain for line in table_lines(COLUMNS, [row], 16)] == ["id  name  number", "a   lon…       7"]
    row[1].overflow = "fold"
    lines = [line.plain for line in table_lines(COLUMNS, [row], 16)]
    assert lines == ["id  name  number", "a              7", "    long name"]


@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_id_and_state_of_a_request_are_whole_at_any_width(width: int) -> None:
    out, written = terminal(width)
    state = ConstellationState.SUCCEEDED
    print_requests(out, [Summary(ID, "r1", "local", "boards.txt", "boards", START, state, "", START + 2.8, 3, 4, 4)])
    assert f"{ID}  " in written.getvalue()
    assert " SUCCEEDED" in written.getvalue()
    assert all(len(line) <= max(width, len(ID) + 11) for line in written.getvalue().splitlines())


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_star_its_state_and_the_command_it_waits_for_are_whole_at_any_width(width: int) -> None:
    of = constellation(16)
    star = of.stars.pop(StarId("report"))
    of.stars[StarId("the-one-that-asks")] = star
    out, written = terminal(width)
    print_stars(out, of, {StarId("the-one-that-asks"): APPROVE}, START)
    assert APPROVE in written.getvalue()
    assert any(line.startswith("the-one-that-asks") and "SUCCEEDED" in line for line in written.getvalue().splitlines())


def test_nothing_is_cut_where_no_terminal_is() -> None:
    written = StringIO()
    print_stars(Console(file=written, width=40, force_terminal=False), constellation(16), {}, START)
    assert "b01-a   reason  reason.countdown  SUCCEEDED  w3        2  1.0s" in written.getvalue()
