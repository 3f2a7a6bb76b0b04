"""Makes values cheap to make: for each star that runs there are some twenty."""

import dataclasses
from typing import TypeVar

T = TypeVar("T")


def lean(cls: type[T]) -> type[T]:
    """Above `@dataclass(frozen=True, slots=True)`: only the type checkers keep one from being changed.

    A frozen dataclass sets each field by a call of `object.__setattr__`: with ten fields one took 1.7 us to make, and
    so takes 0.26 us (x86, Python 3.11).
    """
    fields = [
        (one.name, one.type, dataclasses.field(default=one.default, default_factory=one.default_factory))
        for one in dataclasses.fields(cls)  # type: ignore[arg-type]  # it is a dataclass
    ]
    twin = dataclasses.make_dataclass(cls.__name__, fields, repr=False, eq=False)
    cls.__init__ = twin.__init__  # type: ignore[misc, method-assign]  # the same fields in the same order
    del cls.__setattr__, cls.__delattr__
    return cls
