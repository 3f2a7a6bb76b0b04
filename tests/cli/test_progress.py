"""The view model of a request, and the lines and frames that are made of it."""

import io

import pytest
from rich.console import Console

from asterism.orchestrator.core.edits import AddStar
from asterism.orchestrator.core.events import Chunk
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.star import StarState
from asterism.protocol.view.live import frame
from asterism.protocol.view.plain import PlainView
from asterism.protocol.view.progress import Progress
from asterism.protocol.view.threads import threads_frame
from asterism.protocol.view.wording import one_line, seconds, tail
from tests.cli.stories import ID, START, edits, lease, line, star, story

PLAIN = """\
    0.0s accepted boards.txt
    0.0s revision 1: +1 star by policy
    0.1s plan runs on w1
    0.2s revision 2: +3 stars, +2 lines by star:plan
    0.3s plan SUCCEEDED after 0.2s
    0.3s b01-a runs on w1
    0.3s b01-b runs on w2
    0.5s refused the edits of star:b01-a: star b09: there is no such star
    0.9s b01-a attempt 1 on w1 lost: w1 left; again in 0.5s
    1.4s b01-a runs on w3 (attempt 2)
    2.4s revision 3: cancels b01-b by star:b01-a
    2.4s b01-a SUCCEEDED after 1.0s
    2.4s b01-b CANCELLED after 2.1s: cancelled by star:b01-a
    2.5s report runs on w2
    2.7s report SUCCEEDED after 0.2s
    2.8s SUCCEEDED
"""


def after(records: int) -> Progress:
    progress = Progress(ID)
    for record in story()[:records]:
        progress.apply(record)
    return progress


def drawn(progress: Progress, now: float, *, width: int = 120, height: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, no_color=True)
    with console.capture() as capture:
        console.print(frame(progress, START + now, width=width, height=height))
    return capture.get().splitlines()


def test_plain_lines_tell_the_whole_story() -> None:
    stream = io.StringIO()
    with PlainView(stream, Progress(ID)) as view:
        for record in story():
            view.show(record)
    assert stream.getvalue() == PLAIN


def test_the_end_is_folded_in() -> None:
    progress = after(16)
    assert progress.state is ConstellationState.SUCCEEDED
    assert (progress.stars_terminal, len(progress.stars), progress.seq) == (4, 4, 16)
    assert progress.elapsed_s(START + 100) == pytest.approx(2.8)
    assert progress.stars[StarId("b01-b")].state is StarState.CANCELLED


def test_a_star_waits_while_a_parent_runs_and_is_ready_afterwards() -> None:
    progress = after(12)
    assert progress.stars[StarId("report")].state is StarState.WAITING
    progress.apply(story()[12])
    assert progress.stars[StarId("report")].state is StarState.READY


def test_a_retry_reopens_an_ended_request() -> None:
    progress = after(16)
    progress.apply(edits(17, 9.0, 4, "client:ann", AddStar(star("b01-a~2"))))
    assert progress.state is ConstellationState.RUNNING
    assert progress.elapsed_s(START + 10) == 10


def test_text_of_an_attempt_that_is_not_the_last_is_dropped() -> None:
    progress = after(10)
    row = progress.stars[StarId("b01-a")]
    progress.hear(row.id, 1, [Chunk("t1", "old", 1)])
    progress.hear(row.id, 2, [Chunk("t1", "6 * 4", 3), Chunk("t2", "= 24", 2)])
    assert (row.said, list(row.threads), row.tokens) == ("= 24", ["t1", "t2"], 5)


def test_running_stars_come_first_and_a_frame_fits_the_terminal() -> None:
    progress = after(7)
    batch = [AddStar(star(f"x{number:03}")) for number in range(200)]
    progress.apply(edits(8, 0.4, 3, "star:plan", *batch))
    progress.hear(StarId("b01-a"), 1, [Chunk("t1", "1 + 2 = 3", 4), Chunk("t2", "2 * 3 = 6", 4)])
    lines = drawn(progress, 1.5)
    assert len(lines) <= 24
    assert "boards.txt  RUNNING  revision 3  1.5s" in lines[0]
    assert "1/204 stars" in lines[1]
    assert lines[3].split()[:6] == ["b01-a", "reason", "RUNNING", "w1", "1", "1.2s"]
    assert "[2 threads] 2 * 3 = 6" in lines[3]
    assert any(text.startswith("… and 19") and "stars more: 1 waiting" in text for text in lines)
    assert "revision 3: +200 stars by star:plan" in lines[-1]


def test_a_frame_fits_even_a_tiny_terminal() -> None:
    assert len(drawn(after(10), 1.5, width=40, height=12)) <= 12


def test_words_of_other_machines_cannot_drive_the_terminal() -> None:
    assert one_line("a\x1b[2J\nb\tc", 80) == "a [2J b c"
    assert one_line("x" * 10, 5) == "xxxx…"
    assert tail("abc\r\x07defgh", 4) == "…fgh"


def test_spans_read_like_speech() -> None:
    assert [seconds(span) for span in (-1, 0.04, 59.94, 60, 7325)] == ["0.0s", "0.0s", "59.9s", "1m 00s", "2h 02m"]


def test_records_of_unknown_stars_change_nothing() -> None:
    progress = after(2)
    assert progress.apply(lease(3, 0.1, "ghost", "w1")) is None
    assert progress.apply(edits(4, 0.2, 2, "star:plan", line("ghost", "phantom"))) is not None
    assert list(progress.stars) == [StarId("plan")]


def threads_drawn(texts: dict[str, str], *, width: int, height: int) -> list[str]:
    progress = after(7)
    progress.hear(StarId("b01-a"), 1, [Chunk(name, text, 1) for name, text in texts.items()])
    console = Console(file=io.StringIO(), width=width, height=height, no_color=True)
    row = progress.stars[StarId("b01-a")]
    with console.capture() as capture:
        console.print(threads_frame(row, START + 1, width=width, height=height))
    return capture.get().splitlines()


def test_threads_stand_side_by_side_in_the_order_of_their_numbers() -> None:
    texts = {name: f"this is {name}" for name in ("t10", "t2", "t1", "t2.1")}
    head, *lines = threads_drawn(texts, width=120, height=8)
    assert "b01-a" in head
    assert "4 threads" in head
    assert [word for line in lines for word in line.split() if word.startswith("t") and word != "this"] == [
        *("t1", "t1", "t2", "t2", "t2.1", "t2.1"),
        *("t10", "t10"),
    ]


@pytest.mark.parametrize(("width", "height"), [(20, 3), (80, 4), (120, 24), (300, 5)])
def test_many_threads_that_say_much_never_leave_the_screen(width: int, height: int) -> None:
    lines = threads_drawn({f"t{number}": "word " * 500 for number in range(64)}, width=width, height=height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    assert lines[-1].startswith("…") or len(lines) > 2


def test_named_star_speaks_in_plain_lines_too() -> None:
    stream = io.StringIO()
    view = PlainView(stream, after(7), star=StarId("b01-a"))
    view.hear(StarId("b01-a"), 1, [Chunk("t1", "1 + 2\x1b[2J", 3), Chunk("t2", "", 1)])
    view.hear(StarId("b01-b"), 1, [Chunk("t1", "unseen", 1)])
    assert stream.getvalue() == "t1: 1 + 2 [2J\n"
