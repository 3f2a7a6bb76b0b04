"""Values as a line of a plan writes them: JSON, and names that stand for the results of other stars."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from asterism.orchestrator.core.values import Json, Path
from asterism.planner.document import MAX_DEPTH
from asterism.planner.tokens import WORDS, BadText, Token, TokenKind, tokens

MAX_STEPS: Final = 32
"""Of one path."""
MAX_KEY: Final = 1024
"""Characters of one step."""
MAX_INDEX: Final = 2**32 - 1
"""As MAX_STEPS and MAX_KEY what the wire carries."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A name that is no text: a part of an earlier star's result, of a map's item, or another thing that has a name."""

    name: str
    path: Path
    at: int


@dataclass(frozen=True, slots=True)
class Parts:
    """A mapping some of whose values are references; the others are values."""

    values: "Mapping[str, Json | Reference]"
    at: int


Written: TypeAlias = "Json | Reference | Parts"


class Words:
    """The words of a text, one of which is looked at before it is taken."""

    def __init__(self, text: str, at: int = 0) -> None:
        self.text = text
        self._rest = tokens(text, at)
        self.next = next(self._rest)

    def take(self) -> Token:
        """The next word; at the end it stays."""
        taken = self.next
        if taken.kind is not TokenKind.END:
            self.next = next(self._rest)
        return taken

    def take_sign(self, sign: str, where: str) -> Token:
        """The sign that must come next; raises BadText that says where it is missing."""
        if not self.next.is_sign(sign):
            raise BadText(self.next.at, f"{where} needs {sign!r} here, not {self.next.shown}")
        return self.take()

    def has_sign(self, sign: str) -> bool:
        """Take the sign if it comes next."""
        if self.next.is_sign(sign):
            self.take()
            return True
        return False


def read_path(words: Words) -> Path:
    """Steps that follow a name: `.key`, `[0]`, `["any key"]`; none is fine."""
    path: list[str | int] = []
    while True:
        word = words.next
        if len(path) > MAX_STEPS:
            raise BadText(word.at, f"a path has at most {MAX_STEPS} steps")
        if word.kind is TokenKind.NUMBER and word.text[0] == "." and word.text[1:].isdigit():
            words.take()  # `.0`, an index as some write it
            path.append(_index(word.text[1:], word.at))
        elif word.is_sign("."):
            words.take()
            key = words.take()
            if key.kind is not TokenKind.NAME:
                raise BadText(key.at, f'a key follows the dot, not {key.shown}; write another as ["key"]')
            path.append(_key(key.text, key.at))
        elif word.is_sign("["):
            words.take()
            step = words.take()
            if step.kind is TokenKind.TEXT:
                assert isinstance(step.value, str)
                path.append(_key(step.value, step.at))
            elif step.kind is TokenKind.NUMBER and isinstance(step.value, int) and step.value >= 0:
                path.append(_index(step.text, step.at))
            else:
                raise BadText(step.at, f"an index from 0 or a key in quotes stands in the brackets, not {step.shown}")
            words.take_sign("]", "a step")
        else:
            return tuple(path)


def _key(text: str, at: int) -> str:
    if len(text) > MAX_KEY:
        raise BadText(at, f"a key in a path has at most {MAX_KEY} characters")
    return text


def _index(digits: str, at: int) -> int:
    if len(digits) > len(str(MAX_INDEX)) or int(digits) > MAX_INDEX:
        raise BadText(at, f"an index is at most {MAX_INDEX}")
    return int(digits)


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not been read."""

    value: list[Json] | dict[str, Json]
    key: str | None = None


def read_value(words: Words) -> Written:
    """One value, one reference, or a mapping of both. With an own stack: however deep it nests, nothing recurses."""
    first = words.next
    if _is_reference(first):
        words.take()
        return Reference(first.text, read_path(words), first.at)
    stack: list[_Open] = []
    references: dict[str, Reference] = {}
    while True:
        value: Json
        if stack and _closes(words, stack[-1]):
            value = stack.pop().value
        else:
            if stack and isinstance(stack[-1].value, dict):
                stack[-1].key = _read_key(words, stack[-1].value, references if len(stack) == 1 else {})
            word = words.take()
            top = stack[-1] if stack else None
            if len(stack) == 1 and top is not None and top.key is not None and _is_reference(word):
                references[top.key] = Reference(word.text, read_path(words), word.at)
                _end_of_item(words)
                top.key = None
                continue
            if word.is_sign("[", "{"):
                if len(stack) >= MAX_DEPTH:
                    raise BadText(word.at, f"nests deeper than {MAX_DEPTH} levels")
                stack.append(_Open([] if word.text == "[" else {}))
                continue
            value = _scalar(word)
        if not stack:
            return Parts({**value, **references}, first.at) if references and isinstance(value, dict) else value
        top = stack[-1]
        if isinstance(top.value, list):
            top.value.append(value)
        else:
            assert top.key is not None
            top.value[top.key] = value
        _end_of_item(words)


def _is_reference(word: Token) -> bool:
    return word.kind is TokenKind.NAME and word.text not in WORDS


def _end_of_item(words: Words) -> None:
    if not words.has_sign(",") and not words.next.is_sign("]", "}"):
        raise BadText(words.next.at, f"a comma or a closing bracket is missing before {words.next.shown}")


def _closes(words: Words, top: _Open) -> bool:
    if not words.next.is_sign("]", "}"):
        return False
    closing = words.take()
    if (closing.text == "]") != isinstance(top.value, list):
        raise BadText(closing.at, f"{closing.shown} closes what was not opened so")
    return True


def _read_key(words: Words, found: Mapping[str, Json], references: Mapping[str, Reference]) -> str:
    key = words.take()
    if key.kind is not TokenKind.TEXT:
        raise BadText(key.at, f"a key is a text in quotes, not {key.shown}")
    assert isinstance(key.value, str)
    if key.value in found or key.value in references:
        raise BadText(key.at, f"the key {key.value[:40]!r} is given twice in one mapping")
    words.take_sign(":", "a mapping")
    return key.value


def _scalar(word: Token) -> Json:
    if word.kind in (TokenKind.NUMBER, TokenKind.TEXT):
        return word.value
    if word.kind is TokenKind.NAME:
        if word.text in WORDS:
            return WORDS[word.text]
        raise BadText(
            word.at,
            f"{word.text} is no value here: text is in quotes, and a reference is an argument of its own or the value "
            'of a key in one, data={"KEY": STAR.key}',
        )
    raise BadText(word.at, f"a value is missing before {word.shown}")
