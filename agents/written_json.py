"""Finds the JSON value in what a model wrote, where nothing kept it from writing more than that."""

import json
from collections.abc import Mapping
from typing import Final

from asterism.agents.asks import Json

MAX_WRITTEN: Final = 1024 * 1024
"""Characters that are looked at."""
_MOST_TRIES: Final = 64
_FENCE: Final = "```"


class NoJson(ValueError):
    """The text holds no such value; the message says so in words that a model can use."""


def read_written(text: str) -> Json:
    """The whole text as JSON; else what stands in its first fence; else the first object or list in it that is whole.

    Raises NoJson. NaN and the infinities are no JSON.
    """
    text = text[:MAX_WRITTEN].strip()
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
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    at = -1
    for _ in range(_MOST_TRIES):
        opens = [place for mark in "{[" if (place := text.find(mark, at + 1)) >= 0]
        if not opens:
            return None
        at = min(opens)
        try:
            return (decoder.raw_decode(text, at)[0],)
        except (ValueError, RecursionError):
            continue
    return None


def _loads(text: str) -> Json:
    try:
        value: Json = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise NoJson("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise NoJson(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except ValueError as error:
        raise NoJson(str(error)[:200]) from None
    return value


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is no JSON")
