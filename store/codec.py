"""Records as rows of the journal: what is searched for stands in columns, the rest in a body of JSON text."""

import json
from dataclasses import dataclass
from typing import Final, get_args

from asterism.orchestrator.core.errors import Misconfigured
from asterism.orchestrator.core.ids import ConstellationId
from asterism.orchestrator.core.records import Record
from asterism.store.plain import Convert, fields_reader
from asterism.store.text import Writer, object_writer

VERSION: Final = 1
"""Of the bodies. A change that `decode` could not read raises it, and teaches `decode` to lift the older ones."""


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
_WRITERS: Final[dict[str, Writer]] = {
    cls.__name__: object_writer(cls, but=_COLUMNS, end=f'"v":{VERSION}') for cls in get_args(Record)
}
_READERS: Final[dict[str, Convert]] = {cls.__name__: fields_reader(cls, but=_COLUMNS) for cls in get_args(Record)}


def encode(record: Record) -> JournalRow:
    """The row of a record."""
    kind = type(record).__name__
    return JournalRow(record.seq, getattr(record, "constellation", None), kind, record.at, _WRITERS[kind](record))


def decode(row: JournalRow) -> Record:
    """The record that `encode` was given; raises Misconfigured where a newer asterism wrote it."""
    plain = json.loads(row.body)
    version = plain.pop("v")
    if version > VERSION or row.kind not in _READERS:
        reason = f"record {row.seq} ({row.kind}, version {version}) was written by a newer asterism; start that one"
        raise Misconfigured("store", reason)
    plain["seq"], plain["at"] = row.seq, row.at
    if row.constellation is not None:
        plain["constellation"] = row.constellation
    record: Record = _READERS[row.kind](plain)
    return record
