"""One star of a plan as a model writes it: a call, and what is said of it in further calls behind.

    fetch = tool.http.get(url="https://example.org/prices.json")
    rates = map.agent.answer(prompt="Is this a good price?", offer=item.price).over(fetch.items)
    check = approval(question="Publish this?", shows=rates).after(fetch)
    post  = tool.http.post(url="https://example.org/report", body=rates).when(check, result.approved)

    star      = ID "=" KIND [ "." PROGRAM ] "(" [ NAME "=" value { "," NAME "=" value } ] ")" { "." WORD "(" ... ")" }
    value     = JSON | reference
    reference = ID { ".key" | "[0]" | '["any key"]' } | "parents" | in a map: "item" ... | "index"

A name without quotes is a reference, and a text in quotes is data, whatever stands in it. Of the forms that were
weighed (a JSON object a line, numbered steps with `$1`), a call says this difference in the fewest tokens and with
nothing to escape, and it is what models have read most of: Python. That is an argument and no measurement.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from asterism.orchestrator.core.ids import NAME_PATTERN
from asterism.orchestrator.core.values import Json, Path
from asterism.planner.draft import Draft, read_arguments
from asterism.planner.modifiers import MODIFIERS
from asterism.planner.stars import PlanKind
from asterism.planner.tokens import WORDS, BadText, TokenKind
from asterism.planner.written_values import Words

RESERVED: Final = frozenset({"item", "index", "parents", "plan", *WORDS})
"""Names that no star of a plan may have."""
_HEAD: Final = re.compile(
    r"[ \t]*(?:[-*+][ \t]+|[0-9]+[.)][ \t]+)?(?P<id>[A-Za-z][A-Za-z0-9_]{0,59})[ \t]*=(?!=)[ \t]*"
)
"""Models like to number what they list."""
_PROGRAM: Final = re.compile(NAME_PATTERN)
_WORD: Final = re.compile(r"[A-Za-z_]+")
_KINDS: Final = {kind.value: kind for kind in PlanKind}


@dataclass(frozen=True, slots=True)
class StarText:
    """What one star's text says, in the form of a plan file; nothing of it has been validated."""

    id: str
    fields: Mapping[str, Json]
    places: Mapping[Path, int]
    """Where in the text the parts of `fields` stand."""


def find_id(line: str) -> str | None:
    """The id of the star that begins on this line; None where none does."""
    found = _HEAD.match(line)
    return None if found is None else found["id"]


def begins_star(line: str) -> bool:
    """Whether the line can be nothing but the beginning of a star: for whoever waits for the end of another."""
    found = _HEAD.match(line)
    if found is None:
        return False
    kind = _WORD.match(line, found.end())
    return kind is not None and kind.group() in _KINDS and line[kind.end() : kind.end() + 1] in (".", "(")


def read_star(text: str, programs: frozenset[str] = frozenset()) -> StarText:
    """Read the text of one star, which may go over several lines; raises BadText.

    `gather.list(...)` names the program `list` or, where `programs` has that one only, `gather.list`.
    """
    head = _HEAD.match(text)
    if head is None:
        raise BadText(0, "a star begins with its id and =")
    name = head["id"]
    if name in RESERVED:
        raise BadText(head.start("id"), f"{name!r} has a meaning of its own; take another id")
    kind, at = _read_kind(text, head.end())
    draft = Draft(kind, head.end())
    if kind is PlanKind.MAP:
        start = _after_dot(text, at, "map.tool.NAME(...) or map.agent.NAME(...)")
        of_each, at = _read_kind(text, start)
        draft.put(("each", "kind"), of_each.value, start)
    if kind is not PlanKind.APPROVAL or text[at : at + 1] == ".":
        start = _after_dot(text, at, f"{text[head.end() : at]}.NAME(...)")
        program = _PROGRAM.match(text, start)
        if program is None:
            raise BadText(start, "the name of a program or tool is missing")
        name_of_program = program.group()
        whole = text[text.rindex("=", 0, start) + 1 : program.end()].strip().removeprefix("map.")
        if name_of_program not in programs and whole in programs:
            name_of_program = whole
        draft.put((*draft.work, "program"), name_of_program, start)
        at = program.end()
    words = Words(text, at)
    words.take_sign("(", "a call")
    read_arguments(words, draft, (*draft.work, "inputs"))
    while words.has_sign("."):
        word = words.take()
        modifier = MODIFIERS.get(word.text) if word.kind is TokenKind.NAME else None
        if modifier is None:
            raise BadText(word.at, f"there is no .{word.text[:40]}(...); there are {', '.join(MODIFIERS)}")
        words.take_sign("(", f".{word.text}")
        modifier(words, draft, word.at)
    if words.next.kind is not TokenKind.END:
        raise BadText(words.next.at, f"the star ends here, and {words.next.shown} follows")
    return StarText(name, draft.fields, draft.places)


def _read_kind(text: str, at: int) -> tuple[PlanKind, int]:
    """The kind that stands at `at`, and the character behind it."""
    found = _WORD.match(text, at)
    if found is None or found.group() not in _KINDS:
        shown = text[at : at + 20].split("(")[0].strip() or "nothing"
        raise BadText(at, f"{shown!r} is no kind of star; there are {', '.join(_KINDS)}, each followed by .NAME(...)")
    return _KINDS[found.group()], found.end()


def _after_dot(text: str, at: int, form: str) -> int:
    if text[at : at + 1] != ".":
        raise BadText(at, f"write {form}")
    return at + 1
