"""What one run of one graph is worth: rates, hops, CPU and memory of a tree of processes."""

import itertools
import json
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil


@dataclass(slots=True)
class Figures:
    """One run. What a system does not tell stays None."""

    system: str
    graph: str
    database: str
    """`none` where nothing is on disk before a star is sent out."""
    stars: int
    seconds: float
    """From handing in the graph to knowing that its last star has ended."""
    submit_s: float | None = None
    """Of them, until the graph was accepted."""
    hop_ms_p50: float | None = None
    """From one star of a chain to the next."""
    hop_ms_p99: float | None = None
    cpu_ms_per_star: float | None = None
    """User and system time of every process but a database's server."""
    peak_mb: float | None = None
    """Sum of the peaks of the same processes."""
    commits: int | None = None
    messages_out: int | None = None
    """Messages of gRPC to workers."""
    messages_in: int | None = None
    notes: str = ""
    parts: dict[str, float] = field(default_factory=dict)
    """CPU ms a star, by process."""

    @property
    def stars_per_s(self) -> float:
        """The figure that systems are compared by."""
        return self.stars / self.seconds

    def line(self) -> str:
        """As one line of JSON."""
        return json.dumps({**asdict(self), "stars_per_s": round(self.stars_per_s, 1)})


def from_line(line: str) -> Figures:
    """What `line` gave."""
    plain: dict[str, Any] = json.loads(line)
    plain.pop("stars_per_s")
    return Figures(**plain)


def median(runs: Sequence[Figures]) -> Figures:
    """The run whose time is in the middle, with its own other figures, so that they belong together."""
    return sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]


def hops(starts: Iterable[float]) -> tuple[float, float]:
    """p50 and p99, in milliseconds, of the times between stars that started at those times (seconds)."""
    gaps = sorted(1e3 * (later - earlier) for earlier, later in itertools.pairwise(sorted(starts)))
    return round(statistics.median(gaps), 3), round(gaps[min(len(gaps) - 1, int(0.99 * len(gaps)))], 3)


class Meter:
    """CPU time and peak memory of this process and its children."""

    def __init__(self, roots: Sequence[int] = ()) -> None:
        """`roots`: children that are counted apart, each with its own children."""
        self._trees = {pid: psutil.Process(pid) for pid in (os.getpid(), *roots)}
        self._began = self._cpu_s()

    def cpu_s(self) -> dict[int, float]:
        """By root, since the meter began."""
        return {pid: spent - self._began[pid] for pid, spent in self._cpu_s().items()}

    def peak_mb(self) -> float:
        """Of all processes: each one's own peak, since it began."""
        return round(sum(_peak_kb(process.pid) for process in self._processes()) / 1024, 1)

    def _cpu_s(self) -> dict[int, float]:
        spent: dict[int, float] = {}
        for root, tree in self._trees.items():
            times = [process.cpu_times() for process in (tree, *tree.children(recursive=True))]
            spent[root] = sum(each.user + each.system for each in times)
        own = os.getpid()
        spent[own] -= sum(of_root for root, of_root in spent.items() if root != own)
        return spent

    def _processes(self) -> set[psutil.Process]:
        return {each for tree in self._trees.values() for each in (tree, *tree.children(recursive=True))}


def _peak_kb(pid: int) -> int:
    for row in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if row.startswith("VmHWM:"):
            return int(row.split()[1])
    return 0
