"""Bounds that a small schedule would never come to, made small enough: what lies beyond them is code as well."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from asterism.orchestrator import loop
from asterism.orchestrator.core import state
from asterism.orchestrator.services import watch, worker
from asterism.workers import session

TIGHT: Final = (
    (state, "KEEP_ENDED", 1),
    (state, "SWEEP_AFTER", 3),
    (loop, "MAX_BATCH", 2),
    (worker, "MAX_PART", 2),
    (worker, "MAX_TAKE", 2),
    (watch, "PAGE", 3),
    (session, "MAX_FRAME_ITEMS", 1),
)


@contextmanager
def tight(is_tight: bool) -> Iterator[None]:
    """Have them so while the block runs."""
    before = [(module, name, getattr(module, name)) for module, name, _ in TIGHT]
    try:
        for module, name, value in TIGHT if is_tight else ():
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
