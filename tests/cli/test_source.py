"""What a word on the command line becomes: a request in a form, or a clear refusal."""

from pathlib import Path

import pytest

from asterism.orchestrator.core.errors import InvalidField, NotFound, Overloaded, Unreachable
from asterism.orchestrator.core.request import MAX_REQUEST_BYTES, ConstellationState, Request
from asterism.protocol.commands.actions.source import guess_form, read_request
from asterism.protocol.commands.actions.workers import read_labels
from asterism.protocol.commands.ending import ExitCode, advice


@pytest.mark.parametrize(
    ("text", "suffix", "form"),
    [
        ("# boards\n4 6 8 3\n1 2 3 4 = 10  # with a target\n\n1 2 3\n", ".txt", "boards"),
        ("4 6 8 3", "", "boards"),
        ("4 6", "", "text"),
        ("1 2 3 4 5 6 7", "", "text"),
        ("4 6 8 x", ".txt", "text"),
        ("# only words\n", ".txt", "text"),
        ("stars: []", ".YAML", "plan"),
        ("{}", ".json", "plan"),
        ("what is the time?", "", "text"),
    ],
)
def test_the_form_is_guessed(text: str, suffix: str, form: str) -> None:
    assert guess_form(text, suffix) == form


def test_a_file_is_read_and_named(tmp_path: Path) -> None:
    file = tmp_path / "boards.txt"
    file.write_bytes("\ufeff4 6 8 3\n".encode())
    assert read_request(str(file), None) == Request("boards", "4 6 8 3\n", name="boards.txt")
    assert read_request(str(file), "text").form == "text"


def test_words_are_a_request_of_their_own() -> None:
    assert read_request("1 2 3 4", None) == Request("boards", "1 2 3 4")
    assert read_request("word " * 2000, None).form == "text"


@pytest.fixture
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("source", ["no/such/file", "plan.yaml", "boards.txt", "", "  \n"])
@pytest.mark.usefixtures("_empty_folder")
def test_what_looks_like_a_file_and_is_none_is_refused(source: str) -> None:
    with pytest.raises(InvalidField):
        read_request(source, None)


def test_a_file_that_is_too_long_or_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "big"
    file.write_bytes(b"a" * (MAX_REQUEST_BYTES + 1))
    with pytest.raises(InvalidField, match="longer than"):
        read_request(str(file), None)
    file.write_bytes(b"abc\xff")
    with pytest.raises(InvalidField, match="byte 3 is 0xff"):
        read_request(str(file), None)
    with pytest.raises(InvalidField, match="cannot read"):
        read_request(str(tmp_path), None)


@pytest.mark.parametrize(
    ("source", "says"), [("", "the text is empty"), ("\n", "the text is empty"), ("/dev/null", "/dev/null is empty")]
)
def test_what_is_empty_is_named_as_it_was_given(source: str, says: str) -> None:
    with pytest.raises(InvalidField) as raised:
        read_request(source, None)
    assert raised.value.reason == says


def test_labels_are_set_and_removed() -> None:
    assert read_labels(["zone=lab", "old-", "x="]) == ({"zone": "lab", "x": ""}, ("old",))
    with pytest.raises(InvalidField):
        read_labels(["=lab"])


def test_errors_have_an_exit_code_and_an_advice() -> None:
    assert ExitCode.of(Unreachable("h:1", "refused")) is ExitCode.UNREACHABLE
    assert ExitCode.of(NotFound("constellation", "x")) is ExitCode.USAGE
    assert ExitCode.of(Overloaded("busy", 2)) is ExitCode.FAILED
    assert advice(Overloaded("busy", 2)) == "try again in 2 s"
    assert [ExitCode.of_state(state).value for state in ConstellationState] == [0, 0, 1, 1]
