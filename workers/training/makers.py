"""Where updates come from: made here, one at a time, or by processes of their own that work ahead of the training."""

import multiprocessing
import queue
import random
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Final, TypeAlias

from asterism.workers.training.boards import excluded_boards
from asterism.workers.training.mix import BoardMix
from asterism.workers.training.rows import ROW_TOKENS, Rows, full_rows, rows_of
from asterism.workers.training.traces import Trace

Update: TypeAlias = tuple[Rows, ...]

AHEAD: Final = 16
"""Updates of each maker that may wait to be learned from."""
_LOOK_UP_S: Final = 5.0


class MakersEnded(RuntimeError):
    """Every process that made updates has ended; what it printed says why."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Of which boards updates are made, and how they are laid out.

    With `rows` an update is one array of so many full rows; without, groups of traces of like length, `scale` times
    about 16 traces, which wastes less of a CPU.
    """

    largest: int
    share_24: float
    rows: int = 0
    scale: int = 1

    def updates(self, seed: str) -> Iterator[Update]:
        """Updates for ever; the same for the same seed."""
        rng = random.Random(seed)
        mix = BoardMix(excluded_boards(), self.largest, self.share_24)
        waiting: list[Trace] = []
        while True:
            if not self.rows:
                yield tuple(rows_of(traces) for traces in mix.step(rng, self.scale))
                continue
            tokens = sum(len(trace.token_ids) for trace in waiting)
            while tokens < self.rows * ROW_TOKENS:
                made = [trace for traces in mix.step(rng, 1) for trace in traces]
                tokens += sum(len(trace.token_ids) for trace in made)
                waiting += made
            rows, waiting = full_rows(waiting, self.rows)
            yield (rows,)


class Makers:
    """Processes that make updates and put them into one queue, which holds `AHEAD` of each; used as a context."""

    def __init__(self, recipe: Recipe, seed: str, processes: int, *, silence_s: float = 60.0) -> None:
        """After `silence_s` without an update it looks whether anybody still makes them."""
        # Spawned: a fork of a process that has a GPU or threads of torch open does not live long.
        context = multiprocessing.get_context("spawn")
        self._silence_s = silence_s
        self._made: multiprocessing.Queue[Update] = context.Queue(AHEAD * processes)
        self._processes: Sequence[BaseProcess] = [
            context.Process(target=_make, args=(recipe, f"{seed} {index}", self._made), daemon=True)
            for index in range(processes)
        ]

    def __enter__(self) -> "Makers":
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        self._made.close()

    def updates(self) -> Iterator[Update]:
        """Updates for ever, from whoever made one first; raises `MakersEnded`."""
        while True:
            yield self._next()

    def _next(self) -> Update:
        while True:
            try:
                return self._made.get(timeout=self._silence_s)
            except queue.Empty:
                if not any(process.is_alive() for process in self._processes):
                    raise MakersEnded from None


def _make(recipe: Recipe, seed: str, made: "multiprocessing.Queue[Update]") -> None:
    # An interrupt is the training's to handle; it ends its makers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    for update in recipe.updates(seed):
        while True:
            try:
                made.put(update, timeout=_LOOK_UP_S)
                break
            except queue.Full:
                if not parent.is_alive():
                    # It was killed: what waits in the pipe is for nobody.
                    made.cancel_join_thread()
                    return
