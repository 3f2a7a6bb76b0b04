"""The words of one line of a plan and of a condition: names, numbers, texts and signs, each with its place."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from asterism.planner.document import MAX_INT_DIGITS

Scalar: TypeAlias = bool | int | float | str | None


class BadText(Exception):
    """Something does not fit at the character `at` of a text; whoever knows the text says line and column."""

    def __init__(self, at: int, reason: str) -> None:
        super().__init__(reason)
        self.at = at
        self.reason = reason


class TokenKind(StrEnum):
    """What sort of word it is."""

    NAME = "name"
    NUMBER = "number"
    TEXT = "text"
    SIGN = "sign"
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """A word. `text` is what stands there; `value` is the number or text that it means."""

    kind: TokenKind
    text: str
    at: int
    end: int
    """The character behind it."""
    value: Scalar = None

    def is_sign(self, *signs: str) -> bool:
        """Whether it is one of these signs: a text that looks like one is not."""
        return self.kind is TokenKind.SIGN and self.text in signs

    def is_word(self, *words: str) -> bool:
        """Whether it is one of these names."""
        return self.kind is TokenKind.NAME and self.text in words

    @property
    def shown(self) -> str:
        """For people."""
        return "the end" if self.kind is TokenKind.END else repr(self.text[:40])


_NEXT: Final = re.compile(
    r"""(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<number>-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<sign>==|!=|<=|>=|[<>()\[\]{},:=.])
    | (?P<quote>["'])""",
    re.VERBOSE,
)
_BLANK: Final = re.compile(r"(?:[ \t\r\n\ufeff\u00a0]|\#[^\n]*)*")
"""Between words; a comment reaches to the end of its line."""
_PLAIN: Final = {'"': re.compile(r'[^"\\\n]*'), "'": re.compile(r"[^'\\\n]*")}
_ESCAPES: Final = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "b": "\b",
    "f": "\f",
    '"': '"',
    "'": "'",
    "\\": "\\",
    "/": "/",
}
_HEX: Final = re.compile(r"[0-9A-Fa-f]{4}")
WORDS: Final[dict[str, Scalar]] = {
    **{"true": True, "false": False, "null": None},
    **{"True": True, "False": False, "None": None},
}
"""Names that are values, as JSON and as Python write them."""


def tokens(text: str, at: int = 0) -> Iterator[Token]:
    """The words of `text` from `at` on, and one of kind END; raises BadText."""
    while True:
        blank = _BLANK.match(text, at)
        at = at if blank is None else blank.end()
        if at >= len(text):
            yield Token(TokenKind.END, "", at, at)
            return
        found = _NEXT.match(text, at)
        if found is None:
            raise BadText(at, f"{text[at]!r} does not belong here")
        word, kind = found.group(), found.lastgroup
        if kind == "quote":
            token = _read_text(text, at)
        elif kind == "number":
            token = Token(TokenKind.NUMBER, word, at, found.end(), _number(word, at))
        elif kind == "name":
            token = Token(TokenKind.NAME, word, at, found.end())
        else:
            token = Token(TokenKind.SIGN, word, at, found.end())
        yield token
        at = token.end


def _number(word: str, at: int) -> int | float:
    if word.lstrip("-").isdigit():
        if len(word) > MAX_INT_DIGITS:
            raise BadText(at, f"a whole number has at most {MAX_INT_DIGITS} digits")
        return int(word)
    number = float(word)
    if not math.isfinite(number):
        raise BadText(at, f"{word[:40]} is too large for a number")
    return number


def _read_text(text: str, start: int) -> Token:
    """A text between two quotes of one sort, on one line, with the escapes that JSON and Python share.

    A backslash before anything else stands for itself, as in Python: models write patterns such as "\\d+".
    """
    quote = text[start]
    parts: list[str] = []
    at = start + 1
    while True:
        plain = _PLAIN[quote].match(text, at)
        assert plain is not None  # it matches nothing at all, too
        parts.append(plain.group())
        at = plain.end()
        if at >= len(text) or text[at] == "\n":
            raise BadText(start, f"the text that begins here has no closing {quote}; write a line break as \\n")
        if text[at] == quote:
            return Token(TokenKind.TEXT, text[start : at + 1], start, at + 1, _unicode("".join(parts), start))
        escape = text[at + 1 : at + 2]
        if escape == "u":
            code = _HEX.match(text, at + 2)
            if code is None:
                raise BadText(at, "\\u is followed by four hexadecimal digits")
            parts.append(chr(int(code.group(), 16)))
            at = code.end()
        elif escape in _ESCAPES:
            parts.append(_ESCAPES[escape])
            at += 2
        else:
            parts.append("\\")
            at += 1


def _unicode(text: str, at: int) -> str:
    """`text` with the halves of surrogate pairs put together; a lone half is no text."""
    if text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text):
        return text
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise BadText(at, "text holds half of a surrogate pair") from None
