"""The program `answer`: one text of a model for a task, with everything that is known for it."""

from collections.abc import Mapping
from typing import Final

from asterism.agents.asks import Json, Message, Program, ProgramContext, ProgramResult
from asterism.agents.briefs import read_brief
from asterism.agents.chatting import Question, Spent, answer, form_rule

JOB: Final = "You answer one question, from the data that you are given and what you know."
_SPARE: Final = 200


def answer_task(inputs: Mapping[str, Json], context: ProgramContext) -> Program:
    """Answers `task` from `data` and `outcomes`, as text or, with a `schema`, as a value that matches it.

    Data that is longer than `context_characters` leaves room for is shortened in the middle, and says so.
    """
    brief = read_brief(inputs)
    spent = Spent()
    system = brief.system(JOB, form_rule(brief.check))
    room = brief.context - len(system) - len(brief.task) - _SPARE
    data = brief.data_within(max(room, 0))
    asked = f"{data}\n\n{brief.task}" if data else brief.task
    question = Question((Message("system", system), Message("user", asked)), brief.sampling, brief.check)
    written = yield from answer(question, spent)
    return ProgramResult({"answer": written.value, "spent": spent.to_json()})
