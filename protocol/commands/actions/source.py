"""What the user points at, as a request: a file, standard input, or the words themselves."""

import re
import sys
from pathlib import Path
from typing import Final

from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.request import MAX_REQUEST_BYTES, Request
from asterism.protocol.commands.options import STDIN

_PLAN_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
_BOARD: Final = re.compile(r"\s*\d+(\s+\d+){2,5}\s*(=\s*\d+\s*)?(#.*)?")
"""Three to six integers, a target if it is not 24, a comment."""
_PATH_LIKE: Final = re.compile(r"\S*(/|\\)\S*|\S+\.(ya?ml|json|txt|md)")
_NAME_MAX: Final = 200


def read_request(source: str, form: str | None) -> Request:
    """The request that `source` names; raises `InvalidField` when there is none to read."""
    name, suffix, text = _read(source)
    if not text.strip():
        raise InvalidField("request", f"{_words_for(source, name)} is empty")
    return Request(form=form or guess_form(text, suffix), text=text, name=name)


def guess_form(text: str, suffix: str = "") -> str:
    """`plan` by the suffix of its file, `boards` when every line is one, else `text`."""
    if suffix.lower() in _PLAN_SUFFIXES:
        return "plan"
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return "boards" if lines and all(_BOARD.fullmatch(line) for line in lines) else "text"


def _read(source: str) -> tuple[str, str, str]:
    """Name, suffix and text."""
    if source == STDIN:
        try:
            data = sys.stdin.buffer.read(MAX_REQUEST_BYTES + 1)
        except OSError as error:
            raise InvalidField("request", f"cannot read standard input: {error.strerror}") from error
        return "stdin", "", _decode(data, "standard input")
    path = Path(source)
    if source and _is_there(path):  # the path of no text is the folder that one is in
        return path.name[:_NAME_MAX], path.suffix, _decode(_bytes(path), source)
    if _PATH_LIKE.fullmatch(source):
        raise InvalidField("request", f"there is no file {source!r}")
    return "", "", _decode(source.encode(errors="surrogateescape"), "the text")


def _words_for(source: str, name: str) -> str:
    """What was read, for people."""
    if source == STDIN:
        return "standard input"
    return source if name else "the text"


def _is_there(path: Path) -> bool:
    """Whether it names a file; a request of many words is a name too long, or no name at all."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_REQUEST_BYTES + 1)
    except OSError as error:
        raise InvalidField("request", f"cannot read {path}: {error.strerror}") from error


def _decode(data: bytes, what: str) -> str:
    if len(data) > MAX_REQUEST_BYTES:
        raise InvalidField("request", f"{what} is longer than {MAX_REQUEST_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"byte {error.start} is {data[error.start]:#x}"
        raise InvalidField("request", f"{what} is no UTF-8 text: {found}") from None
