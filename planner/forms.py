"""The forms of request that can be planned without a model, by name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from asterism.orchestrator.core.edits import Edit
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.request import Request
from asterism.orchestrator.core.values import Json
from asterism.planner.boards import board_batches, most_stars, read_boards, read_options
from asterism.planner.plan_file import plan_batches
from asterism.planner.rehearsal import rehearsed
from asterism.planner.text_form import text_batches


@dataclass(frozen=True, slots=True)
class Form:
    """A form of request."""

    summary: str
    batches: Callable[[Request, frozenset[str]], Iterator[tuple[Edit, ...]]]
    """Edits in an order in which each batch holds by itself; InvalidField comes before the first. The names are what
    the workers offer: where there are any, InvalidEdit refuses what none of them can do."""
    most_stars: Callable[[Request], int | None]
    """Stars that may come in the worst case, those added later included; None: no more than the batches add."""


def _boards(request: Request, known: frozenset[str]) -> Iterator[tuple[Edit, ...]]:
    return rehearsed(board_batches(request.text, request.options), known)


def _most_stars_of_boards(request: Request) -> int:
    return most_stars(len(read_boards(request.text)), read_options(request.options))


def _text(request: Request, known: frozenset[str]) -> Iterator[tuple[Edit, ...]]:
    return rehearsed(text_batches(request), known)


def _plan(request: Request, known: frozenset[str]) -> Iterator[tuple[Edit, ...]]:
    _refuse_options(request.options)
    return plan_batches(request.text, known)


def _refuse_options(options: Json) -> None:
    if options not in (None, {}):
        raise InvalidField("options", "a plan file has no options; say everything in the plan")


FORMS: Final[Mapping[str, Form]] = MappingProxyType(
    {
        "boards": Form("three to five numbers a line, and the target after =", _boards, _most_stars_of_boards),
        "text": Form("what is wanted, in words, for a language model", _text, lambda request: None),
        "plan": Form("a plan file of stars, in YAML or JSON", _plan, lambda request: None),
    }
)


def find_form(name: str) -> Form:
    """The form of this name; raises InvalidField that lists the known ones."""
    form = FORMS.get(name)
    if form is None:
        known = "; ".join(f"{known} ({form.summary})" for known, form in FORMS.items())
        raise InvalidField("form", f"{name!r} is no form of a request; there are {known}")
    return form
