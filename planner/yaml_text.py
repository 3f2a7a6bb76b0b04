"""Writes plain JSON values as YAML that people like to edit, and that `document.py` reads back as equal values."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

from asterism.orchestrator.core.values import Json

_PLAIN: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./(-][A-Za-z0-9_./()-]*)*")
"""Text that no reader of YAML takes for anything else; whatever is not of this shape gets quotes."""
_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""Those that some reader of YAML takes for values, in any case."""
_ESCAPED: Final = re.compile(
    r"[\x00-\x1f\x7f-\xa0\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff0-\uffff]"
)
"""What YAML does not allow as it is (YAML 1.2.2 section 5.1), what it takes for an end of line, and what an editor does
not show: signs without width or that turn the direction of text."""
_LINE: Final = 100
"""Longest list or mapping that is written on one line, in characters."""
_FLOW_KEYS: Final = 2
"""Most keys of a mapping that is written on one line: `{$from: star, $path: [items]}`."""
_LONGEST_KEY: Final = 120
"""In characters, quoted; YAML asks for `? ` before keys of 128 in flow style and 1,024 in all (section 7.4)."""


def yaml_lines(value: Mapping[str, Json], indent: int = 0) -> Iterator[str]:
    """A mapping that is not empty, line by line without line breaks, each `indent` spaces further to the right."""
    for key, part in value.items():
        yield from _entry(key, part, indent)


def _entry(key: str, value: Json, indent: int) -> Iterator[str]:
    """One key and its value."""
    name = _scalar(key)
    if len(name) > _LONGEST_KEY:
        yield f"{' ' * indent}? {_quoted(key)}"
        yield from _behind(f"{' ' * indent}:", value, indent)
    else:
        yield from _behind(f"{' ' * indent}{name}:", value, indent)


def _behind(start: str, value: Json, indent: int) -> Iterator[str]:
    """A value behind its key or dash: on the same line where it fits, else below."""
    short = _flow(value, _LINE)
    if isinstance(value, str) and "\n" in value and _is_block(value):
        keep = {0: "-", 1: ""}.get(len(value) - len(value.rstrip("\n")), "+")
        yield f"{start} |{keep}"
        # A text in a list stands further to the right than its dash, as a text behind a key does.
        yield from (f"{' ' * (indent + 2)}{line}" if line else "" for line in value.removesuffix("\n").split("\n"))
    elif short is not None:
        yield f"{start} {short}"
    elif isinstance(value, Mapping):
        yield start
        yield from yaml_lines(value, indent + 2)
    elif isinstance(value, list | tuple):
        yield start
        for item in value:
            yield from _behind(f"{' ' * (indent + 2)}-", item, indent + 2)
    else:
        yield f"{start} {_scalar(value)}"


def _is_block(text: str) -> bool:
    """Whether it can be written line by line: nothing to escape, and no line that begins or ends with blanks."""
    lines = text.rstrip("\n").split("\n")
    if not lines[0] or lines[0].startswith(" "):
        return False
    return all(line == line.rstrip() and line.isprintable() and not _ESCAPED.search(line) for line in lines)


def _flow(value: Json, room: int) -> str | None:
    """The value on one line of at most `room` characters; None where it takes more, or has text of several lines."""
    if isinstance(value, Mapping):
        if len(value) > _FLOW_KEYS:
            return None
        open_, close, parts = "{", "}", [(f"{_scalar(key, in_flow=True)}: ", part) for key, part in value.items()]
    elif isinstance(value, list | tuple):
        open_, close, parts = "[", "]", [("", part) for part in value]
    else:
        text = _scalar(value, in_flow=True)
        return text if len(text) <= room else None
    written: list[str] = []
    room -= 2
    for name, part in parts:
        inner = _flow(part, room - len(name))
        if inner is None or (isinstance(part, str) and "\n" in part) or len(name) > _LONGEST_KEY:
            return None
        written.append(f"{name}{inner}")
        room -= len(name) + len(inner) + 2
    return f"{open_}{', '.join(written)}{close}" if room >= -2 else None


def _scalar(value: Json, *, in_flow: bool = False) -> str:
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) and value.lower() not in _WORDS else _quoted(value)
    return json.dumps(value)


def _quoted(text: str) -> str:
    """In double quotes, with the escapes that JSON and YAML share."""
    return _ESCAPED.sub(lambda found: f"\\u{ord(found.group()):04x}", json.dumps(text, ensure_ascii=False))
