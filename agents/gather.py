"""The program `gather`: one answer from the results of many stars, however long they are.

Map and reduce within the model's context: what does not fit is cut into parts, each is summarised for the task, and the
summaries take the parts' place until all fits. A summary is cut so that three of them fit wherever they are shown, in a
part and in the end: so each round leaves a third of the parts, and this ends.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from asterism.agents.asking import Asking, say
from asterism.agents.asks import Json, Message, Program, ProgramContext, ProgramFailed, ProgramResult
from asterism.agents.briefs import Brief, read_at_once, read_brief
from asterism.agents.chatting import Question, Spent, Written, answer, answer_all, form_rule, with_seed
from asterism.agents.data import MARKS, as_data, as_text

JOB: Final = "You join the results of several workers into one answer."
PART_JOB: Final = (
    "You read a part of the results of several workers. Write down what matters in it for the task, briefly and"
    " exactly, with the names of the workers who say it. You do not see the other parts; do not answer the task itself."
)
MAX_PARTS: Final = 512
"""Of one round: with the default context, results of about 10 MB."""
MAX_ROUNDS: Final = 8
"""Of summaries: 512 parts take 6, as each round leaves a third of them."""
_SPARE: Final = 200
_SHRINKS: Final = 3


def gather(inputs: Mapping[str, Json], context: ProgramContext) -> Program:
    """Answers `task` from `outcomes` and `data`, as text or by a `schema`; `rounds` counts those of summaries."""
    brief = read_brief(inputs, "at_once")
    at_once = read_at_once(inputs)
    if not brief.data:
        raise ProgramFailed("invalid_input", "outcomes: there is nothing to gather", retryable=False)
    spent = Spent()
    system = brief.system(JOB, form_rule(brief.check))
    room = brief.context - len(system) - len(brief.task) - _SPARE
    part_system = brief.system(PART_JOB)
    part_room = brief.context - len(part_system) - len(brief.task) - _SPARE
    if min(room, part_room) < brief.context // 4:
        raise ProgramFailed("invalid_input", "context_characters: leaves no room for data", retryable=False)
    items = [(name, as_text(value)) for name, value in brief.data.items()]
    rounds = 0
    most = min(room, part_room) // _SHRINKS - MARKS
    while sum(len(text) + MARKS for _, text in items) > room:
        if most < 1:
            raise ProgramFailed("invalid_input", "context_characters: leaves no room for summaries", retryable=False)
        if rounds == MAX_ROUNDS:
            reason = f"outcomes: do not fit after {rounds} rounds of summaries"
            raise ProgramFailed("too_large", reason, retryable=False)
        rounds += 1
        texts = yield from _summaries(brief, items, part_system, part_room, spent, at_once=at_once)
        items = [(f"summary of part {number}", text[:most]) for number, text in enumerate(texts, 1)]
    data = "\n".join(as_data(name, text) for name, text in items)
    asked = (Message("system", system), Message("user", f"{data}\n\n{brief.task}"))
    written = yield from answer(Question(asked, brief.sampling, brief.check), spent)
    return ProgramResult({"answer": written.value, "rounds": rounds, "spent": spent.to_json()})


def _summaries(
    brief: Brief, items: list[tuple[str, str]], system: str, room: int, spent: Spent, *, at_once: int
) -> Asking[list[str]]:
    """One round: a summary for each part of what is there."""
    parts = list(_parts(items, room))
    if len(parts) > MAX_PARTS:
        raise ProgramFailed(
            "too_large", f"outcomes: {len(parts)} parts of {room} characters; at most {MAX_PARTS}", retryable=False
        )
    yield from say(f"summarising {len(parts)} parts\n")
    questions = [
        Question(
            (Message("system", system), Message("user", f"{part}\n\nThe task, for which you summarise: {brief.task}")),
            with_seed(replace(brief.sampling, stop=()), number),
            thread=f"part {number}",
        )
        for number, part in enumerate(parts, 1)
    ]
    answers = yield from answer_all(questions, spent, at_once=at_once)
    return [one.text if isinstance(one, Written) else one for one in answers]


def _parts(items: list[tuple[str, str]], room: int) -> Iterator[str]:
    """Blocks of data, as many in a part as fit; an item that is longer than a part is cut into several."""
    part: list[str] = []
    used = 0
    for name, text in items:
        for begin in range(0, max(1, len(text)), room - MARKS):
            piece = text[begin : begin + room - MARKS]
            label = name if begin == 0 else f"{name} (from character {begin})"
            block = as_data(label, piece)
            if part and used + len(block) + 1 > room:
                yield "\n".join(part)
                part, used = [], 0
            part.append(block)
            used += len(block) + 1
    if part:
        yield "\n".join(part)
