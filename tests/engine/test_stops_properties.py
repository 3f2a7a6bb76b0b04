"""Text may be shown as soon as it is certain, and never depends on how it was split into tokens."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from asterism.workers.engine.stops import MAX_HELD, Detokeniser, StopScanner

letters = st.text(alphabet="ab", max_size=30)
stop_lists = st.lists(st.text(alphabet="ab", min_size=1, max_size=5), max_size=4)


def pieces_of(text: str, cuts: Sequence[int]) -> list[str]:
    borders = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[begin:end] for begin, end in pairwise(borders)]


def expected(text: str, stops: Sequence[str]) -> tuple[str, str | None]:
    """By definition: character by character, until one completes a stop string; the longest of those it completes."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            longest = max(ending, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(text=letters, stops=stop_lists, cuts=st.lists(st.integers(0, 1000)))
def test_every_split_gives_the_same_text(text: str, stops: list[str], cuts: list[int]) -> None:
    scanner = StopScanner(stops)
    shown, stop = "", None
    for piece in pieces_of(text, cuts):
        scanned = scanner.push(piece)
        shown += scanned.text
        if scanned.stop is not None:
            stop = scanned.stop
            break
    else:
        shown += scanner.flush()
    assert (shown, stop) == expected(text, stops)


@given(text=letters, stops=stop_lists)
def test_text_waits_only_while_it_may_become_a_stop_string(text: str, stops: list[str]) -> None:
    scanner = StopScanner(stops)
    shown = ""
    for end in range(1, len(text) + 1):
        scanned = scanner.push(text[end - 1])
        shown += scanned.text
        if scanned.stop is not None:
            return
        waiting = text[len(shown) : end]
        assert not waiting or any(stop.startswith(waiting) for stop in stops)


def decode_bytes(token_ids: Sequence[int]) -> str:
    return bytes(token_ids).decode(errors="replace")


@given(prompt=st.text(max_size=10), text=st.text(max_size=20).filter(lambda text: "\ufffd" not in text))
def test_pieces_of_characters_are_never_shown(prompt: str, text: str) -> None:
    detokeniser = Detokeniser(decode_bytes, prompt.encode())
    pieces = [detokeniser.push(byte) for byte in text.encode()]
    assert "".join(pieces) == text
    assert detokeniser.flush() == ""


@given(
    prompt=st.text(max_size=10),
    said=st.lists(st.one_of(st.binary(max_size=4), st.text(max_size=3).map(str.encode), st.just(b"\xe2\x82"))),
    again=st.integers(1, 30),
)
def test_bytes_that_are_no_text_are_shown_as_such_and_cost_no_more_later(
    prompt: str, said: list[bytes], again: int
) -> None:
    sizes: list[int] = []

    def decode(token_ids: Sequence[int]) -> str:
        sizes.append(len(token_ids))
        return decode_bytes(token_ids)

    answer = b"".join(said) * again
    detokeniser = Detokeniser(decode, prompt.encode())
    pieces = [detokeniser.push(byte) for byte in answer]
    assert "".join((*pieces, detokeniser.flush())) == answer.decode(errors="replace")
    assert max(sizes) <= 2 * (MAX_HELD + 1)


def test_an_unfinished_character_is_shown_at_the_end() -> None:
    detokeniser = Detokeniser(decode_bytes, b"abc")
    assert [detokeniser.push(byte) for byte in "é".encode()[:1]] == [""]
    assert detokeniser.flush() == "\ufffd"


def test_words_keep_the_space_that_joins_them_to_the_prompt() -> None:
    words = ["four", "six", "eight"]
    detokeniser = Detokeniser(lambda token_ids: " ".join(words[token_id] for token_id in token_ids), [0])
    assert [detokeniser.push(1), detokeniser.push(2)] == [" six", " eight"]
