"""Reads what the programs that talk to a model have in common from a star's inputs; a wrong field is named."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from asterism.agents.asks import Json, Sampling
from asterism.agents.chatting import DEFAULT_AT_ONCE, DEFAULT_CONTEXT, MAX_CONTEXT, MIN_CONTEXT
from asterism.agents.data import MARKS, RULE, as_data, as_text, shortened
from asterism.agents.declaring import invalid, read_mapping, read_number, read_sampling, read_text
from asterism.agents.json_check import JsonCheck

MAX_TASK: Final = 64 * 1024
DEFAULT_TOKENS: Final = 1024
MOST_AT_ONCE: Final = 64
_SHARED: Final = frozenset({"task", "instructions", "data", "outcomes", "schema", "sampling", "context_characters"})

_PART: Final = "data."


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """A task, what is known for it, and the form of its answer."""

    task: str
    instructions: str
    """For the system message; the request's author is trusted."""
    data: Mapping[str, Json]
    """By name; everything that others said is here."""
    check: JsonCheck | None
    """Of the answer; None: it is a text."""
    sampling: Sampling
    context: int
    """Characters of one conversation."""

    def system(self, job: str, more: str = "") -> str:
        """The system message of a program whose job this is."""
        return "\n".join(part for part in (job, self.instructions, RULE, more) if part)

    def data_within(self, most: int) -> str:
        """All data in marks, in so many characters: the longest are shortened first, and say so."""
        texts = {name: as_text(value) for name, value in self.data.items()}
        rest, share = most, 0
        by_size = sorted(texts, key=lambda name: len(texts[name]))
        for index, name in enumerate(by_size):
            share = max(0, rest // (len(by_size) - index) - MARKS)
            texts[name] = shortened(texts[name], share)
            rest -= len(texts[name]) + MARKS
        return "\n".join(as_data(name, text) for name, text in texts.items())


def read_brief(inputs: Mapping[str, Json], *own: str, answer_schema: bool = True) -> Brief:
    """The brief in a star's inputs; `own` are the fields that the program reads itself.

    An input `data.NAME` is the part NAME of `data`: so each may be taken from a result of its own. `outcomes`, as
    `{"$parents": true}` gives them, are data too, each under its star's name. Raises `ProgramFailed`.
    """
    known = {*_SHARED, *own} - (set() if answer_schema else {"schema"})
    parts = {name.removeprefix(_PART): value for name, value in inputs.items() if name.startswith(_PART)}
    unknown = sorted(name for name in inputs.keys() - known if not name.startswith(_PART))
    if unknown:
        raise invalid(unknown[0], f"is not known; there are {', '.join(sorted(known))}")
    task = read_text(inputs.get("task"), "task", MAX_TASK)
    if not task.strip():
        raise invalid("task", "is empty")
    data = {**read_mapping(inputs.get("data", {}), "data"), **parts}
    for star, outcome in read_mapping(inputs.get("outcomes", {}), "outcomes").items():
        data[star if star not in data else f"star {star}"] = outcome
    context = read_number(
        inputs.get("context_characters", DEFAULT_CONTEXT), "context_characters", MIN_CONTEXT, MAX_CONTEXT
    )
    instructions = read_text(inputs.get("instructions", ""), "instructions", MAX_TASK)
    if len(task) + len(instructions) > context // 2:
        raise invalid("task", f"has with its instructions more than half of the context of {context} characters")
    return Brief(
        task=task,
        instructions=instructions,
        data=data,
        check=read_check(inputs.get("schema"), "schema"),
        sampling=read_sampling(inputs.get("sampling", {}), "sampling", Sampling(max_tokens=DEFAULT_TOKENS)),
        context=context,
    )


def read_check(schema: Json, field: str) -> JsonCheck | None:
    """The check of a declared schema; None where none is. Raises `ProgramFailed`."""
    if schema is None:
        return None
    try:
        return JsonCheck(read_mapping(schema, field), root="answer")
    except ValueError as error:
        raise invalid(field, str(error)) from None


def read_at_once(inputs: Mapping[str, Json]) -> int:
    """How many texts are written at the same time."""
    return read_number(inputs.get("at_once", DEFAULT_AT_ONCE), "at_once", 1, MOST_AT_ONCE)
