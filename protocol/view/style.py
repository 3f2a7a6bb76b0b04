"""Colours of states in the terminal, and when there are none."""

import os
import sys
from typing import TYPE_CHECKING, Final

from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.star import StarState

if TYPE_CHECKING:
    from rich.console import Console

STATE_STYLES: Final = {
    StarState.WAITING: "dim",
    StarState.READY: "blue",
    StarState.RUNNING: "yellow",
    StarState.SUCCEEDED: "green",
    StarState.FAILED: "bold red",
    StarState.CANCELLED: "magenta",
}
REQUEST_STYLES: Final = {
    ConstellationState.RUNNING: "yellow",
    ConstellationState.SUCCEEDED: "green",
    ConstellationState.FAILED: "bold red",
    ConstellationState.CANCELLED: "magenta",
}
_PLAIN_WIDTH: Final = 160
"""Columns of a table in a file or a pipe, where no terminal says how wide it is."""


def console(*, stderr: bool = False) -> "Console":
    """A console for tables and trees; no colour where the stream is no terminal or NO_COLOR is set (no-color.org)."""
    from rich.console import Console  # 50 ms, which `--help` and JSON output need not pay

    if is_terminal(stderr=stderr):
        return Console(stderr=stderr, highlight=False)
    return Console(stderr=stderr, highlight=False, no_color=True, force_terminal=False, width=_PLAIN_WIDTH)


def is_terminal(*, stderr: bool = False) -> bool:
    """Whether a person looks at the stream: a terminal that can move its cursor."""
    return (sys.stderr if stderr else sys.stdout).isatty() and os.environ.get("TERM", "") != "dumb"
