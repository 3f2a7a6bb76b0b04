"""The journal's rows: every record comes back equal, and a row from the future is refused."""

from dataclasses import replace
from types import MappingProxyType
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.orchestrator.core.condition import Comparison, Condition
from asterism.orchestrator.core.edits import AddLine, AddStar, Edit, UpdateStar
from asterism.orchestrator.core.errors import Misconfigured
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.line import TaskStarLine
from asterism.orchestrator.core.records import AttemptLeased, EditsApplied, Record, StarFinished
from asterism.orchestrator.core.star import AttemptOutcome, RetryPolicy, StarKind, StarSpec, StarState, Timeouts
from asterism.orchestrator.core.values import Json
from asterism.store.codec import MAX_PAGE_CHARS, VERSION, Page, decode, encode
from asterism.store.plain import coder
from tests import strategies

LEASED = AttemptLeased(7, 1.5, ConstellationId("c1"), StarId("a"), 1, WorkerId("w"), FencingToken(3))


def there_and_back(record: Record) -> Record:
    """What is read of a page of one."""
    (page,) = encode([record])
    (read,) = decode(page)
    return read


@pytest.mark.parametrize("kind", get_args(Record), ids=lambda kind: kind.__name__)
@settings(max_examples=30)
@given(data=st.data())
def test_every_record_comes_back_equal(kind: type[Record], data: st.DataObject) -> None:
    record = data.draw(strategies.records_by_type[kind])
    (page,) = encode([record])
    assert list(decode(page)) == [record]
    assert page.body.isascii()


@given(records=st.lists(st.one_of(*strategies.records_by_type.values()), max_size=12))
def test_pages_hold_the_records_in_their_order(records: list[Record]) -> None:
    pages = encode(records)
    assert [record for page in pages for record in decode(page)] == records
    assert len(pages) <= len(records)


def test_neighbours_of_one_constellation_share_a_page() -> None:
    other = replace(LEASED, seq=9, constellation=ConstellationId("c2"))
    pages = encode([LEASED, replace(LEASED, seq=8), other, replace(LEASED, seq=10)])
    assert [(page.seq, page.constellation) for page in pages] == [(8, "c1"), (9, "c2"), (10, "c1")]


def test_neighbours_that_are_many_fill_several_pages_of_a_bounded_length() -> None:
    records: list[Record] = [replace(LEASED, seq=seq) for seq in range(1, 5_001)]
    pages = encode(records)
    lengths = [len(page.body) for page in pages]
    assert len(pages) > 2
    assert all(MAX_PAGE_CHARS / 2 < length < MAX_PAGE_CHARS * 1.1 for length in lengths[:-1])
    assert [record for page in pages for record in decode(page)] == records


def test_record_that_is_longer_than_a_page_has_one_of_its_own() -> None:
    spec = StarSpec(StarId("a"), StarKind.TOOL, "t", title="x" * MAX_PAGE_CHARS)
    long = EditsApplied(8, 0.5, ConstellationId("c1"), 1, "policy", (AddStar(spec),))
    pages = encode([LEASED, long, replace(LEASED, seq=9), replace(LEASED, seq=10)])
    assert [[record.seq for record in decode(page)] for page in pages] == [[7], [8], [9, 10]]


def test_page_is_read_from_a_seq_on() -> None:
    records: list[Record] = [LEASED, replace(LEASED, seq=8), replace(LEASED, seq=10)]
    (page,) = encode(records)
    assert [list(decode(page, after_seq=seq)) for seq in (6, 7, 9, 10)] == [records, records[1:], records[2:], []]


def test_body_holds_neither_the_constellation_nor_spaces() -> None:
    (page,) = encode([LEASED])
    assert page.body == (
        '{"v":4,"records":[{"type":"AttemptLeased","seq":7,"at":1.5,"star":"a","attempt":1,"worker":"w",'
        '"fencing_token":3}]}'
    )


def test_body_holds_nothing_that_is_empty_by_default() -> None:
    spec = StarSpec(StarId("a"), StarKind.TOOL, "t", timeouts=Timeouts(None, 600.0), retry=RetryPolicy())
    (page,) = encode([EditsApplied(1, 0.5, ConstellationId("c1"), 1, "policy", (AddStar(spec),))])
    assert page.body == (
        '{"v":4,"records":[{"type":"EditsApplied","seq":1,"at":0.5,"revision":1,"by":"policy","edits":[{"type":"AddStar",'
        '"spec":{"id":"a","kind":"tool","program":"t","timeouts":{"start_to_close_s":600.0},'
        '"retry":{"max_attempts":3,"backoff_s":0.5,"multiplier":2.0,"max_backoff_s":30.0,"jitter":0.5}}}]}]}'
    )


@pytest.mark.parametrize(
    "value", [UpdateStar(StarId("a"), priority=0, requires=frozenset(), title=""), Timeouts(None, None)]
)
def test_what_is_empty_and_no_default_is_written(value: UpdateStar | Timeouts) -> None:
    kind: Any = type(value)
    assert coder(kind).read(coder(kind).write(value)) == value


def test_plain_lines_are_written_with_their_star() -> None:
    a, b, c = StarId("a"), StarId("b"), StarId("c")
    edits: tuple[Edit, ...] = (
        AddStar(StarSpec(a, StarKind.TOOL, "t")),
        AddStar(StarSpec(b, StarKind.TOOL, "t"), (a, c)),
        AddLine(TaskStarLine(b, c)),
    )
    record = EditsApplied(1, 0.5, ConstellationId("c1"), 1, "policy", edits)
    (page,) = encode([record])
    assert (page.body.count('"after"'), page.body.count('"after":["a","c"]')) == (1, 1)
    assert there_and_back(record) == record


def test_body_of_the_third_version_is_read() -> None:
    body = (
        '{"v":3,"records":[{"type":"EditsApplied","seq":1,"at":0.5,"revision":1,"by":"policy","edits":['
        '{"type":"AddLine","line":{"parent":"a","child":"b","kind":"success","condition":null}}],"reason":""}]}'
    )
    line = AddLine(TaskStarLine(StarId("a"), StarId("b")))
    read = list(decode(Page(1, ConstellationId("c1"), body)))
    assert read == [EditsApplied(1, 0.5, ConstellationId("c1"), 1, "policy", (line,))]


def test_text_that_looks_like_a_tag_stays_text() -> None:
    record = StarFinished(
        1,
        0.0,
        ConstellationId("c1"),
        StarId("a"),
        StarState.SUCCEEDED,
        {"type": "StarError", "v": 9},
        None,
        1,
        AttemptOutcome.SUCCEEDED,
        True,
    )
    assert there_and_back(record) == record


def test_any_mapping_and_any_sequence_may_be_a_result() -> None:
    result: Json = MappingProxyType[str, Json]({"a": (1, 2), "b": MappingProxyType[str, Json]({})})
    record = StarFinished(
        1, 0.0, ConstellationId("c1"), StarId("a"), StarState.SUCCEEDED, result, None, None, None, False
    )
    read = there_and_back(record)
    assert isinstance(read, StarFinished)
    assert read.result == {"a": [1, 2], "b": {}}


def test_body_of_a_newer_version_is_refused() -> None:
    (page,) = encode([LEASED])
    newer = replace(page, body=page.body.replace(f'"v":{VERSION}', f'"v":{VERSION + 1}'))
    with pytest.raises(Misconfigured, match="newer asterism"):
        list(decode(newer))


def test_unknown_type_of_record_is_refused() -> None:
    (page,) = encode([LEASED])
    with pytest.raises(Misconfigured, match=r"StarPainted.*newer asterism"):
        list(decode(replace(page, body=page.body.replace("AttemptLeased", "StarPainted"))))


def test_type_without_a_coder_is_refused_when_the_coder_is_made() -> None:
    with pytest.raises(TypeError, match="no coder"):
        coder(complex)


def test_condition_of_the_first_version_is_lifted() -> None:
    condition = Condition.of(("result", "x"), Comparison.EQ, 1)
    read = coder(Condition).read
    assert read('{"path":["result","x"],"comparison":"eq","value":1}') == condition
    assert read(coder(Condition).write(condition)) == condition
