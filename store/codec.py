"""Pages of the journal: records of one constellation that follow each other in one append, as one JSON text."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

from asterism.orchestrator.core.errors import Misconfigured
from asterism.orchestrator.core.ids import ConstellationId
from asterism.orchestrator.core.records import Record, StarFinished
from asterism.orchestrator.core.values import Artifact
from asterism.store.plain import Coder, Convert, coder, fields_reader
from asterism.store.text import TAG, Writer, object_writer

VERSION: Final = 4
"""Of the bodies. A change that `decode` could not read raises it, and teaches `decode` to lift the older ones. Before 3
a body was that of one record; a migration has lifted those. Before 4 a line was written apart from its star."""

MAX_PAGE_CHARS: Final = 64 * 1024
"""Of a page with more than one record: some hundred leases or ends. Whoever reads a few hundred records at a time may
need a part of a page, and parses all of it: a cancelled graph of 9,900 stars ended with one, and took 2 s to watch."""
_COLUMNS: Final = frozenset({"constellation"})
_RESULT: Final = frozenset({"result"})
_ARTIFACT: Final[Coder[Artifact]] = coder(Artifact)
_WRITERS: Final[dict[type[Record], Writer]] = {
    cls: object_writer(cls, but=_COLUMNS, tag=cls.__name__) for cls in get_args(Record)
}
_WRITE_PUT_ASIDE: Final = object_writer(StarFinished, but=_COLUMNS | _RESULT, tag=StarFinished.__name__)
_READERS: Final[dict[str, Convert]] = {cls.__name__: fields_reader(cls, but=_COLUMNS) for cls in get_args(Record)}
_READ_PUT_ASIDE: Final = fields_reader(StarFinished, but=_COLUMNS | _RESULT)


@dataclass(frozen=True, slots=True)
class Page:
    """Some records as the journal keeps them: one row, however many there are."""

    seq: int
    """Of the last of them: whoever reads on after a seq finds the pages with more by their key."""
    constellation: ConstellationId | None
    """None for records about workers."""
    body: str
    """JSON object: the version `v`, and all `records`."""


def encode(records: Sequence[Record]) -> list[Page]:
    """As few pages as hold them in their order, none much longer than MAX_PAGE_CHARS but for one long record."""
    pages: list[Page] = []
    texts: list[str] = []
    chars = 0
    of: ConstellationId | None = None
    last: Record | None = None
    for record in records:
        constellation = getattr(record, "constellation", None)
        text = _write(record)
        chars += len(text)
        if last is not None and (constellation != of or chars > MAX_PAGE_CHARS):
            pages.append(_page(last, of, texts))
            texts, chars = [], len(text)
        texts.append(text)
        last, of = record, constellation
    if last is not None:
        pages.append(_page(last, of, texts))
    return pages


def decode(page: Page, *, after_seq: int = 0) -> Iterator[Record]:
    """The records of a page after `after_seq`; raises Misconfigured where a newer asterism wrote it."""
    plain = json.loads(page.body)
    if plain["v"] > VERSION:
        raise _too_new(page, f"version {plain['v']}")
    for one in plain["records"]:
        if one["seq"] > after_seq:
            yield _read(page, one)


def _page(last: Record, constellation: ConstellationId | None, texts: Sequence[str]) -> Page:
    return Page(last.seq, constellation, f'{{"v":{VERSION},"records":[{",".join(texts)}]}}')


def _write(record: Record) -> str:
    if isinstance(record, StarFinished) and isinstance(record.result, Artifact):
        # In place of the result, whose every value is data.
        return f'{_WRITE_PUT_ASIDE(record)[:-1]},"artifact":{_ARTIFACT.write(record.result)}}}'
    return _WRITERS[type(record)](record)


def _read(page: Page, plain: dict[str, Any]) -> Record:
    kind = plain.pop(TAG)
    read = _READERS.get(kind)
    if read is None:
        raise _too_new(page, kind)
    if page.constellation is not None:
        plain["constellation"] = page.constellation
    artifact = plain.pop("artifact", None)
    if artifact is not None:
        plain["result"] = _ARTIFACT.from_plain(artifact)
        read = _READ_PUT_ASIDE
    record: Record = read(plain)
    return record


def _too_new(page: Page, what: str) -> Misconfigured:
    reason = f"the journal's page {page.seq} ({what}) was written by a newer asterism; start that one"
    return Misconfigured("store", reason)
