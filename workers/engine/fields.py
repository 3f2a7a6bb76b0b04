"""Reading typed fields out of the JSON files of a model folder; each error names the field. Pure: no torch."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import overload

from asterism.workers.engine.errors import UnsupportedModel


@overload
def whole(values: Mapping[str, object], field: str) -> int: ...
@overload
def whole(values: Mapping[str, object], field: str, default: int) -> int: ...
@overload
def whole(values: Mapping[str, object], field: str, default: None) -> int | None: ...
def whole(values: Mapping[str, object], field: str, default: int | str | None = "required") -> int | None:
    """A whole number; absent and null give the default, or are refused where there is none."""
    value = values.get(field)
    if value is None:
        if isinstance(default, str):
            raise UnsupportedModel(field, "is missing")
        return default
    if not isinstance(value, int) or isinstance(value, bool):
        raise UnsupportedModel(field, f"is {value!r}, not a whole number")
    return value


def real(values: Mapping[str, object], field: str, default: float | None = None) -> float:
    """A finite number above 0; absent and null give the default, or are refused where there is none."""
    value = values.get(field)
    if value is None:
        value = default
    if value is None:
        raise UnsupportedModel(field, "is missing")
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise UnsupportedModel(field, f"is {value!r}, not a number above 0")
    return float(value)


def flag(values: Mapping[str, object], field: str, default: bool) -> bool:
    """A truth value; absent and null give the default."""
    value = values.get(field)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise UnsupportedModel(field, f"is {value!r}, neither true nor false")
    return value


def ids(values: Mapping[str, object], field: str) -> tuple[int, ...]:
    """A token id or a list of them; absent and null give none."""
    value = values.get(field)
    found = [] if value is None else value if isinstance(value, list) else [value]
    numbers = tuple(item for item in found if isinstance(item, int) and not isinstance(item, bool))
    if len(numbers) != len(found):
        raise UnsupportedModel(field, f"is {value!r}, not a token id or a list of them")
    return numbers


def read_json(path: Path, *, limit: int) -> dict[str, object]:
    """The object in a JSON file of at most `limit` bytes; raises `UnsupportedModel` naming the file."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise UnsupportedModel(path.name, f"has more than {limit} bytes")
        values = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise UnsupportedModel(path.name, str(error)) from error
    if not isinstance(values, dict):
        raise UnsupportedModel(path.name, "is no object")
    return values
