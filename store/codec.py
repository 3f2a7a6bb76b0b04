"""Records as rows of the journal: what is searched for stands in columns, the rest in a body of JSON text."""

import json
from dataclasses import dataclass, replace
from typing import Any, Final, get_args

from asterism.orchestrator.core.errors import Misconfigured
from asterism.orchestrator.core.ids import ConstellationId
from asterism.orchestrator.core.records import Record, StarFinished
from asterism.orchestrator.core.values import Artifact
from asterism.store.plain import Coder, coder, dump, fields_coder

VERSION: Final = 2
"""Of the bodies. A change that `decode` could not read raises it, and teaches `decode` to lift the older ones.

A body is written in the oldest version that can say it: 2 is that of a result which is an artifact.
"""


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One record as the journal keeps it."""

    seq: int
    constellation: ConstellationId | None
    """None for a record about a worker."""
    kind: str
    """The record's type."""
    at: float
    body: str
    """JSON object: the version `v` and all the other fields."""


_COLUMNS: Final = frozenset({"seq", "at", "constellation"})
_ARTIFACT: Final[Coder[Artifact]] = coder(Artifact)
_CODERS: Final[dict[str, Coder[Any]]] = {cls.__name__: fields_coder(cls, but=_COLUMNS) for cls in get_args(Record)}


def encode(record: Record) -> JournalRow:
    """The row of a record."""
    kind = type(record).__name__
    if isinstance(record, StarFinished) and isinstance(record.result, Artifact):
        plain = _CODERS[kind].to_plain(replace(record, result=None))
        # Beside the result, whose every value is data.
        plain["artifact"] = _ARTIFACT.to_plain(record.result)
        plain["v"] = 2
    else:
        plain = _CODERS[kind].to_plain(record)
        plain["v"] = 1
    return JournalRow(record.seq, getattr(record, "constellation", None), kind, record.at, dump(plain))


def decode(row: JournalRow) -> Record:
    """The record that `encode` was given; raises Misconfigured where a newer asterism wrote it."""
    plain = json.loads(row.body)
    version = plain.pop("v")
    if version > VERSION or row.kind not in _CODERS:
        reason = f"record {row.seq} ({row.kind}, version {version}) was written by a newer asterism; start that one"
        raise Misconfigured("store", reason)
    if version == 2:
        plain["result"] = _ARTIFACT.from_plain(plain.pop("artifact"))
    plain["seq"], plain["at"] = row.seq, row.at
    if row.constellation is not None:
        plain["constellation"] = row.constellation
    record: Record = _CODERS[row.kind].from_plain(plain)
    return record
