"""JSON values as plain data: results, inputs and conditions are nothing else, and none is ever expanded."""

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""Treated as immutable by everyone who holds one."""

Path: TypeAlias = tuple[str | int, ...]
"""Steps into a value: a key of a mapping or an index of a list; `()` is the value itself."""

MAX_VALUE_BYTES: Final = 256 * 1024
"""Largest JSON text of one input or result, in bytes: what one frame carries without crowding out heartbeats."""


class Missing:
    """What `find_at` returns where the path leads nowhere; JSON null is a value, so None cannot say it."""


MISSING: Final = Missing()


def find_at(value: Json, path: Path) -> "Json | Missing":
    """The part of `value` that `path` leads to, or MISSING."""
    for step in path:
        if isinstance(step, str):
            if not isinstance(value, Mapping) or step not in value:
                return MISSING
            value = value[step]
        else:
            if not isinstance(value, list | tuple) or not 0 <= step < len(value):
                return MISSING
            value = value[step]
    return value


def json_bytes(value: Json) -> int:
    """About how long the JSON text of `value` is, in bytes: within a factor of two, without writing it."""
    size = 0
    pending: list[Json] = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, str):
            size += len(part) + 2
        elif isinstance(part, Mapping):
            size += 2
            for key, inner in part.items():
                size += len(key) + 4
                pending.append(inner)
        elif isinstance(part, list | tuple):
            size += 2 + len(part)
            pending.extend(part)
        else:
            size += 8
    return size
