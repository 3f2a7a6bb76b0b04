"""Finds the JSON value in what a model wrote, where nothing kept it from writing more than that."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Final

from asterism.agents.asks import Json

MAX_WRITTEN: Final = 1024 * 1024
"""Characters that are looked at."""
MAX_DEPTH: Final = 60
"""Lists and objects in each other: a program puts some of its own around them, and a result has 64 at most."""
MAX_DIGITS: Final = 300
"""Of a whole number, as in a result: these two stand in `protocol/convert/checks.py` too, which no program imports."""
_MOST_TRIES: Final = 64
_FENCE: Final = "```"


class NoJson(ValueError):
    """The text holds no such value; the message says so in words that a model can use."""


def read_written(text: str) -> Json:
    """The whole text as JSON; else what stands in its first fence; else the first object or list in it that is whole.

    Raises NoJson, also for a value that no result can carry: with NaN, an infinity, a longer number than MAX_DIGITS or
    half a surrogate pair in it, or nested deeper than MAX_DEPTH.
    """
    value = _find_value(text[:MAX_WRITTEN].strip())
    fault = _find_fault(value)
    if fault is not None:
        raise NoJson(fault)
    return value


def _find_value(text: str) -> Json:
    """The value that stands there, whether or not a result can carry it."""
    first: NoJson | None = None
    for candidate in (text, _fenced(text)):
        if candidate is None:
            continue
        try:
            return _loads(candidate)
        except NoJson as error:
            first = first or error
    found = _first_inside(text)
    if found is None:
        raise first or NoJson("there is no JSON")
    return found[0]


def read_object(text: str) -> Mapping[str, Json]:
    """As `read_written`, for an object. Raises NoJson."""
    value = read_written(text)
    if not isinstance(value, Mapping):
        raise NoJson(f"it is a {type(value).__name__} where an object belongs")
    return value


def _fenced(text: str) -> str | None:
    """What stands between the first two fences, without the name of a language."""
    parts = text.split(_FENCE, 2)
    if len(parts) < 3:
        return None
    name, newline, rest = parts[1].partition("\n")
    return rest if newline and len(name.split()) <= 1 else parts[1]


def _first_inside(text: str) -> tuple[Json] | None:
    """The first object or list that can be read from where it opens, in a tuple, as null is a value too."""
    at = -1
    for _ in range(_MOST_TRIES):
        opens = [place for mark in "{[" if (place := text.find(mark, at + 1)) >= 0]
        if not opens:
            return None
        at = min(opens)
        try:
            return (_DECODER.raw_decode(text, at)[0],)
        except (ValueError, RecursionError):
            continue
    return None


def _loads(text: str) -> Json:
    try:
        value: Json = _DECODER.decode(text)
    except RecursionError:
        raise NoJson("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise NoJson(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    return value


def _find_fault(value: Json) -> str | None:
    """Why no result can carry the value; None where one can."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, dict | list)]
    if level:
        return f"it is nested deeper than {MAX_DEPTH} lists and objects"
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        return "a text in it has half of a surrogate pair"
    except ValueError:
        return "a number in it is too large, or is none"
    return None


def _inside(value: Json) -> Iterable[Json]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _whole_number(digits: str) -> float:
    """What is too long to be carried counts as infinite: reading it takes the square of its length."""
    return int(digits) if len(digits) <= MAX_DIGITS else math.inf


_DECODER: Final = json.JSONDecoder(parse_int=_whole_number)
