"""Conditions as text: `result.items[0].score >= 0.5 and state == "SUCCEEDED"`. Parsed and typed; nothing is ever run.

    condition   = term { ("and" | "or") term } | "not" condition | "(" condition ")"      as Python binds them
    term        = operand [ operator operand { operator operand } ] | "exists(" path ")" | "missing(" path ")"
    operator    = == | != | < | <= | > | >= | in | not in | contains | is | is not
    operand     = path | "len(" path ")" | JSON
    path        = ("state" | "result" | "error") { ".key" | "[0]" | '["any key"]' }

A comparison has one path, or its length, on one of its sides. A path alone means that it is true and nothing else:
not a text, not a number. What a path leads to may be missing: then only `!=`, `not in` and `missing` hold.
"""

from dataclasses import dataclass
from typing import Final

from asterism.orchestrator.core.condition import MAX_TERMS, Compare, Comparison, Condition, Connect, Operator, Term
from asterism.orchestrator.core.star import StarState
from asterism.orchestrator.core.values import Json, Path
from asterism.planner.tokens import WORDS, BadText, Token, TokenKind
from asterism.planner.written_values import MAX_STEPS, Parts, Reference, Words, read_path, read_value

MAX_CHARACTERS: Final = 4096
"""Of one condition."""
_ROOTS: Final = ("state", "result", "error")
_STATES: Final = tuple(state.value for state in StarState if state.is_terminal)
_MIRRORED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


_SIGNS: Final = {
    "==": Comparison.EQ,
    "!=": Comparison.NE,
    "<": Comparison.LT,
    "<=": Comparison.LE,
    ">": Comparison.GT,
    ">=": Comparison.GE,
}
_BINDS: Final = {Operator.OR: 1, Operator.AND: 2, Operator.NOT: 3}


@dataclass(frozen=True, slots=True)
class _Part:
    """A path, or its length."""

    path: Path
    of_length: bool
    at: int


@dataclass(frozen=True, slots=True)
class _Literal:
    value: Json
    at: int


def read_condition(text: str) -> Condition:
    """The core's condition; raises BadText."""
    if len(text) > MAX_CHARACTERS:
        raise BadText(0, f"a condition has at most {MAX_CHARACTERS} characters")
    words = Words(text)
    condition = read_terms(words)
    if words.next.kind is not TokenKind.END:
        raise BadText(words.next.at, f"'and', 'or' or the end must follow, not {words.next.shown}")
    return condition


def read_terms(words: Words) -> Condition:
    """A condition up to the first word that cannot belong to it: so it may stand inside something else."""
    terms: list[Term] = []
    waiting: list[Operator | Token] = []
    """Operators, and opening brackets, whose right side has not been read."""
    while True:
        if len(terms) + len(waiting) >= MAX_TERMS:
            raise BadText(words.next.at, f"a condition has at most {MAX_TERMS} comparisons and operators")
        if words.next.is_word("not"):
            words.take()
            waiting.append(Operator.NOT)
            continue
        if words.next.is_sign("("):
            waiting.append(words.take())
            continue
        terms.extend(_read_comparisons(words))
        while words.next.is_sign(")") and any(isinstance(op, Token) for op in waiting):
            words.take()
            _settle(terms, waiting, 0)
            waiting.pop()
        if not words.next.is_word("and", "or"):
            break
        operator = Operator(words.take().text)
        _settle(terms, waiting, _BINDS[operator])
        waiting.append(operator)
    _settle(terms, waiting, 0)
    if waiting:
        opened = waiting[-1]
        assert isinstance(opened, Token)
        raise BadText(opened.at, "the bracket that opens here is not closed")
    if len(terms) > MAX_TERMS:
        raise BadText(words.next.at, f"a condition has at most {MAX_TERMS} comparisons and operators")
    return Condition(tuple(terms))


def _settle(terms: list[Term], waiting: list[Operator | Token], binds: int) -> None:
    """Write out the operators that bind at least so tightly, down to the last open bracket."""
    while waiting and not isinstance(operator := waiting[-1], Token) and _BINDS[operator] >= binds:
        terms.append(Connect(operator))
        waiting.pop()


def _read_comparisons(words: Words) -> list[Term]:
    """One comparison, or a chain of them such as `0 < result.x < 1`."""
    if words.next.is_word("exists", "missing"):
        word = words.take()
        return [Compare(_in_brackets(words, word).path, Comparison(word.text))]
    left = _read_operand(words)
    terms: list[Term] = []
    while (operator := _find_operator(words)) is not None:
        right = _read_operand(words)
        joins = [Connect(Operator.AND)] if terms else []
        terms.extend((*_compare(left, operator, right), *joins))
        left = right
        if len(terms) > MAX_TERMS:
            raise BadText(words.next.at, f"a condition has at most {MAX_TERMS} comparisons and operators")
    return terms or [_truth(left)]


def _truth(part: _Part | _Literal) -> Compare:
    """What a part alone means."""
    if isinstance(part, _Literal):
        raise BadText(part.at, "a value alone is no condition: compare it with a part of the outcome")
    if part.of_length:
        raise BadText(part.at, "a length alone is no condition: compare it with a number")
    if part.path == ("state",):
        raise BadText(part.at, f"compare the state with one of {', '.join(_STATES)}")
    return Compare(part.path, Comparison.EQ, True)


def _read_operand(words: Words) -> _Part | _Literal:
    word = words.next
    if word.is_word("len"):
        words.take()
        return _in_brackets(words, word, of_length=True)
    if word.kind is TokenKind.NAME and word.text not in WORDS:
        return _read_part(words)
    return _Literal(_literal(words), word.at)


def _literal(words: Words) -> Json:
    word = words.next
    if word.kind is TokenKind.END or (word.kind is TokenKind.SIGN and not word.is_sign("[", "{")):
        raise BadText(word.at, f"a part of the outcome or a value is missing before {word.shown}")
    value = read_value(words)
    assert not isinstance(value, Reference)  # a name has been read as a part
    if isinstance(value, Parts):
        raise BadText(word.at, "a comparison has a part of the outcome on one side and a value on the other")
    return value


def _in_brackets(words: Words, word: Token, *, of_length: bool = False) -> _Part:
    """`(path)`, behind the name of a function."""
    words.take_sign("(", word.text)
    part = _read_part(words)
    words.take_sign(")", word.text)
    return _Part(part.path, of_length, word.at)


def _read_part(words: Words) -> _Part:
    root = words.take()
    if not root.is_word(*_ROOTS):
        raise BadText(root.at, f"a condition looks at state, result or error of the parent, not at {root.shown}")
    path = (root.text, *read_path(words))
    if len(path) > MAX_STEPS:
        raise BadText(root.at, f"a path has at most {MAX_STEPS} steps")
    if len(path) > 1 and root.text == "state":
        raise BadText(root.at, "the state has no parts")
    if root.text == "error" and path[1:] not in ((), ("code",), ("message",)):
        raise BadText(root.at, "an error has a code and a message")
    return _Part(path, False, root.at)


def _find_operator(words: Words) -> Token | None:
    """Take the operator that comes next; `not in` and `is not` come as one word, in which the second is kept."""
    word = words.next
    if word.is_sign(*_SIGNS) or word.is_word("in", "contains"):
        return words.take()
    if word.is_word("is"):
        words.take()
        negated = words.next.is_word("not")
        if negated:
            words.take()
        return Token(TokenKind.SIGN, "!=" if negated else "==", word.at, word.end)
    if word.is_word("not"):
        words.take()
        if not words.next.is_word("in"):
            raise BadText(words.next.at, f"'in' follows 'not' here, not {words.next.shown}")
        return Token(TokenKind.NAME, "not in", word.at, words.take().end)
    if word.is_sign("="):
        raise BadText(word.at, "write == to compare")
    return None


def _compare(left: _Part | _Literal, operator: Token, right: _Part | _Literal) -> list[Term]:
    """The terms of one comparison, with the path on the left."""
    sign = operator.text
    if isinstance(left, _Literal) == isinstance(right, _Literal):
        raise BadText(operator.at, "a comparison has a part of the outcome on one side and a value on the other")
    if sign in ("in", "not in"):
        terms = _membership(left, right)
    elif sign == "contains":
        if isinstance(left, _Literal):
            raise BadText(left.at, "a part of the outcome stands before 'contains'")
        terms = _membership(right, left)
    elif isinstance(left, _Part):
        assert isinstance(right, _Literal)
        return [_checked(left, _SIGNS[sign], right)]
    else:
        assert isinstance(right, _Part)
        return [_checked(right, _SIGNS[_MIRRORED[sign]], left)]
    return [*terms, Connect(Operator.NOT)] if sign == "not in" else terms


def _membership(item: _Part | _Literal, whole: _Part | _Literal) -> list[Term]:
    if isinstance(item, _Part):
        assert isinstance(whole, _Literal)
        return [_checked(item, Comparison.IN, whole)]
    assert isinstance(whole, _Part)
    return [_checked(whole, Comparison.CONTAINS, item)]


def _checked(part: _Part, comparison: Comparison, value: _Literal) -> Compare:
    """The comparison, unless it can never hold whatever the outcome is."""
    given = value.value
    has_order = comparison in (Comparison.LT, Comparison.LE, Comparison.GT, Comparison.GE)
    if has_order and (not isinstance(given, int | float | str) or isinstance(given, bool)):
        raise BadText(value.at, "only numbers and texts have an order")
    if comparison is Comparison.IN and not isinstance(given, list | str):
        raise BadText(value.at, "'in' needs a list or a text on its right")
    candidates = given if comparison is Comparison.IN and isinstance(given, list) else [given]
    if part.of_length:
        if comparison is Comparison.CONTAINS or not all(_is_number(candidate) for candidate in candidates):
            raise BadText(value.at, "a length is compared with numbers")
    elif part.path == ("state",) and not all(candidate in _STATES for candidate in candidates):
        raise BadText(value.at, f"a state is one of {', '.join(_STATES)}")
    return Compare(part.path, comparison, given, part.of_length)


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
