"""The journal's rows: every record comes back equal, and a row from the future is refused."""

from dataclasses import replace
from types import MappingProxyType
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.orchestrator.core.errors import Misconfigured
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.records import AttemptLeased, Record, StarFinished
from asterism.orchestrator.core.star import AttemptOutcome, StarState
from asterism.orchestrator.core.values import Json
from asterism.store.codec import VERSION, decode, encode
from asterism.store.plain import coder
from tests import strategies

LEASED = AttemptLeased(7, 1.5, ConstellationId("c1"), StarId("a"), 1, WorkerId("w"), FencingToken(3))


@pytest.mark.parametrize("kind", get_args(Record), ids=lambda kind: kind.__name__)
@settings(max_examples=30)
@given(data=st.data())
def test_every_record_comes_back_equal(kind: type[Record], data: st.DataObject) -> None:
    record = data.draw(strategies.records_by_type[kind])
    row = encode(record)
    assert decode(row) == record
    assert row.body.isascii()


def test_body_holds_neither_the_columns_nor_the_spaces() -> None:
    assert encode(LEASED).body == '{"star":"a","attempt":1,"worker":"w","fencing_token":3,"v":1}'


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
    assert decode(encode(record)) == record


def test_any_mapping_and_any_sequence_may_be_a_result() -> None:
    result: Json = MappingProxyType[str, Json]({"a": (1, 2), "b": MappingProxyType[str, Json]({})})
    record = StarFinished(
        1, 0.0, ConstellationId("c1"), StarId("a"), StarState.SUCCEEDED, result, None, None, None, False
    )
    read = decode(encode(record))
    assert isinstance(read, StarFinished)
    assert read.result == {"a": [1, 2], "b": {}}


def test_body_of_a_newer_version_is_refused() -> None:
    row = encode(LEASED)
    newer = replace(row, body=row.body.replace('"v":1', f'"v":{VERSION + 1}'))
    with pytest.raises(Misconfigured, match="newer asterism"):
        decode(newer)


def test_unknown_type_of_record_is_refused() -> None:
    with pytest.raises(Misconfigured, match="newer asterism"):
        decode(replace(encode(LEASED), kind="StarPainted"))


def test_type_without_a_coder_is_refused_when_the_coder_is_made() -> None:
    with pytest.raises(TypeError, match="no coder"):
        coder(complex)
