"""What is sent to servers of different kinds, when they are asked again, and how much they may say."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, get_args

import pytest
from httpx2 import RemoteProtocolError
from hypothesis import given
from hypothesis import strategies as st

from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.http_bounds import bounded
from asterism.workers.engine.http_dialects import Api, Dialect, extra_fields, is_strict
from asterism.workers.engine.http_retry import Patience, read_retry_after
from asterism.workers.engine.http_stream import Price
from asterism.workers.engine.seam import GenerationEnd, GenerationRequest, Grammar

ASK = GenerationRequest(id="a", prompt="go", max_tokens=7)
SCHEMA = (
    '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false}'
)
LOOSE = '{"type": "object", "properties": {"a": {}}}'
CHAT_SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": json.loads(SCHEMA), "strict": True}}


def sent(request: GenerationRequest, dialect: Dialect, api: Api = "chat", **options: Any) -> dict[str, object]:
    fields = extra_fields(request, dialect, api, **options)
    assert fields.pop("stream_options") in (
        {"include_usage": True},
        {"include_usage": True, "continuous_usage_stats": True},
    )
    limits = [fields.pop(name) for name in ("max_tokens", "max_completion_tokens") if name in fields]
    assert limits == [max(1, request.max_tokens)]
    return fields


@pytest.mark.parametrize(
    ("dialect", "api", "grammar", "expected"),
    [
        ("vllm", "chat", Grammar("json_schema", SCHEMA), {"response_format": CHAT_SCHEMA}),
        ("vllm", "completions", Grammar("json_schema", SCHEMA), {"structured_outputs": {"json": SCHEMA}}),
        ("vllm", "chat", Grammar("regex", "a+"), {"structured_outputs": {"regex": "a+"}}),
        ("vllm", "chat", Grammar("lark", "start: A"), {"structured_outputs": {"grammar": "start: A"}}),
        ("sglang", "chat", Grammar("json_schema", SCHEMA), {"response_format": CHAT_SCHEMA}),
        ("sglang", "completions", Grammar("json_schema", SCHEMA), {"json_schema": SCHEMA}),
        ("sglang", "chat", Grammar("regex", "a+"), {"regex": "a+"}),
        ("llama.cpp", "chat", Grammar("json_schema", SCHEMA), {"response_format": CHAT_SCHEMA}),
        ("llama.cpp", "completions", Grammar("json_schema", SCHEMA), {"json_schema": json.loads(SCHEMA)}),
        ("llama.cpp", "chat", Grammar("regex", "a/b"), {"grammar": "%llguidance {}\nstart: /a\\/b/"}),
        ("llama.cpp", "completions", Grammar("lark", "start: A"), {"grammar": "%llguidance {}\nstart: A"}),
        ("openai", "chat", Grammar("json_schema", SCHEMA), {"response_format": CHAT_SCHEMA}),
        ("plain", "chat", Grammar("json_schema", SCHEMA), {"response_format": CHAT_SCHEMA}),
    ],
)
def test_each_kind_gets_a_grammar_as_it_names_it(
    dialect: Dialect, api: Api, grammar: Grammar, expected: dict[str, object]
) -> None:
    assert sent(replace(ASK, grammar=grammar), dialect, api) == expected


@pytest.mark.parametrize(
    ("dialect", "changes", "field"),
    [
        ("openai", {"top_k": 3}, "top_k"),
        ("plain", {"min_p": 0.1}, "min_p"),
        ("plain", {"repetition_penalty": 1.1}, "repetition_penalty"),
        ("sglang", {"banned": ("x",)}, "banned"),
        ("llama.cpp", {"banned": ("x",)}, "banned"),
        ("openai", {"grammar": Grammar("regex", "a")}, "grammar"),
        ("plain", {"grammar": Grammar("lark", "a")}, "grammar"),
        ("sglang", {"grammar": Grammar("lark", "a")}, "grammar"),
        ("vllm", {"grammar": Grammar("json_schema", "{")}, "grammar"),
        ("vllm", {"grammar": Grammar("json_schema", "[" * 100_000)}, "grammar"),
    ],
)
def test_what_a_kind_does_not_have_is_refused(dialect: Dialect, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        extra_fields(replace(ASK, **changes), dialect, "chat")
    assert refused.value.field == field


def test_hints_are_left_out_where_nobody_understands_them() -> None:
    hinted = replace(ASK, priority=2, keep_s=3.0)
    assert sent(hinted, "vllm") == {"priority": -2}
    assert all(sent(hinted, dialect) == {} for dialect in get_args(Dialect) if dialect != "vllm")


def test_the_hosted_chat_has_a_name_of_its_own_for_the_limit() -> None:
    assert extra_fields(ASK, "openai", "chat")["max_completion_tokens"] == 7
    assert extra_fields(ASK, "openai", "completions")["max_tokens"] == 7
    assert extra_fields(replace(ASK, max_tokens=0), "plain", "chat")["max_tokens"] == 1


def test_a_server_without_schemas_gets_none() -> None:
    bound = replace(ASK, grammar=Grammar("json_schema", SCHEMA))
    assert sent(bound, "plain", has_schemas=False) == {}
    with pytest.raises(InvalidRequest):
        sent(replace(ASK, grammar=Grammar("regex", "a")), "plain", has_schemas=False)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (SCHEMA, True),
        (LOOSE, False),
        ('{"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": false}', False),
        ('{"type": "object", "additionalProperties": {}}', False),
        ('{"type": "array", "items": ' + LOOSE + "}", False),
        ('{"type": "array", "items": ' + SCHEMA + "}", True),
        ('{"anyOf": [{"type": "null"}, ' + SCHEMA + "]}", True),
        ('{"anyOf": [{"type": "null"}, ' + LOOSE + "]}", False),
        ("{}", False),
    ],
)
def test_openai_is_strict_about_schemas_that_name_everything(schema: str, expected: bool) -> None:
    assert is_strict(json.loads(schema)) is expected
    bound = replace(ASK, grammar=Grammar("json_schema", schema))
    assert extra_fields(bound, "openai", "chat")["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": json.loads(schema), "strict": expected},
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "required", "additionalProperties", "anyOf", "items", "x"]),
            inside | st.just("object"),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_schema_is_strict_or_not(schema: object) -> None:
    assert is_strict(schema) in (True, False)


@given(st.integers(1, 60), st.none() | st.floats(0, 100), st.floats(0, 1, exclude_max=True), st.integers(0, 50))
def test_waits_are_bounded_and_as_long_as_the_server_asks(
    tries: int, asked_s: float | None, chance: float, retries: int
) -> None:
    patience = Patience(retries=retries)
    delay_s = patience.delay_s(tries, asked_s, chance)
    if tries > retries or (asked_s or 0) > patience.most_s:
        assert delay_s is None
    else:
        assert delay_s is not None
        assert (asked_s or patience.first_s / 2) <= delay_s <= patience.most_s


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("7", 7.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("inf", 86_400.0),
        ("Wed, 21 Oct 2026 07:28:10 GMT", 10.0),
        ("Wed, 21 Oct 2026 07:28:10", 10.0),
        ("Wed, 21 Oct 2026 09:28:10 +0200", 10.0),
        ("Wed, 21 Oct 2020 07:28:10 GMT", 0.0),
        ("Wed, 99 Oct 2026", None),
    ],
)
def test_a_server_says_when_in_seconds_or_as_a_date(header: str | None, expected: float | None) -> None:
    assert read_retry_after(header, now=1792567680.0) == expected


@given(st.text(max_size=40))
def test_any_header_is_read_or_not(header: str) -> None:
    seconds = read_retry_after(header, now=1e9)
    assert seconds is None or 0 <= seconds <= 86_400


@given(st.lists(st.binary(max_size=20).map(lambda data: data.replace(b"\x00", b"\n")), max_size=12))
async def test_pieces_come_as_they_were_until_they_are_too_many(pieces: list[bytes]) -> None:
    async def coming() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    whole = b"".join(pieces)
    is_fine = len(whole) <= 60 and max(map(len, whole.split(b"\n"))) <= 15
    reading = bounded(coming(), most=60, most_in_a_line=15)
    if is_fine:
        assert [piece async for piece in reading] == pieces
    else:
        with pytest.raises(RemoteProtocolError, match="more than"):
            [piece async for piece in reading]


def test_a_price_is_of_a_million_tokens() -> None:
    end = GenerationEnd(
        request_id="a", finish_reason="end", stop=None, tokens=500, prompt_tokens=2_000, cached_tokens=1_500
    )
    assert Price(prompt=2.0, answer=10.0).of(end) == pytest.approx(0.004 + 0.005)
    assert Price(prompt=2.0, cached=0.5, answer=10.0).of(end) == pytest.approx(0.001 + 0.00075 + 0.005)
    assert Price().of(end) == 0
