"""Records as rows of the journal: what is searched for stands in columns, the rest in a body of JSON text."""

import json
from dataclasses import dataclass, replace
from typing import Final, get_args

from asterism.orchestrator.core.errors import Misconfigured
from asterism.orchestrator.core.ids import ConstellationId
from asterism.orchestrator.core.records import EditsApplied, Record, StarFinished
from asterism.orchestrator.core.values import Artifact
from asterism.store.plain import Coder, Convert, coder, fields_reader
from asterism.store.text import Writer, object_writer

VERSION: Final = 3
"""Of the bodies. A change that `decode` could not read raises it, and teaches `decode` to lift the older ones.

A body is written in the oldest version that can say it: 2 is that of a result which is an artifact,
3 that of edits, whose stars may have a quorum and whose conditions may have many terms.
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
_WRITERS: Final[dict[str, Writer]] = {
    cls.__name__: object_writer(cls, but=_COLUMNS, end='"v":3' if cls is EditsApplied else '"v":1')
    for cls in get_args(Record)
}
_WRITE_FINISHED: Final = object_writer(StarFinished, but=_COLUMNS)
_READERS: Final[dict[str, Convert]] = {cls.__name__: fields_reader(cls, but=_COLUMNS) for cls in get_args(Record)}


def encode(record: Record) -> JournalRow:
    """The row of a record."""
    kind = type(record).__name__
    if isinstance(record, StarFinished) and isinstance(record.result, Artifact):
        # Beside the result, whose every value is data.
        text = _WRITE_FINISHED(replace(record, result=None))
        body = f'{text[:-1]},"artifact":{_ARTIFACT.write(record.result)},"v":2}}'
    else:
        body = _WRITERS[kind](record)
    return JournalRow(record.seq, getattr(record, "constellation", None), kind, record.at, body)


def decode(row: JournalRow) -> Record:
    """The record that `encode` was given; raises Misconfigured where a newer asterism wrote it."""
    plain = json.loads(row.body)
    version = plain.pop("v")
    if version > VERSION or row.kind not in _READERS:
        reason = f"record {row.seq} ({row.kind}, version {version}) was written by a newer asterism; start that one"
        raise Misconfigured("store", reason)
    if version == 2:
        plain["result"] = _ARTIFACT.from_plain(plain.pop("artifact"))
    plain["seq"], plain["at"] = row.seq, row.at
    if row.constellation is not None:
        plain["constellation"] = row.constellation
    record: Record = _READERS[row.kind](plain)
    return record
