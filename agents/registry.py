"""The programs that a worker can run, by name; planning programs are registered by the planner's own room."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from asterism.agents.answer import answer_task
from asterism.agents.asks import Effect, Json, Program, ProgramContext
from asterism.agents.follow import TEXT, follow
from asterism.agents.gather import gather
from asterism.agents.judge import judge
from asterism.agents.react import react, react_idempotent
from asterism.agents.reason_countdown import reason_countdown
from asterism.agents.reason_text import reason_child, reason_join, reason_text
from asterism.agents.report import gather_boards


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """A program: `needs_model` says whether it may ask for text, and so needs an engine.

    Texts have seeds, so that a program is pure whose result depends on texts alone and not on when they end. A new
    `version` says that the result may be another one now; none, that it never was.
    """

    function: Callable[[Mapping[str, Json], ProgramContext], Program]
    needs_model: bool
    summary: str
    effect: Effect = Effect.NONE
    version: str = ""
    hears: frozenset[str] = frozenset()
    """Inputs that it follows while a parent writes them (`Hear`); it is run once it has all others."""


PROGRAMS: Final[Mapping[str, ProgramSpec]] = MappingProxyType(
    {
        "answer": ProgramSpec(
            answer_task, True, "Answer a task from data and parents' results; gives answer", Effect.PURE
        ),
        "follow": ProgramSpec(
            follow,
            True,
            "Do a task for each paragraph of a text while it is being written; gives answer",
            Effect.PURE,
            hears=frozenset({TEXT}),
        ),
        "gather": ProgramSpec(gather, True, "Join any amount of results into one; gives answer", Effect.PURE),
        "judge": ProgramSpec(
            judge, True, "Verify, score or vote over candidates or parents' results; gives best, value", Effect.PURE
        ),
        "react": ProgramSpec(react, True, "Do a task in steps, with the worker's tools; gives answer", Effect.NONE),
        "react.idempotent": ProgramSpec(
            react_idempotent, True, "Do a task in steps, with tools that may run twice; gives answer", Effect.IDEMPOTENT
        ),
        "gather.boards": ProgramSpec(gather_boards, False, "Report on boards from what other stars found", Effect.PURE),
        # Which thread ends first, and whether one leaves the machine, depends on the machine.
        "reason.child": ProgramSpec(
            reason_child, True, "Run one reasoning thread that left its parent's device", Effect.IDEMPOTENT
        ),
        "reason.countdown": ProgramSpec(
            reason_countdown, True, "Search a board in parallel reasoning threads", Effect.IDEMPOTENT
        ),
        "reason.join": ProgramSpec(
            reason_join, True, "Join reasoning threads that ran as stars, and write the answer", Effect.IDEMPOTENT
        ),
        "reason.text": ProgramSpec(
            reason_text, True, "Answer a prompt in parallel reasoning threads; gives answer", Effect.IDEMPOTENT
        ),
    }
)
