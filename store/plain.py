"""The core's values as JSON text: one coder for each type, made once from its type hints, so that none is forgotten."""

import dataclasses
import json
import types
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import cache
from operator import attrgetter
from typing import Any, Final, Generic, NewType, TypeAlias, TypeVar, Union, get_args, get_origin

from asterism.orchestrator.core.values import Json, Result

T = TypeVar("T")
Convert: TypeAlias = Callable[[Any], Any]

TAG: Final = "type"
"""Key under which a member of a union says which one it is."""

_SCALARS: Final = (str, int, float, bool)


@dataclasses.dataclass(frozen=True, slots=True)
class Coder(Generic[T]):
    """Both ways between values of one type and what `json` reads and writes."""

    to_plain: Convert
    from_plain: Convert
    """May use up what it is given."""

    def write(self, value: T) -> str:
        """JSON text in ASCII: any text of Python survives it, and any database keeps it."""
        return dump(self.to_plain(value))

    def read(self, text: str) -> T:
        """The value that `write` was given."""
        value: T = self.from_plain(read(text))
        return value


def same(value: Any) -> Any:
    """The conversion of what JSON knows already; others look for it, so as not to call it for each value."""
    return value


def _plain_container(value: object) -> object:
    """JSON values may be any mapping or sequence; `json` by itself knows only dict, list and tuple."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not a JSON value")


dump: Final[Callable[[object], str]] = json.JSONEncoder(
    separators=(",", ":"), check_circular=False, default=_plain_container
).encode
"""The most compact JSON text."""


def read(text: str) -> Any:
    """What `dump` was given."""
    return json.loads(text)


@cache
def coder(hint: Any) -> Coder[Any]:
    """The coder of a type hint that the core's dataclasses use; a TypeError on any other."""
    if hint in (Json, Result) or hint in _SCALARS:
        # An artifact in place of a value is not for here: whoever writes a result looks for it first.
        return Coder(same, same)
    if isinstance(hint, NewType):
        underlying: Any = hint.__supertype__
        return coder(underlying)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return Coder(same, {member.value: member for member in hint}.__getitem__)
    if dataclasses.is_dataclass(hint):
        return fields_coder(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _union(arguments)
    if origin is tuple and arguments[1:] == (...,):
        item = coder(arguments[0])
        return Coder(_each(item.to_plain, list), _each(item.from_plain, tuple))
    if origin is frozenset:
        item = coder(arguments[0])
        return Coder(_each(item.to_plain, sorted), _each(item.from_plain, frozenset))
    if origin is Mapping and arguments[0] is str:
        value = coder(arguments[1])
        return Coder(_values(value.to_plain), _values(value.from_plain))
    raise TypeError(f"no coder for {hint!r}")


def fields_coder(cls: Any, *, but: frozenset[str] = frozenset()) -> Coder[Any]:
    """The coder of a dataclass as an object of its fields; those in `but` are left out, and not asked for."""
    coders = {field.name: _of_field(field) for field in dataclasses.fields(cls) if field.name not in but}
    names = tuple(coders)
    get_all = attrgetter(*names) if len(names) > 1 else lambda value: [getattr(value, name) for name in names]
    outward = [(name, one.to_plain) for name, one in coders.items() if one.to_plain is not same]
    inward = [(name, one.from_plain) for name, one in coders.items() if one.from_plain is not same]

    def to_plain(value: Any) -> dict[str, Any]:
        plain = dict(zip(names, get_all(value), strict=True))
        for name, convert in outward:
            plain[name] = convert(plain[name])
        return plain

    def from_plain(plain: dict[str, Any]) -> Any:
        for name, convert in inward:
            plain[name] = convert(plain[name])
        return cls(**plain)

    return Coder(to_plain, from_plain)


def _of_field(field: dataclasses.Field[Any]) -> Coder[Any]:
    hint: Any = field.type
    return coder(hint)


def _union(members: tuple[Any, ...]) -> Coder[Any]:
    """`None | X`, several scalars, or several dataclasses, which then carry their names."""
    present = [member for member in members if member is not types.NoneType]
    if all(member in _SCALARS for member in present):
        return Coder(same, same)
    if len(present) == 1:
        inner = coder(present[0])
        return Coder(_if_given(inner.to_plain), _if_given(inner.from_plain))
    by_name = {member.__name__: coder(member) for member in present}

    def to_plain(value: Any) -> dict[str, Any] | None:
        if value is None:
            return None
        name = type(value).__name__
        plain: dict[str, Any] = {TAG: name}
        plain.update(by_name[name].to_plain(value))
        return plain

    def from_plain(plain: dict[str, Any] | None) -> Any:
        if plain is None:
            return None
        return by_name[plain.pop(TAG)].from_plain(plain)

    return Coder(to_plain, from_plain)


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
