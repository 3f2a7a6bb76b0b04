"""Reads YAML and JSON text into plain JSON values, within limits, and remembers where in the text each value stands."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn, TypeAlias

import yaml

from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.values import Json, Path

MAX_DEPTH: Final = 64
"""Deepest nesting: more than any plan needs, and far from the interpreter's recursion limit."""
MAX_INT_DIGITS: Final = 300
"""Longest whole number, in digits: a longer one can be compared with no float, and the wire carries none."""

# The parser written in C, where PyYAML was built with it, is some eight times faster; both give the same events.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STRING_TAG: Final = "tag:yaml.org,2002:str"
_TAGS: Final = frozenset(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map"))


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a text; both count from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


@dataclass(frozen=True, slots=True)
class Document:
    """A value, and the places of its parts: empty for JSON, whose parser does not tell them."""

    value: Json
    positions: Mapping[Path, Position] = field(default_factory=dict)

    def refusal(self, path: Path, reason: str) -> InvalidField:
        """The error that names a part by its place in the text, or else by its path."""
        at = path
        while at and at not in self.positions:
            at = at[:-1]
        if at in self.positions:
            return InvalidField(str(self.positions[at]), f"{format_path(path)}: {reason}" if path else reason)
        return InvalidField(format_path(path) or "document", reason)


def format_path(path: Path) -> str:
    """`("stars", 0, "kind")` as `stars[0].kind`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def read_document(text: str) -> Document:
    """Read JSON when the text begins with a brace, else YAML; raises InvalidField with line and column."""
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        return Document(_read_json(text))
    return _read_yaml(text)


def plain(value: object, *, field: str, levels: int = MAX_DEPTH) -> Json:
    """A copy of a JSON value made of dicts and lists alone.

    Raises InvalidField where it nests deeper than `levels`, or holds what JSON has no text for.
    """
    match value:
        case None | bool() | int():
            return value
        case str():
            return _unicode(value, field=field)
        case float() if math.isfinite(value):
            return value
        case Mapping() | list() | tuple() if levels == 0:
            raise InvalidField(field, f"nests deeper than {MAX_DEPTH} levels")
        case Mapping():
            if not all(isinstance(key, str) for key in value):
                raise InvalidField(field, "a key must be text")
            return {
                _unicode(key, field=field): plain(item, field=field, levels=levels - 1) for key, item in value.items()
            }
        case list() | tuple():
            return [plain(item, field=field, levels=levels - 1) for item in value]
        case _:
            raise InvalidField(field, f"{str(value)[:40]!r} is no JSON value")


def _unicode(text: str, *, field: str) -> str:
    """`text` itself; JSON can escape half a surrogate pair, which no UTF-8 can carry."""
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise InvalidField(field, "text holds half of a surrogate pair")
    return text


def _read_json(text: str) -> Json:
    def refuse_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        found = dict(pairs)
        if len(found) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            twice = next(key for key, count in counts.items() if count > 1)
            raise InvalidField("document", f"the key {twice!r} is given twice in one object")
        return found

    def refuse_constant(name: str) -> NoReturn:
        raise InvalidField("document", f"{name} is no JSON number")

    def read_integer(digits: str) -> int:
        if len(digits.removeprefix("-")) > MAX_INT_DIGITS:
            raise InvalidField("document", f"a whole number has at most {MAX_INT_DIGITS} digits")
        return int(digits)

    try:
        value: object = json.loads(
            text, object_pairs_hook=refuse_duplicates, parse_int=read_integer, parse_constant=refuse_constant
        )
    except json.JSONDecodeError as error:
        raise InvalidField(str(Position(error.lineno, error.colno)), f"unreadable JSON: {error.msg}") from None
    except RecursionError:
        raise InvalidField("document", f"nests deeper than {MAX_DEPTH} levels") from None
    return plain(value, field="document")


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not been read."""

    path: Path
    value: list[Json] | dict[str, Json]
    key: str | None = None
    """The key whose value comes next."""


Scalar: TypeAlias = bool | int | float | str | None


def _read_yaml(text: str) -> Document:
    """Fold the parser's events with an own stack: no recursion, no tags, no aliases, no keys but text."""
    positions: dict[Path, Position] = {}
    stack: list[_Open] = []
    root: list[Json] = []
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            match event:
                case yaml.DocumentStartEvent() if root:
                    raise InvalidField(str(_position(event)), "a second document begins; give one")
                case yaml.AliasEvent():
                    raise InvalidField(str(_position(event)), "aliases are not read; write the value out")
                case yaml.CollectionStartEvent():
                    if len(stack) >= MAX_DEPTH:
                        raise InvalidField(str(_position(event)), f"nests deeper than {MAX_DEPTH} levels")
                    value: list[Json] | dict[str, Json] = [] if isinstance(event, yaml.SequenceStartEvent) else {}
                    _check_tag(event, event.tag)
                    path = _place(stack, root, event, value)
                    positions[path] = _position(event)
                    stack.append(_Open(path, value))
                case yaml.CollectionEndEvent():
                    stack.pop()
                case yaml.ScalarEvent():
                    top = stack[-1] if stack else None
                    if top is not None and isinstance(top.value, dict) and top.key is None:
                        top.key = _key(event, top.value)
                        positions[(*top.path, top.key)] = _position(event)
                    else:
                        path = _place(stack, root, event, _scalar(event))
                        positions[path] = _position(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "document" if mark is None else str(Position(mark.line + 1, mark.column + 1))
        raise InvalidField(place, f"unreadable YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:  # the reader's own, for characters that YAML does not allow
        raise InvalidField("document", f"unreadable YAML: {error}") from None
    return Document(root[0] if root else None, positions)


def _position(event: yaml.Event) -> Position:
    mark = event.start_mark
    assert mark is not None  # every event that a parser makes has one
    return Position(mark.line + 1, mark.column + 1)


def _check_tag(event: yaml.Event, tag: str | None) -> None:
    if tag is not None and tag != "!" and tag not in _TAGS:
        raise InvalidField(str(_position(event)), f"the tag {tag} is not read; only plain values are")


def _place(stack: list[_Open], root: list[Json], event: yaml.Event, value: Json) -> Path:
    """Put a value where the innermost open collection wants it; gives its path."""
    if not stack:
        root.append(value)
        return ()
    top = stack[-1]
    if isinstance(top.value, list):
        top.value.append(value)
        return (*top.path, len(top.value) - 1)
    if top.key is None:
        raise InvalidField(str(_position(event)), "a key must be text")
    key, top.key = top.key, None
    top.value[key] = value
    return (*top.path, key)


def _key(event: yaml.ScalarEvent, found: Mapping[str, Json]) -> str:
    """A key is text as it is written: `1` and `true` are keys like any other."""
    _check_tag(event, event.tag)
    if event.value in found:
        raise InvalidField(str(_position(event)), f"the key {event.value!r} is given twice in one mapping")
    return str(event.value)


def _scalar(event: yaml.ScalarEvent) -> Scalar:
    """Null, true, false and decimals as in YAML 1.2; all else is text: `no`, `on`, dates, `0x1F`, what is quoted."""
    _check_tag(event, event.tag)
    text: str = event.value
    if not event.implicit[0] or event.tag == _STRING_TAG:
        return text
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    digits = text[1:] if text[0] in "+-" else text
    if digits.isascii() and digits.isdigit():
        if len(digits) > MAX_INT_DIGITS:
            raise InvalidField(str(_position(event)), f"a whole number has at most {MAX_INT_DIGITS} digits")
        return int(text)
    if digits[:1].isdigit() or (digits[:1] == "." and digits[1:2].isdigit()):
        return _decimal(event, text)
    return text


def _decimal(event: yaml.ScalarEvent, text: str) -> float | str:
    if "_" in text or not text.isascii():
        return text
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        raise InvalidField(str(_position(event)), f"{text} is too large for a number")
    return number
