"""Tools that are pure functions: no network, no files, the same answer for the same inputs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from asterism.agents.asks import Effect, Json, ToolDescription
from asterism.agents.countdown import MAX_NUMBER, MAX_NUMBERS, Board, search


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A pure tool: `function` may raise ValueError for inputs that it cannot use.

    `is_quick` tools take microseconds and may run where they are asked for.
    """

    function: Callable[[Mapping[str, Json]], Json]
    description: ToolDescription
    is_quick: bool = False


def search_countdown(inputs: Mapping[str, Json]) -> Json:
    """Searches the board exactly, over the rationals: `solvable` false is a proof."""
    board = Board.from_json(inputs)
    found = search(board)
    return {
        **board.to_json(),
        "solvable": found.expression is not None,
        "expression": found.expression,
        "searched": found.searched,
    }


def noop(inputs: Mapping[str, Json]) -> Json:
    """Its inputs, unchanged."""
    return inputs


_BOARD_SCHEMA: Final[Mapping[str, Json]] = {
    "type": "object",
    "properties": {
        "numbers": {
            "type": "array",
            "items": {"type": "integer", "minimum": 1, "maximum": MAX_NUMBER},
            "minItems": 1,
            "maxItems": MAX_NUMBERS,
        },
        "target": {"type": "integer", "minimum": 1, "maximum": MAX_NUMBER, "default": 24},
    },
    "required": ["numbers"],
}
_KEEP_S: Final = 86_400.0
"""A day: arithmetic does not change, but caches have other uses for their room."""


def _by_name(*specs: ToolSpec) -> Mapping[str, ToolSpec]:
    return MappingProxyType({spec.description.name: spec for spec in specs})


TOOLS: Final[Mapping[str, ToolSpec]] = _by_name(
    ToolSpec(
        search_countdown,
        ToolDescription(
            name="countdown.search",
            summary="Solve a Countdown board by exhaustive search, or prove that it has none",
            schema=_BOARD_SCHEMA,
            effect=Effect.PURE,
            cache_s=_KEEP_S,
        ),
    ),
    ToolSpec(noop, ToolDescription(name="noop", summary="Give the inputs back", effect=Effect.PURE), is_quick=True),
)
