"""JSON in what models write: fences, words around it, halves, and anything else."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.agents.asks import Json
from asterism.agents.data import as_data, shortened
from asterism.agents.written_json import MAX_DEPTH, MAX_DIGITS, NoJson, read_object, read_written
from asterism.protocol.convert.checks import json_from_text, json_to_text
from tests.agents.test_json_check import VALUES

FINITE: st.SearchStrategy[Json] = VALUES.filter(
    lambda value: "NaN" not in json.dumps(value) and "Infinity" not in json.dumps(value)
)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, {"b": "}"}]}',
        '```json\n{"a": [1, {"b": "}"}]}\n```',
        '```\n{"a": [1, {"b": "}"}]}```',
        'Sure, here it is: {"a": [1, {"b": "}"}]} I hope that it helps {',
        'A set {x} first, then {"a": [1, {"b": "}"}]}',
    ],
)
def test_the_value_is_found_whatever_stands_around_it(text: str) -> None:
    assert read_written(text) == {"a": [1, {"b": "}"}]}


@pytest.mark.parametrize(
    "text", ["", "no", '{"a": 1', "NaN", '{"a": NaN}', "[" * 100_000, "{" * 100_000, "```", '{"a":1e']
)
def test_what_holds_none_is_refused_in_words(text: str) -> None:
    with pytest.raises(NoJson) as refusal:
        read_written(text)
    assert str(refusal.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('"\\udc00"', "half of a surrogate pair"),
        ("-1e999", "too large"),
        ("Infinity", "or is none"),
        ("1" * (MAX_DIGITS + 1), "too large"),
        ("[" * MAX_DEPTH + "]" * MAX_DEPTH, f"nested deeper than {MAX_DEPTH}"),
    ],
)
def test_a_value_that_no_result_can_carry_is_refused_and_no_part_of_it_is_taken(value: str, said: str) -> None:
    with pytest.raises(NoJson, match=said):
        read_written(f'Here: {{"whole": {value}, "part": {{"a": 1}}}}')


@pytest.mark.parametrize(
    "value", ['"\\ud83d\\ude00"', "-1e308", "9" * MAX_DIGITS, "[" * (MAX_DEPTH - 1) + "1" + "]" * (MAX_DEPTH - 1)]
)
def test_what_is_taken_fits_into_a_result(value: str) -> None:
    read = read_written(f'{{"whole": {value}}}')

    result = json_to_text({"answer": read}, "result")
    assert json_from_text(result, "result") == {"answer": read}


def test_an_object_is_asked_for() -> None:
    with pytest.raises(NoJson, match="list where an object belongs"):
        read_object("[1]")


@given(FINITE, st.sampled_from(["", "```json\n", "```\n"]))
def test_every_value_is_read_back(value: Json, fence: str) -> None:
    text = f"{fence}{json.dumps(value)}\n```" if fence else json.dumps(value)
    assert json.dumps(read_written(text)) == json.dumps(value)


@given(st.text() | st.text(alphabet='{}[]",:0truefalsn `\\u\n-eE+.'))
def test_any_text_gives_a_value_or_words(text: str) -> None:
    with suppress(NoJson):
        json.dumps(read_written(text), allow_nan=False)


@given(st.text(max_size=200), st.text(max_size=200))
def test_a_mark_cannot_be_closed_from_within(name: str, text: str) -> None:
    block = as_data(name, text)
    opens, rest = block.split("\n", 1)
    word = opens.split()[0].removeprefix("<data-")
    assert word not in text
    assert rest == f"{text.encode(errors='replace').decode()}\n</data-{word}>"
    assert as_data(name, text) == block


@given(st.text(max_size=400), st.integers(0, 300))
def test_what_is_shortened_fits(text: str, most: int) -> None:
    short = shortened(text, most)
    assert len(short) <= most
    assert short == text or len(text) > most
