"""Checks JSON values against a JSON schema, in bounded time, and says which field is wrong and why.

jsonschema-rs does it: it knows every draft, bounds its regular expressions, fetches no reference (`offline`), which
matters as schemas come from others' servers, and checks the arguments of `countdown.search` in 0.4 us where the pure
Python library takes 66. It is imported with the first schema: whoever only lists programs and tools does not need it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from asterism.agents.asks import Json

MAX_SCHEMA_CHARACTERS: Final = 64 * 1024
_BACKTRACKS: Final = 10_000
"""Of one regular expression on one text; the library's own million takes most of a second."""
_MAX_REASON: Final = 300
_IT: Final = "it"
"""Stands in a reason for the value, which may be long and is named by its field."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The first thing that is wrong with a value: a path such as `board.numbers[2]`, and the reason in words."""

    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


class JsonCheck:
    """One schema, compiled. Raises ValueError for what is no JSON schema, is too long, or refers outside of itself."""

    def __init__(self, schema: Mapping[str, Json], *, root: str = "arguments") -> None:
        import jsonschema_rs

        self._root = root
        try:
            text = json.dumps(schema, default=_plain)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"schema: is no JSON: {error}") from None
        if len(text) > MAX_SCHEMA_CHARACTERS:
            raise ValueError(f"schema: has {len(text)} characters; at most {MAX_SCHEMA_CHARACTERS}")
        self.text = text
        self.schema = schema
        self._accepts_objects = dict(schema) == {"type": "object"}
        try:
            self._validator = jsonschema_rs.validator_for(
                json.loads(text),
                offline=True,
                mask=_IT,
                pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKS),
            )
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
            raise ValueError(f"schema: {_first_line(error)}") from None

    def find_fault(self, value: Json) -> Fault | None:
        """What is wrong with `value`; None when nothing is."""
        if self._accepts_objects and isinstance(value, dict):
            return None  # a large object would be walked through for nothing
        try:
            error = next(iter(self._validator.iter_errors(value)), None)
        except (ValueError, TypeError, OverflowError, RecursionError) as refusal:
            return Fault(self._root, f"cannot be checked: {_first_line(refusal)}")
        return None if error is None else Fault(_path(self._root, error.instance_path), error.message[:_MAX_REASON])


def _path(root: str, steps: Sequence[str | int]) -> str:
    return root + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:_MAX_REASON]


def _plain(value: object) -> object:
    """Mappings and sequences that are none of json's own."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")
