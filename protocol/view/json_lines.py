"""What `watch --output json` prints: records and streamed text as JSON, with the core's own names."""

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Final, get_args

from asterism.orchestrator.core.edits import Edit
from asterism.orchestrator.core.records import ConstellationRecord
from asterism.orchestrator.core.star import StarInput
from asterism.orchestrator.core.values import Json
from asterism.protocol.answers import StreamedText

_TAGGED: Final = frozenset({*get_args(ConstellationRecord), *get_args(Edit), *get_args(StarInput), StreamedText})
"""Alternatives: written as `{"add_star": {...}}`, so that a reader knows which one it has."""
_HUMP: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


def json_line(item: ConstellationRecord | StreamedText) -> Json:
    """One item of a watch: `{"star_finished": {"seq": 12, ...}}`."""
    return _plain(item)


def _plain(value: object) -> Json:
    match value:
        case Enum():
            return str(value.value)
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            return {str(key): _plain(part) for key, part in value.items()}
        case AbstractSet():
            return sorted(str(part) for part in value)
        case Sequence():
            return [_plain(part) for part in value]
        case _ if is_dataclass(value):
            inner: Json = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
            return {_HUMP.sub("_", type(value).__name__).lower(): inner} if type(value) in _TAGGED else inner
        case _:
            raise TypeError(f"{type(value).__name__} is no part of a record")
