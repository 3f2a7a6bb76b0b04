"""The programs that a worker can run, by name; planning programs are registered by the planner's own room."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from asterism.agents.asks import Json, Program, ProgramContext
from asterism.agents.reason_countdown import reason_countdown
from asterism.agents.report import gather_boards


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """A program: `needs_model` says whether it may ask for text, and so needs an engine."""

    function: Callable[[Mapping[str, Json], ProgramContext], Program]
    needs_model: bool
    summary: str


PROGRAMS: Final[Mapping[str, ProgramSpec]] = MappingProxyType(
    {
        "gather.boards": ProgramSpec(gather_boards, False, "Report on boards from what other stars found"),
        "reason.countdown": ProgramSpec(reason_countdown, True, "Search a board in parallel reasoning threads"),
    }
)
