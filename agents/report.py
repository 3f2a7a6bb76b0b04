"""The program `gather.boards`: what is known about each board once every star that tried it has ended.

Nothing is taken on trust: each expression is verified again, and only an exact search proves that there is none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from asterism.agents.asking import say
from asterism.agents.asks import Json, Program, ProgramContext, ProgramFailed, ProgramResult
from asterism.agents.countdown import Board, InvalidBoard, verify

BoardAnswer: TypeAlias = Literal["solution", "none exists", "not found within the budget"]

MAX_BOARDS: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Asked:
    """A board of the request, under the name it has there."""

    id: str
    board: Board
    numbers: tuple[Json, ...]
    """In the order in which they were asked."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What one star's result says about its board, already verified."""

    star: str
    expression: str | None
    is_search: bool
    """Whether it is an exact search, and no thread of a model."""
    proves_none: bool
    threads: int
    tokens: int


def gather_boards(inputs: Mapping[str, Json], context: ProgramContext) -> Program:
    """Reports on `boards` [{id, numbers, target}] from `outcomes` {star: {state, result, error}}."""
    asked = [_asked(entry) for entry in _listed(inputs, "boards")]
    if len(asked) > MAX_BOARDS:
        raise ProgramFailed("invalid_input", f"boards: at most {MAX_BOARDS}", retryable=False)
    outcomes = inputs.get("outcomes")
    if not isinstance(outcomes, Mapping):
        raise ProgramFailed("invalid_input", "outcomes: must be an object of stars", retryable=False)
    found: dict[Board, list[_Found]] = {}
    for star, board, result in _results(outcomes):
        found.setdefault(board, []).append(_read(star, board, result))
    entries = [_entry(one, found.get(one.board, [])) for one in asked]
    text = "\n".join(_line(one, entry) for one, entry in zip(asked, entries, strict=True))
    yield from say(text)
    return ProgramResult({"boards": entries, "text": text})


def _listed(inputs: Mapping[str, Json], field: str) -> Sequence[Json]:
    value = inputs.get(field)
    if not isinstance(value, list | tuple):
        raise ProgramFailed("invalid_input", f"{field}: must be a list", retryable=False)
    return value


def _asked(entry: Json) -> _Asked:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("id"), str):
        raise ProgramFailed("invalid_input", "boards: each must be an object with an id", retryable=False)
    try:
        board = Board.from_json(entry)
        numbers = entry["numbers"]
        assert isinstance(numbers, list | tuple), "a board was read from it"
        return _Asked(str(entry["id"]), board, tuple(numbers))
    except InvalidBoard as error:
        raise ProgramFailed("invalid_input", f"boards: {entry['id']}: {error}", retryable=False) from error


def _results(outcomes: Mapping[str, Json]) -> Iterator[tuple[str, Board, Mapping[str, Json]]]:
    """Results of succeeded stars that name a board, in the order of the stars' names; others say nothing about one."""
    for star in sorted(outcomes):
        outcome = outcomes[star]
        result = outcome.get("result") if isinstance(outcome, Mapping) else None
        if not isinstance(result, Mapping):
            continue
        try:
            board = Board.from_json(result)
        except InvalidBoard:
            continue
        yield star, board, result


def _read(star: str, board: Board, result: Mapping[str, Json]) -> _Found:
    expression = result.get("expression")
    threads = result.get("threads")
    accounting = result.get("accounting")
    tokens = accounting.get("total_tokens") if isinstance(accounting, Mapping) else 0
    is_solution = isinstance(expression, str) and verify(board, expression).is_correct
    return _Found(
        star=star,
        expression=expression if isinstance(expression, str) and is_solution else None,
        is_search="solvable" in result,
        proves_none=result.get("solvable") is False,
        threads=len(threads) if isinstance(threads, list | tuple) else 0,
        tokens=tokens if isinstance(tokens, int) else 0,
    )


def _entry(asked: _Asked, found: Sequence[_Found]) -> dict[str, Json]:
    solved = next((one for one in found if one.expression is not None), None)
    proof = next((one for one in found if one.proves_none), None)
    answer: BoardAnswer = "solution" if solved else "none exists" if proof else "not found within the budget"
    decisive = solved or proof
    return {
        "id": asked.id,
        "numbers": asked.numbers,
        "target": asked.board.target,
        "answer": answer,
        "expression": None if solved is None else solved.expression,
        "by_star": None if decisive is None else decisive.star,
        "by_search": decisive is not None and decisive.is_search,
        "stars": len(found),
        "threads": sum(one.threads for one in found),
        "tokens": sum(one.tokens for one in found),
    }


def _line(asked: _Asked, entry: Mapping[str, Json]) -> str:
    numbers = " ".join(map(str, asked.numbers))
    if entry["answer"] == "solution":
        # No thread found it: that is no merit of the model's.
        by_search = " (by exact search)" if entry["by_search"] else ""
        return f"{numbers}: {entry['expression']} = {asked.board.target}{by_search}"
    return f"{numbers}: {entry['answer']}"
