"""The core's values from JSON text: one coder for each type, made once from its type hints: none is forgotten."""

import dataclasses
import json
import types
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cache
from typing import Any, Final, Generic, NewType, TypeAlias, TypeVar, Union, get_args, get_origin

from asterism.orchestrator.core.condition import Condition
from asterism.orchestrator.core.values import Json, Result
from asterism.store.text import SCALARS, TAG, Writer, writer

T = TypeVar("T")
Convert: TypeAlias = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Coder(Generic[T]):
    """Both ways between values of one type and JSON text."""

    write: Writer
    """The value as JSON text, in ASCII: any text of Python survives it, and any database keeps it."""
    from_plain: Convert

    def read(self, text: str) -> T:
        """The value that `write` was given."""
        value: T = self.from_plain(read(text))
        return value


def read(text: str) -> Any:
    """What `dump` was given."""
    return json.loads(text)


def same(value: Any) -> Any:
    """The conversion of what JSON knows already; others look for it, so as not to call it for each value."""
    return value


@cache
def coder(hint: Any) -> Coder[Any]:
    """The coder of a type hint that the core's dataclasses use; a TypeError on any other."""
    return Coder(writer(hint), reader(hint))


@cache
def reader(hint: Any) -> Convert:
    """From what `json` reads to a value of the type hint. May use up what it is given."""
    if hint in (Json, Result) or hint in SCALARS:
        # An artifact in place of a value is not for here: whoever reads a result looks for it first.
        return same
    if isinstance(hint, NewType):
        return reader(hint.__supertype__)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return {member.value: member for member in hint}.__getitem__
    if hint is Condition:
        return _condition
    if dataclasses.is_dataclass(hint):
        return fields_reader(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _union(arguments)
    if origin is tuple and arguments[1:] == (...,):
        return _each(reader(arguments[0]), tuple)
    if origin is frozenset:
        return _each(reader(arguments[0]), frozenset)
    if origin is Mapping and arguments[0] is str:
        return _values(reader(arguments[1]))
    raise TypeError(f"no coder for {hint!r}")


def fields_reader(cls: Any, *, but: frozenset[str] = frozenset()) -> Convert:
    """From an object of a dataclass's fields; those in `but` come as they are to be.

    A field that the text lacks has its default: whoever wrote it knew no such field.
    """
    hints: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(cls) if field.name not in but}
    readers = {name: reader(hint) for name, hint in hints.items()}
    inward = [(name, convert) for name, convert in readers.items() if convert is not same]

    def from_plain(plain: dict[str, Any]) -> Any:
        for name, convert in inward:
            if name in plain:
                plain[name] = convert(plain[name])
        return cls(**plain)

    return from_plain


def _condition(plain: dict[str, Any]) -> Condition:
    """Those of the first version were a single comparison."""
    if "terms" not in plain:
        plain = {"terms": [{TAG: "Compare", **plain}]}
    condition: Condition = _READ_CONDITION(plain)
    return condition


def _union(members: tuple[Any, ...]) -> Convert:
    """`None | X`, several scalars, or several dataclasses, which then carry their names."""
    present = [member for member in members if member is not types.NoneType]
    if all(member in SCALARS for member in present):
        return same
    if len(present) == 1:
        return _if_given(reader(present[0]))
    by_name = {member.__name__: reader(member) for member in present}

    def from_plain(plain: dict[str, Any] | None) -> Any:
        if plain is None:
            return None
        return by_name[plain.pop(TAG)](plain)

    return from_plain


def _if_given(convert: Convert) -> Convert:
    if convert is same:
        return same
    return lambda value: None if value is None else convert(value)


def _each(convert: Convert, collect: Convert) -> Convert:
    if convert is same:
        return collect
    return lambda values: collect([convert(value) for value in values])


def _values(convert: Convert) -> Convert:
    if convert is same:
        return dict
    return lambda mapping: {key: convert(value) for key, value in mapping.items()}


_READ_CONDITION: Final = fields_reader(Condition)
