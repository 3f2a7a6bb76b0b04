"""Tables of what stands still."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from rich.console import Console
from rich.text import Text

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.snapshot import Summary
from asterism.orchestrator.core.star import TaskStar
from asterism.protocol.answers import WorkerStatus
from asterism.protocol.view.columns import WHOLE, Column, print_table
from asterism.protocol.view.style import REQUEST_STYLES, STATE_STYLES
from asterism.protocol.view.wording import one_line, seconds

_TITLE: Final = 80
_NOTE: Final = 400
_GIB: Final = 1024**3

_STARS: Final = (
    Column("star"),
    Column("kind", WHOLE),
    Column("program", 8),
    Column("state"),
    Column("worker", 6),
    Column("try", WHOLE, is_number=True),
    Column("time", WHOLE, is_number=True),
    Column("note", 10),
)
_WORKERS: Final = (
    Column("worker"),
    Column("state"),
    Column("slots", WHOLE, is_number=True),
    Column("cores", WHOLE),
    Column("memory", WHOLE),
    Column("gpus", 8),
    Column("models", 8),
    Column("labels", 8),
    Column("seen", WHOLE),
    Column("version", WHOLE),
)
_REQUESTS: Final = (
    Column("id"),
    Column("name", 8),
    Column("state"),
    Column("stars", WHOLE, is_number=True),
    Column("created", WHOLE),
    Column("took", WHOLE, is_number=True),
    Column("revision", WHOLE, is_number=True),
    Column("owner", 8),
)


def print_stars(out: Console, constellation: TaskConstellation, waiting_for: Mapping[StarId, str], now: float) -> None:
    """Every star, in the order in which they were added; the last column says what it waits for or why it failed."""
    rows = []
    for star_id, star in constellation.stars.items():
        last = star.attempts[-1] if star.attempts else None
        rows.append(
            (
                Text(star_id),
                Text(star.spec.kind.value),
                Text(star.spec.program),
                Text(star.state.value, style=STATE_STYLES[star.state]),
                Text("" if last is None else last.worker),
                Text("" if last is None else str(last.number)),
                Text(
                    "" if last is None else seconds((now if last.ended_at is None else last.ended_at) - last.leased_at)
                ),
                _note(star, waiting_for.get(star_id, "")),
            )
        )
    print_table(out, _STARS, rows)


def print_workers(out: Console, workers: Sequence[WorkerStatus], now: float) -> None:
    """One row for each worker."""
    rows = []
    for worker in workers:
        profile = worker.profile
        labels = {**profile.labels, **worker.labels}
        cells = (
            worker.id,
            worker_state(worker),
            f"{worker.slots_held}/{profile.slots}",
            str(profile.cores),
            f"{profile.memory_bytes / _GIB:.1f} GiB",
            one_line(", ".join(gpu.name for gpu in profile.gpus) or "-", 40),
            one_line(", ".join(profile.models) or "-", 40),
            one_line(" ".join(f"{key}={value}" for key, value in sorted(labels.items())) or "-", 60),
            f"{seconds(now - worker.last_seen_at)} ago",
            one_line(profile.version, 20),
        )
        rows.append([Text(cell) for cell in cells])
    print_table(out, _WORKERS, rows)


def print_requests(out: Console, found: Sequence[Summary]) -> None:
    """One row for each request."""
    rows = [
        (
            Text(summary.id),
            Text(one_line(summary.name or summary.form, 40)),
            Text(summary.state.value, style=REQUEST_STYLES[summary.state]),
            Text(f"{summary.stars_terminal}/{summary.stars}"),
            Text(datetime.fromtimestamp(summary.created_at).strftime("%Y-%m-%d %H:%M:%S")),
            Text("" if summary.ended_at is None else seconds(summary.ended_at - summary.created_at)),
            Text(str(summary.revision)),
            Text(one_line(summary.owner, 24)),
        )
        for summary in found
    ]
    print_table(out, _REQUESTS, rows)


def worker_state(worker: WorkerStatus) -> str:
    """In one word: draining wins, for it is what an operator asked for."""
    if not worker.is_attached:
        return "away"
    return "draining" if worker.is_draining else "attached"


def _note(star: TaskStar, waiting_for: str) -> Text:
    """Only a title may be cut: the others say what to do, or name a star."""
    whole = waiting_for
    if star.error is not None:
        whole = star.error.message
    elif star.source:
        whole = f"the result of {star.source}"
    if whole:
        return Text(one_line(whole, _NOTE), style="dim", overflow="fold")
    return Text(one_line(star.spec.title, _TITLE), style="dim")
