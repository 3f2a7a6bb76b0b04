"""What may be said of a star behind its call: `.after(a, b).when(c, result.ok).model("qwen3").timeout(60)`."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from asterism.orchestrator.core.values import Json, Path
from asterism.planner.condition_text import read_condition, read_terms
from asterism.planner.draft import Draft, end_item, read_arguments
from asterism.planner.stars import PlanKind
from asterism.planner.tokens import WORDS, BadText, Token, TokenKind
from asterism.planner.written_values import Reference, Words, read_value

Modifier: TypeAlias = Callable[[Words, Draft, int], None]
"""Reads what stands between its brackets, the closing one included; its own name stands at the last argument."""

MAX_NAMES: Final = 1024
"""Stars in one list of parents."""


def _take_star(words: Words) -> Token:
    """The id of a star, without quotes; with them it can mean nothing else here, so they do no harm."""
    word = words.take()
    if word.kind is TokenKind.TEXT and isinstance(word.value, str):
        return Token(TokenKind.NAME, word.value, word.at, word.end)
    if word.kind is not TokenKind.NAME or word.text in WORDS:
        raise BadText(word.at, f"the id of a star is missing before {word.shown}")
    if words.next.is_sign(".", "["):
        raise BadText(words.next.at, "a star is named here, and not a part of its result")
    return word


def _stars(words: Words, at: int) -> list[Token]:
    names: list[Token] = []
    while not words.has_sign(")"):
        names.append(_take_star(words))
        if len(names) > MAX_NAMES:
            raise BadText(at, f"at most {MAX_NAMES} stars in one list")
        end_item(words)
    if not names:
        raise BadText(at, "name at least one star in the brackets")
    return names


def _after(words: Words, draft: Draft, at: int) -> None:
    for star in _stars(words, at):
        draft.add(("after",), star.text, star.at)


def _after_end(words: Words, draft: Draft, at: int) -> None:
    for star in _stars(words, at):
        draft.add(("after",), {"star": star.text, "on": "completion"}, star.at)


def _stream(words: Words, draft: Draft, at: int) -> None:
    for star in _stars(words, at):
        draft.add(("after",), {"star": star.text, "on": "stream"}, star.at)


def _when(words: Words, draft: Draft, at: int) -> None:
    star = _take_star(words)
    words.take_sign(",", ".when(STAR, CONDITION)")
    quoted = words.next
    if quoted.kind is TokenKind.TEXT and isinstance(quoted.value, str) and _is_condition(quoted.value):
        words.take()
        text = quoted.value
    else:
        text = str(read_terms(words))
    words.take_sign(")", ".when")
    draft.add(("after",), {"star": star.text, "when": text}, star.at)


def _is_condition(text: str) -> bool:
    """Whether a text in quotes is the whole condition, and not the value that a comparison begins with."""
    try:
        read_condition(text)
    except BadText:
        return False
    return True


def _quorum(words: Words, draft: Draft, at: int) -> None:
    count = _integer(words)
    words.take_sign(",", ".quorum(NUMBER, STAR, ...)")
    of: list[Json] = [star.text for star in _stars(words, at)]
    draft.put(("quorum",), {"at_least": count, "of": of}, at)


def _only_map(draft: Draft, at: int) -> None:
    if draft.kind is not PlanKind.MAP:
        raise BadText(at, "this belongs to a map: ID = map.tool.NAME(...) or map.agent.NAME(...)")


def _over(words: Words, draft: Draft, at: int) -> None:
    _only_map(draft, at)
    place = words.next.at
    value = read_value(words)
    if not isinstance(value, Reference) or value.name in ("item", "index", "parents"):
        raise BadText(place, "a map goes over a list in an earlier star's result: .over(STAR.key)")
    words.take_sign(")", ".over")
    draft.put(("over",), draft.input(value, place), place)


def _max_items(words: Words, draft: Draft, at: int) -> None:
    _only_map(draft, at)
    draft.put(("max_items",), _integer(words), at)
    words.take_sign(")", ".max_items")


def _keep_failures(words: Words, draft: Draft, at: int) -> None:
    _only_map(draft, at)
    words.take_sign(")", ".keep_failures")
    draft.put(("on",), "completion", at)


def _gather(words: Words, draft: Draft, at: int) -> None:
    _only_map(draft, at)
    name = words.take()
    if name.kind is not TokenKind.TEXT or not isinstance(name.value, str):
        raise BadText(name.at, "the program that gathers is named first, in quotes")
    draft.put(("gather", "program"), name.value, name.at)
    end_item(words)
    read_arguments(words, draft, ("gather", "inputs"))


def _model(words: Words, draft: Draft, at: int) -> None:
    draft.add((*draft.work, "requires"), f"model:{_text(words)}", at)
    words.take_sign(")", ".model")


def _needs(words: Words, draft: Draft, at: int) -> None:
    while not words.has_sign(")"):
        place = words.next.at
        draft.add((*draft.work, "requires"), _text(words), place)
        end_item(words)


def _title(words: Words, draft: Draft, at: int) -> None:
    draft.put(("title",), _text(words), at)
    words.take_sign(")", ".title")


def _number_at(path: Path) -> Modifier:
    """A modifier that takes one number."""

    def modifier(words: Words, draft: Draft, at: int) -> None:
        word = words.take()
        if word.kind is not TokenKind.NUMBER:
            raise BadText(word.at, f"a number stands in the brackets, not {word.shown}")
        words.take_sign(")", "this")
        draft.put((*draft.work, *path), word.value, at)

    return modifier


def _may_edit(words: Words, draft: Draft, at: int) -> None:
    words.take_sign(")", ".may_edit")
    draft.put((*draft.work, "may_edit"), True, at)


def _text(words: Words) -> str:
    word = words.take()
    if word.kind is not TokenKind.TEXT or not isinstance(word.value, str):
        raise BadText(word.at, f"a text in quotes stands in the brackets, not {word.shown}")
    return word.value


def _integer(words: Words) -> int:
    word = words.take()
    if word.kind is not TokenKind.NUMBER or not isinstance(word.value, int):
        raise BadText(word.at, f"a whole number stands here, not {word.shown}")
    return word.value


MODIFIERS: Final[Mapping[str, Modifier]] = MappingProxyType(
    {
        "after": _after,
        "after_end": _after_end,
        "stream": _stream,
        "when": _when,
        "quorum": _quorum,
        "over": _over,
        "max_items": _max_items,
        "keep_failures": _keep_failures,
        "gather": _gather,
        "model": _model,
        "needs": _needs,
        "priority": _number_at(("priority",)),
        "timeout": _number_at(("timeouts", "start_to_close_s")),
        "attempts": _number_at(("retry", "max_attempts")),
        "title": _title,
        "may_edit": _may_edit,
    }
)
