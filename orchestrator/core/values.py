"""JSON values as plain data: results, inputs and conditions are nothing else, and none is ever expanded."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""Treated as immutable by everyone who holds one."""

Path: TypeAlias = tuple[str | int, ...]
"""Steps into a value: a key of a mapping or an index of a list; `()` is the value itself."""

MAX_VALUE_BYTES: Final = 256 * 1024
"""Largest JSON text of one input or result, in bytes: what one frame carries without crowding out heartbeats."""
MAX_INLINE_BYTES: Final = 64 * 1024
"""Largest JSON text of a result that a worker leaves in the graph, in bytes; a longer one becomes an artifact."""
MAX_ARTIFACT_BYTES: Final = 64 * 1024 * 1024
"""Largest artifact unless an orchestrator says otherwise, and the most that one assignment fetches, in bytes."""

_SHA256: Final = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Artifact:
    """A result that lies outside the graph: its JSON text in UTF-8, under the hash of its bytes.

    It is a result as a whole and never a part of a JSON value, so that no result can be made to look like one.
    """

    sha256: str
    """64 hexadecimal digits in lower case."""
    size: int
    """Bytes."""

    def __str__(self) -> str:
        return f"sha256:{self.sha256}"


Result: TypeAlias = "Json | Artifact"
"""What a star gives: a value in the graph, or where the value lies."""


def is_sha256(text: str) -> bool:
    """Whether it is a hash as an `Artifact` has it."""
    return _SHA256.fullmatch(text) is not None


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
