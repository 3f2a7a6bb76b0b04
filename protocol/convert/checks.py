"""What may come in from outside: every check names the field that it refuses, and raises nothing but InvalidField."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Final, TypeVar

from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import NAME_PATTERN, is_name
from asterism.orchestrator.core.values import MAX_VALUE_BYTES, Json

MAX_TITLE: Final = 200
"""Longest title, file name or actor, in characters."""
MAX_CAPABILITY: Final = 128
"""Longest capability, label value or other machine-read word, in characters."""
MAX_REASON: Final = 4000
"""Longest text that says why, in characters; longer ones are clipped on the way out."""
MAX_JSON_DEPTH: Final = 64
"""Deepest nesting of a JSON value: far below Python's own limit, so that no later walk of a value can fail."""
MAX_GIVEN_DEPTH: Final = 60
"""Of a value that the orchestrator puts into others, as it does with results, decisions and descriptions: with what is
around it, none of those is deeper than MAX_JSON_DEPTH."""
MAX_COUNT: Final = 2**63 - 1
"""Largest integer of a field: what a database's integer holds."""
MAX_DIGITS: Final = 300
"""Longest integer of a JSON value, in digits: those that a float can still be compared with."""

_LONG_INTEGER = re.compile(rf"\d{{{MAX_DIGITS + 1}}}")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")

T = TypeVar("T")
W = TypeVar("W")


def placed(at: str, error: InvalidField) -> InvalidField:
    """The refusal of a part of what is at `at`.

    For whoever reads many: the places of parts that are not refused need not be put into words.
    """
    return InvalidField(f"{at}.{error.field}", error.reason)


def name(value: str, at: str) -> str:
    """A name of a star, worker, program, tool or constellation."""
    if not is_name(value):
        raise InvalidField(at, f"a name must match {NAME_PATTERN}")
    return value


def text(value: str, at: str, longest: int) -> str:
    """Any text of at most `longest` characters."""
    if len(value) > longest:
        raise InvalidField(at, f"must be at most {longest} characters, is {len(value)}")
    return value


def word(value: str, at: str, longest: int = MAX_CAPABILITY) -> str:
    """Printable text of 1 to `longest` characters."""
    if not 1 <= len(value) <= longest or not value.isprintable():
        raise InvalidField(at, f"must be 1 to {longest} printable characters")
    return value


def few(values: Sized, at: str, most: int) -> None:
    """At most `most` entries."""
    if len(values) > most:
        raise InvalidField(at, f"must have at most {most} entries, has {len(values)}")


def names(values: Sequence[str], at: str, most: int) -> tuple[str, ...]:
    """At most `most` names."""
    few(values, at, most)
    return tuple(name(value, f"{at}[{index}]") for index, value in enumerate(values))


def words(values: Sequence[str], at: str, most: int) -> tuple[str, ...]:
    """At most `most` printable words."""
    few(values, at, most)
    return tuple(word(value, f"{at}[{index}]") for index, value in enumerate(values))


def labels(values: Mapping[str, str], at: str) -> dict[str, str]:
    """At most 256 labels; a key has no `=`, which would make another label's capability of it."""
    few(values, at, 256)
    found = {word(key, at, 64): word(value, f"{at}[{key}]") for key, value in values.items()}
    if any("=" in key for key in found):
        raise InvalidField(at, "the key of a label must not contain '='")
    return found


def integer(value: int, at: str, least: int = 0, most: int = MAX_COUNT) -> int:
    """An integer from `least` to `most`."""
    if not least <= value <= most:
        raise InvalidField(at, f"must be {least} to {most}, is {value}")
    return value


def number(value: float, at: str, least: float = 0.0, most: float = math.inf) -> float:
    """A finite number from `least` to `most`."""
    if not math.isfinite(value) or not least <= value <= most:
        raise InvalidField(at, f"must be a finite number from {least:g} to {most:g}, is {value:g}")
    return value


def positive(value: float, at: str) -> float:
    """A finite number above zero."""
    if not math.isfinite(value) or value <= 0:
        raise InvalidField(at, f"must be a finite number above 0, is {value:g}")
    return value


def known(table: Mapping[W, T], value: W, at: str) -> T:
    """The entry of an enum's table; unspecified and unknown values have none."""
    found = table.get(value)
    if found is None:
        raise InvalidField(at, "must be one of the specified values")
    return found


def json_to_text(value: Json, at: str, limit: int | None = MAX_VALUE_BYTES) -> str:
    """Compact JSON text of at most `limit` bytes; refuses NaN, infinities, lone surrogates and what is no JSON."""
    try:
        written = _ENCODER.encode(value)
        size = len(written.encode())
    except RecursionError:
        raise InvalidField(at, f"must not be nested more than {MAX_JSON_DEPTH} deep") from None
    except (TypeError, ValueError) as error:
        raise InvalidField(at, f"is no JSON value: {error}") from None
    if limit is not None and size > limit:
        raise InvalidField(at, f"must be at most {limit} bytes of JSON, is {size}")
    if _may_be_deep(written, MAX_JSON_DEPTH):
        _check_depth(json.loads(written), at, MAX_JSON_DEPTH)
    return written


def _plain(value: object) -> Json:
    """What `json.dumps` cannot write by itself: mappings and sequences other than dict, list and tuple."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)


def _may_be_deep(written: str, most: int) -> bool:
    return len(written) > most and written.count("[") + written.count("{") > most


def _decode(decoder: json.JSONDecoder, written: str) -> Json:
    """As the decoder does, which looks for spaces around a value even where there are none."""
    value: Json
    try:
        value, end = decoder.raw_decode(written)
    except json.JSONDecodeError:
        end = -1
    if end != len(written):
        value = decoder.decode(written)
    return value


MAX_GROWTH: Final = 5
"""How many times longer a text can be once it has been read and written again: numbers with exponents are."""


def json_from_text(written: str, at: str, limit: int = MAX_VALUE_BYTES, depth: int = MAX_JSON_DEPTH) -> Json:
    """The value of JSON text; at most `limit` bytes, nested at most `depth` deep, finite numbers only."""
    if len(written) * 4 > limit and len(written.encode()) > limit:
        raise InvalidField(at, f"must be at most {limit} bytes of JSON")
    # A callback for each integer is slow, and digits may also be text: only a suspicious text pays for it.
    decoder = _WARY if len(written) > MAX_DIGITS and _LONG_INTEGER.search(written) else _QUICK
    try:
        value = _decode(decoder, written)
        if "\\" in written and _SURROGATE_ESCAPE.search(written):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise InvalidField(at, f"must not be nested more than {depth} deep") from None
    except ValueError as error:
        raise InvalidField(at, f"is not JSON: {error}") from None
    if _may_be_deep(written, depth):
        _check_depth(value, at, depth)
    if len(written) * MAX_GROWTH > limit:
        json_to_text(value, at, limit)  # 1e15 comes in as 4 characters and would have to leave as 18
    return value


def _finite(written: str) -> float:
    value = float(written)
    if not math.isfinite(value):
        raise ValueError(f"{written} is too large a number")
    return value


def _short_integer(written: str) -> int:
    if len(written) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS} digits")
    return int(written)


def _refuse_constant(written: str) -> float:
    raise ValueError(f"{written} is no JSON number")


_QUICK = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)
_WARY = json.JSONDecoder(parse_int=_short_integer, parse_float=_finite, parse_constant=_refuse_constant)


def _check_depth(value: Json, at: str, most: int) -> None:
    """Walks one level at a time, so that it cannot itself run out of stack."""
    level: list[list[Json] | dict[str, Json]] = [value] if isinstance(value, dict | list) else []
    for _ in range(most):
        level = [part for whole in level for part in _parts(whole) if isinstance(part, dict | list)]
        if not level:
            return
    raise InvalidField(at, f"must not be nested more than {most} deep")


def _parts(whole: "list[Json] | dict[str, Json]") -> Iterable[Json]:
    return whole.values() if isinstance(whole, dict) else whole


def optional_json_to_text(value: Json, at: str) -> str:
    """As `json_to_text`, and nothing for None."""
    return "" if value is None else json_to_text(value, at)


def optional_json_from_text(written: str, at: str, depth: int = MAX_JSON_DEPTH) -> Json:
    """As `json_from_text`, and None for nothing."""
    return json_from_text(written, at, depth=depth) if written else None


def clipped(reason: str) -> str:
    """A text that says why, short enough for the other side: a failure must never go unreported for its length."""
    return reason if len(reason) <= MAX_REASON else reason[: MAX_REASON - 1] + "…"
