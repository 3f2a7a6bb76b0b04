"""Boards of Countdown (the Game of 24 and its kin), one a line, and the constellation that solves them.

Each board gets two sibling stars that reason with different first moves; the one that solves it cancels the other and
the follower. The follower, a plan star, runs when both have ended without a solution: it adds the next, deeper pair and
a follower of that, and after the last level the exact search. So whoever names a star in an edit names one that was
added before it or with it, in every order of ends. The report is added first; every later star brings its own line to
it, so that its parents are settled only when the last board is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from asterism.agents.countdown import MAX_INTERMEDIATE, MAX_NUMBERS, Board, InvalidBoard
from asterism.orchestrator.core.constellation import PLAN_STAR
from asterism.orchestrator.core.edits import AddLine, AddStar, CancelStar, Edit, EditBatch
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.star import Constant, ParentOutcomes, StarInput, StarKind, StarSpec
from asterism.orchestrator.core.values import Json
from asterism.planner.document import Position, plain
from asterism.planner.edits_json import edits_to_json
from asterism.planner.fields import Fields, WrongAt, refusal, validated

MIN_NUMBERS: Final = 3
"""With fewer there is nothing to search."""
MAX_BOARDS: Final = 256
"""The report reads the outcome of every star, and one assignment carries at most 2 MiB of inputs."""
MODEL_NUMBERS: Final = 4
"""Most numbers of a board that the model was trained on."""
REPORT: Final = StarId("report")
NEXT_PROGRAM: Final = "plan.next"


class BoardOptions(Fields):
    """Settings of the form `boards`."""

    threads: Annotated[int, Field(ge=1, le=8)] = 4
    """Reasoning threads of each star of the first level; every further level has twice as many, at most 16."""
    levels: Annotated[int, Field(ge=1, le=4)] = 2
    """Pairs of reasoning stars before the exact search."""
    search: bool = True
    """Whether the exact search ends the levels; without it an unsolved board is `not found within the budget`."""
    model: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")] = "countdown"
    """The model that the reasoning stars require."""


MAX_THREADS: Final = 16


@dataclass(frozen=True, slots=True)
class NumberedBoard:
    """A board of the request: `id` begins the names of its stars."""

    id: str
    numbers: tuple[int, ...]
    target: int


@dataclass(frozen=True, slots=True)
class Level:
    """How deep the search of one board is."""

    number: int
    """From 1."""
    threads: int
    """Of each of the two stars."""
    skip: int
    """First moves that the levels before have tried."""


def first_level(options: BoardOptions) -> Level:
    """Where the search of every board begins."""
    return Level(1, options.threads, 0)


def next_level(level: Level) -> Level:
    """The level after: twice the threads, and first moves that nobody tried."""
    return Level(level.number + 1, min(2 * level.threads, MAX_THREADS), level.skip + 2 * level.threads)


def read_options(options: Json) -> BoardOptions:
    """Options as they come with a request; raises InvalidField."""
    try:
        return validated(BoardOptions, {} if options is None else plain(options, field="options"))
    except WrongAt as wrong:
        raise refusal(wrong, field="options") from None


def read_boards(text: str) -> list[NumberedBoard]:
    """One board a line: `4 6 8 3`, or `4 6 8 3 = 10` for another target than 24; `#` begins a comment.

    Raises InvalidField with line and column.
    """
    found: list[tuple[tuple[int, ...], int]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.partition("#")[0]
        if not content.strip():
            continue
        found.append(_read_board(number, content))
        if len(found) > MAX_BOARDS:
            raise InvalidField(f"line {number}", f"more than {MAX_BOARDS} boards in one request")
    if not found:
        raise InvalidField("text", "there is no board in it; write one a line, such as 4 6 8 3")
    width = max(2, len(str(len(found))))
    return [NumberedBoard(f"b{i:0{width}}", numbers, target) for i, (numbers, target) in enumerate(found, start=1)]


def _read_board(number: int, line: str) -> tuple[tuple[int, ...], int]:
    left, equals, right = line.partition("=")
    numbers = _read_numbers(number, left, 0)
    targets = _read_numbers(number, right, len(left) + 1) if equals else [24]
    if not MIN_NUMBERS <= len(numbers) <= MAX_NUMBERS:
        reason = f"a board has {MIN_NUMBERS} to {MAX_NUMBERS} numbers, not {len(numbers)}"
        raise InvalidField(str(Position(number, _first_column(left, 0))), reason)
    if len(targets) != 1:
        raise InvalidField(str(Position(number, len(left) + 2)), "one whole number, the target, follows the sign =")
    try:
        Board(tuple(numbers), targets[0])
    except InvalidBoard as error:
        column = _first_column(right, len(left) + 1) if error.field == "target" else _first_column(left, 0)
        raise InvalidField(str(Position(number, column)), f"{error.field}: {error.reason}") from None
    return tuple(numbers), targets[0]


def _first_column(text: str, before: int) -> int:
    return before + len(text) - len(text.lstrip()) + 1


def _read_numbers(line: int, text: str, before: int) -> list[int]:
    numbers: list[int] = []
    at = 0
    for word in text.split():
        at = text.index(word, at)
        if not (word.isascii() and word.isdigit() and len(word) <= 9):
            place = Position(line, before + at + 1)
            raise InvalidField(str(place), f"{word[:40]!r} is not a whole number above 0")
        numbers.append(int(word))
        at += len(word)
    return numbers


def board_batches(text: str, options: Json) -> Iterator[tuple[Edit, ...]]:
    """The report, then one batch for each board; raises InvalidField before the first."""
    settings = read_options(options)
    boards = read_boards(text)
    yield _report(boards)
    for board in boards:
        if is_for_model(board):
            yield level_edits(board, first_level(settings), settings)
        else:
            yield search_edits(board)


def is_for_model(board: NumberedBoard) -> bool:
    """Whether the model can read the board; the exact search can read every board."""
    return len(board.numbers) <= MODEL_NUMBERS and max(*board.numbers, board.target) <= MAX_INTERMEDIATE


def most_stars(boards: int, options: BoardOptions) -> int:
    """Stars of a request in the worst case, plan star and report included."""
    followers = options.levels if options.search else options.levels - 1
    return 2 + boards * (2 * options.levels + followers + options.search)


def _report(boards: Sequence[NumberedBoard]) -> tuple[Edit, ...]:
    listed: Json = [{"id": board.id, "numbers": list(board.numbers), "target": board.target} for board in boards]
    spec = StarSpec(
        REPORT,
        StarKind.GATHER,
        "gather.boards",
        inputs={"boards": Constant(listed), "outcomes": ParentOutcomes()},
        title="report on all boards",
    )
    # Unlike the others: a plan that failed half-way must not end in a report that looks whole.
    return (AddStar(spec, (PLAN_STAR,)),)


def _to_report(star: StarId) -> AddLine:
    """However the star ends: the report says what is known then."""
    return AddLine(TaskStarLine(star, REPORT, LineKind.COMPLETION))


def level_edits(board: NumberedBoard, level: Level, options: BoardOptions) -> tuple[Edit, ...]:
    """A pair of reasoning stars with first moves of their own, and their follower if anything follows."""
    suffix = "" if level.number == 1 else str(level.number)
    pair = (StarId(f"{board.id}-a{suffix}"), StarId(f"{board.id}-b{suffix}"))
    is_last = level.number == options.levels and not options.search
    follower = None if is_last else StarId(f"{board.id}-next{suffix}")
    edits: list[Edit] = []
    for index, star in enumerate(pair):
        # The follower goes first: when its last parent ends it would otherwise be ready for a moment.
        rivals = [other for other in (follower, pair[1 - index]) if other is not None]
        skip = level.skip + index * level.threads
        edits.append(AddStar(_reason_star(star, board, level, skip, rivals, options)))
    if follower is not None:
        edits.append(AddStar(_follower(follower, board, level, options)))
        edits.extend(AddLine(TaskStarLine(star, follower, LineKind.COMPLETION)) for star in pair)
    edits.extend(_to_report(star) for star in (*pair, follower) if star is not None)
    return tuple(edits)


def search_edits(board: NumberedBoard) -> tuple[Edit, ...]:
    """The exact search, which finds a solution or proves that there is none."""
    star = StarId(f"{board.id}-search")
    spec = StarSpec(
        star,
        StarKind.TOOL,
        "countdown.search",
        inputs=_board_inputs(board),
        priority=1,
        title=f"{_shown(board)}: exact search",
    )
    return (AddStar(spec), _to_report(star))


def _reason_star(
    star: StarId, board: NumberedBoard, level: Level, skip: int, rivals: Sequence[StarId], options: BoardOptions
) -> StarSpec:
    cancels = edits_to_json(EditBatch(tuple(CancelStar(rival) for rival in rivals)))
    return StarSpec(
        star,
        StarKind.REASON,
        "reason.countdown",
        inputs={
            **_board_inputs(board),
            "threads": Constant(level.threads),
            "skip": Constant(skip),
            "on_result": Constant({"solved": list(cancels), "unsolved": []}),
        },
        requires=frozenset({f"model:{options.model}"}),
        # What went deeper is on the longest path to the report, so it goes first.
        priority=level.number - 1,
        may_edit=True,
        title=f"{_shown(board)}: first moves {skip + 1} to {skip + level.threads}",
    )


def _follower(star: StarId, board: NumberedBoard, level: Level, options: BoardOptions) -> StarSpec:
    return StarSpec(
        star,
        StarKind.PLAN,
        NEXT_PROGRAM,
        inputs={
            "board": Constant({"id": board.id, "numbers": list(board.numbers), "target": board.target}),
            "level": Constant({"number": level.number, "threads": level.threads, "skip": level.skip}),
            "options": Constant(options.model_dump(mode="json")),
            "outcomes": ParentOutcomes(),
        },
        priority=level.number,
        may_edit=True,
        title=f"{_shown(board)}: what next",
    )


def _board_inputs(board: NumberedBoard) -> dict[str, StarInput]:
    return {"numbers": Constant(list(board.numbers)), "target": Constant(board.target)}


def _shown(board: NumberedBoard) -> str:
    return f"{' '.join(map(str, board.numbers))} = {board.target}"


class _BoardFields(Fields):
    id: str
    numbers: list[int]
    target: int


class _LevelFields(Fields):
    number: int
    threads: int
    skip: int


def following_edits(inputs: Mapping[str, Json]) -> tuple[Edit, ...]:
    """What a follower adds, given its inputs: nothing when the board is solved, else a level or the search.

    Raises InvalidField when the inputs are not a follower's.
    """
    try:
        board = validated(_BoardFields, inputs.get("board"), at=("board",))
        level = validated(_LevelFields, inputs.get("level"), at=("level",))
    except WrongAt as wrong:
        raise refusal(wrong, field="inputs") from None
    options = read_options(inputs.get("options"))
    outcomes = inputs.get("outcomes")
    if isinstance(outcomes, Mapping) and any(_is_solved(outcome) for outcome in outcomes.values()):
        return ()
    numbered = NumberedBoard(board.id, tuple(board.numbers), board.target)
    if level.number < options.levels:
        return level_edits(numbered, next_level(Level(level.number, level.threads, level.skip)), options)
    return search_edits(numbered) if options.search else ()


def _is_solved(outcome: Json) -> bool:
    result = outcome.get("result") if isinstance(outcome, Mapping) else None
    return isinstance(result, Mapping) and result.get("solved") is True
