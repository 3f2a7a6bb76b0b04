"""JSON as it is printed: to be read by programs, and harmless on a terminal."""

import json
import re
from typing import Final

from asterism.orchestrator.core.values import Json

_CONTROL: Final = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What `json.dumps` leaves raw though it can drive a terminal: DEL, the C1 controls (U+009B begins a sequence as ESC [
does, ECMA-48 section 5.4), separators of lines, and the signs that turn the direction of text (Unicode UAX #9)."""


def json_text(value: Json, *, indent: int | None = None) -> str:
    """Text that reads back as `value`. What a terminal would obey instead of show is escaped, other letters are not."""
    written = json.dumps(value, indent=indent, ensure_ascii=False)
    # Such a character stands only inside a string, where its escape means the same.
    return _CONTROL.sub(lambda found: f"\\u{ord(found.group()):04x}", written)
