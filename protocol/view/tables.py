"""Tables of what stands still."""

from collections.abc import Mapping
from typing import Final

from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.star import TaskStar
from asterism.protocol.answers import WorkerStatus
from asterism.protocol.view.style import STATE_STYLES
from asterism.protocol.view.wording import one_line, seconds

_NOTE: Final = 80
_GIB: Final = 1024**3


def stars_table(constellation: TaskConstellation, waiting_for: Mapping[StarId, str], now: float) -> Table:
    """Every star, in the order in which they were added; the last column says what it waits for or why it failed."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("star", "kind", "program", "state", "worker", "try", "time", "note"):
        justify: JustifyMethod = "right" if name in ("try", "time") else "left"
        table.add_column(name, no_wrap=True, overflow="ellipsis", justify=justify)
    for star_id, star in constellation.stars.items():
        last = star.attempts[-1] if star.attempts else None
        table.add_row(
            Text(star_id),
            star.spec.kind.value,
            Text(star.spec.program),
            Text(star.state.value, style=STATE_STYLES[star.state]),
            Text("" if last is None else last.worker),
            "" if last is None else str(last.number),
            "" if last is None else seconds((now if last.ended_at is None else last.ended_at) - last.leased_at),
            Text(_note(star, waiting_for.get(star_id, "")), style="dim"),
        )
    return table


def workers_table(workers: tuple[WorkerStatus, ...], now: float) -> Table:
    """One row for each worker."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("worker", "state", "slots", "cores", "memory", "gpus", "models", "labels", "seen", "version"):
        table.add_column(name, no_wrap=True, overflow="ellipsis", justify="right" if name == "slots" else "left")
    for worker in workers:
        profile = worker.profile
        labels = {**profile.labels, **worker.labels}
        table.add_row(
            Text(worker.id),
            worker_state(worker),
            f"{worker.slots_held}/{profile.slots}",
            str(profile.cores),
            f"{profile.memory_bytes / _GIB:.1f} GiB",
            Text(one_line(", ".join(gpu.name for gpu in profile.gpus) or "-", 40)),
            Text(one_line(", ".join(profile.models) or "-", 40)),
            Text(one_line(" ".join(f"{key}={value}" for key, value in sorted(labels.items())) or "-", 60)),
            f"{seconds(now - worker.last_seen_at)} ago",
            Text(one_line(profile.version, 20)),
        )
    return table


def worker_state(worker: WorkerStatus) -> str:
    """In one word: draining wins, for it is what an operator asked for."""
    if not worker.is_attached:
        return "away"
    return "draining" if worker.is_draining else "attached"


def _note(star: TaskStar, waiting_for: str) -> str:
    if star.error is not None:
        return one_line(star.error.message, _NOTE)
    if star.source:
        return one_line(f"the result of {star.source}", _NOTE)
    return one_line(waiting_for or star.spec.title, _NOTE)
