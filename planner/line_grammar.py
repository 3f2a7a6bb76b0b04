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
import unicodedata
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
MAX_ID: Final = 60
"""Characters, as many as the orchestrator takes."""
_ID: Final = re.compile(rf"[A-Za-z][A-Za-z0-9_]{{0,{MAX_ID - 1}}}")
_HEAD: Final = re.compile(rf"[ \t]*(?:[-*+][ \t]+|[0-9]+[.)][ \t]+)?(?P<id>{_ID.pattern})[ \t]*=(?!=)[ \t]*")
"""Models like to number what they list."""
_PROGRAM: Final = re.compile(NAME_PATTERN)
_WORD: Final = re.compile(r"[A-Za-z_]+")
_KINDS: Final = {kind.value: kind for kind in PlanKind}
_CALL: Final = re.compile(
    rf"(?<![=!<>])=[ \t]*(?:{PlanKind.APPROVAL.value}\(|(?:{'|'.join(_KINDS)})\.{NAME_PATTERN}\()"
)
_BEFORE_CALL: Final = 300
"""Characters in which the id is looked for."""
_ANNOTATED: Final = re.compile(r"[\s>*`+-]*(?P<id>[^\s:>*`\"'(\[{]+)\s*:\s*[A-Za-z_][\w.]*(?:\[.*\])?")
"""`ID: TYPE`, as Python has it."""
_BEFORE: Final = re.compile(r"[\s>*`+\-(]*+(?:[0-9]+[.)])?[\s>*`(]*+(?:[A-Za-z]+(?: [0-9]+)?:)?[\s>*`(]*+")
"""What models put before the lines of a list, and around code; a label too, such as `Step 1:`. No part gives back
what it has taken: 3,000 spaces would else be shared out among them in every way, for 40 s."""
_LAST_WORD: Final = re.compile(r"[^\s:>*`\"'(\[{,;|]*$")


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
    return None if found is None or found["id"] in RESERVED else found["id"]


def begins_star(line: str) -> bool:
    """Whether the line can be nothing but the beginning of a star: for whoever waits for the end of another."""
    found = _HEAD.match(line)
    if found is None:
        odd = find_odd_head(line)
        return odd is not None and odd.begins_line
    kind = _WORD.match(line, found.end())
    return kind is not None and kind.group() in _KINDS and line[kind.end() : kind.end() + 1] in (".", "(")


@dataclass(frozen=True, slots=True)
class OddHead:
    """How a line begins that calls for a star but does not begin with an id of one."""

    written: str
    """What stands where the id belongs."""
    at: int
    """Where it stands."""
    call: int
    """Where the `=` behind it stands."""
    begins_line: bool
    """Whether nothing but marks stands before it: else a text may only speak of such a call."""

    @property
    def is_id(self) -> bool:
        """Whether a star may be called so: then something else stands before or behind it."""
        return _ID.fullmatch(self.written) is not None and self.written not in RESERVED

    @property
    def like(self) -> str:
        """An id that is as like it as can be."""
        plain = unicodedata.normalize("NFKD", self.written).encode("ascii", "ignore").decode()
        name = re.sub("[^A-Za-z0-9_]+", "_", plain).strip("_") or "star"
        return (name if name[0].isalpha() else f"s_{name}")[:MAX_ID]

    def explain(self, star: str) -> str:
        """What is wrong, for whoever is to write the line again for this star."""
        if self.is_id:
            return f"nothing else stands on the line of a star, and nothing between its id and =: write {star} = ..."
        shown = repr(self.written[:80])
        if self.written in RESERVED:
            return f"{shown} has a meaning of its own: write {star} in its place"
        return (
            f"an id is letters, digits and _, begins with a letter and has at most {MAX_ID} characters, which {shown}"
            f" does not: write {star} in its place"
        )


def find_odd_head(line: str) -> OddHead | None:
    """How a line begins that calls for a star, `= KIND.NAME(`, where `find_id` finds none; None for prose and comments.

    A star that a model means is not to be lost for its name, or for the marks around it.
    """
    if find_id(line) is not None or line.lstrip().startswith("#"):
        return None
    call = _CALL.search(line)
    if call is None:
        return None
    begin = max(0, call.start() - _BEFORE_CALL)
    before = line[begin : call.start()].rstrip(" \t:*`\"'")
    annotated = _ANNOTATED.fullmatch(before)
    if annotated is not None:
        return OddHead(annotated["id"], begin + annotated.start("id"), call.start(), begin == 0)
    word = _LAST_WORD.search(before)
    assert word is not None  # it matches nothing at all, too
    at = begin + word.start()
    return OddHead(word.group(), at, call.start(), at == begin or _BEFORE.fullmatch(line, 0, at) is not None)


def read_star(text: str, programs: frozenset[str] = frozenset()) -> StarText:
    """Read the text of one star, which may go over several lines; raises BadText.

    `gather.list(...)` names the program `list` or, where `programs` has that one only, `gather.list`.
    """
    head = _HEAD.match(text)
    if head is None:
        raise BadText(0, "a star begins with its id and =")
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
    return StarText(head["id"], draft.fields, draft.places)


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
