"""Traces laid side by side in rows of one length, as plain arrays that a process can hand to another. No torch.

One array of int16 [6, rows, time] holds all of it; `FIELDS` names the six. A place sees those before it of its own
group, and those from `start` up to `seen` of its row: the shared prefix of its trace, as far as its thread sees it.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asterism.workers.training.traces import PAD_ID, Trace

Rows: TypeAlias = NDArray[np.int16]

FIELDS: Final = ("token_ids", "positions", "groups", "start", "seen", "weights")
WEIGHT_UNIT: Final = 0.1
"""Weights are stored in tenths: how much the word *behind* a place counts, 0 behind the last of a group."""
ROW_TOKENS: Final = 640
"""Longer than any trace but for the rarest, whose end is cut off."""


def rows_of(traces: Sequence[Trace]) -> Rows:
    """A row for each trace, as long as the longest."""
    return _fill([[trace] for trace in traces], max(len(trace.token_ids) for trace in traces))


def full_rows(traces: Sequence[Trace], rows: int, time: int = ROW_TOKENS) -> tuple[Rows, list[Trace]]:
    """So many rows of so many places, as full as first fit from the longest makes them; and the traces left over."""
    placed: list[list[Trace]] = [[] for _ in range(rows)]
    room = [time] * rows
    left_over: list[Trace] = []
    for trace in sorted(traces, key=lambda one: len(one.token_ids), reverse=True):
        trace.cut(time)
        length = len(trace.token_ids)
        row = next((row for row in range(rows) if room[row] >= length), None)
        if row is None:
            left_over.append(trace)
        else:
            placed[row].append(trace)
            room[row] -= length
    return _fill(placed, time), left_over


def _fill(placed: Sequence[Sequence[Trace]], time: int) -> Rows:
    filled = np.zeros((len(FIELDS), len(placed), time), dtype=np.int16)
    token_ids, positions, groups, start, seen, weights = filled
    token_ids[:] = PAD_ID
    groups[:] = -1
    for row, traces in enumerate(placed):
        begin = group = 0
        for trace in traces:
            at = slice(begin, begin + len(trace.token_ids))
            token_ids[row, at] = trace.token_ids
            positions[row, at] = trace.positions
            groups[row, at] = trace.segments
            groups[row, at] += group
            start[row, at] = begin
            seen[row, at] = trace.seen
            seen[row, at] += begin
            weights[row, at] = np.rint(np.asarray(trace.weights) / WEIGHT_UNIT)
            begin = at.stop
            group += trace.segments[-1] + 1
    # The first word of a thread is the program's and follows the prefix, not its neighbour in the row.
    weights[:, :-1] = np.where(groups[:, 1:] == groups[:, :-1], weights[:, 1:], 0)
    weights[:, -1] = 0
    return filled


def weight_of(rows: Rows) -> float:
    """All weights together."""
    return float(rows[-1].sum(dtype=np.int64)) * WEIGHT_UNIT


def learned_places(rows: Rows) -> int:
    """Places that count at all."""
    return int(np.count_nonzero(rows[-1]))
