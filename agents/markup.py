"""The words in which a model reasons about a board: what a program writes into prompts and reads from texts.

The marks follow ThreadWeaver (arXiv 2512.07843) as its paper describes them: `<Outlines>` name the threads, each
`<Thread>` is decoded from one shared prefix, and the text after `</Parallel>` joins them. Every word is one token id.

    <Board> 3 4 6 8 -> 24 <Parallel> <Outlines> <Outline> 1 : 6 + 4 = 10 </Outline> ... </Outlines>
    <Thread> 1 : 6 + 4 = 10 left 3 8 10 : 10 needs + 14 - 34 : 8 + 3 = 11 no 8 - 3 = 5 no ... none </Thread>
    <Thread> 2 : 4 * 3 = 12 left 6 8 12 : 12 needs + 12 - 36 * 2 : 8 + 6 = 14 no 8 - 6 = 2 yes 12 * 2 = 24 </Thread>
    </Parallel> <Answer> 2 : 4 * 3 = 12 , 8 - 6 = 2 , 12 * 2 = 24 </Answer>

A thread takes each of the three numbers that its outline left in turn, from the largest: says what that number needs
beside it to make the target, and then tries each move on the other two until one gives what is needed. So every word is
one small sum or one look back. The sequential form says the same in one text: `<Search> try <move> left ...`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from asterism.agents.countdown import MAX_INTERMEDIATE, Board, Move, Operator

PARALLEL_OPENS: Final = "<Parallel> <Outlines>"
OUTLINE_CLOSES: Final = "</Outline>"
OUTLINES_CLOSE: Final = "</Outlines>"
THREAD_CLOSES: Final = "</Thread>"
PARALLEL_CLOSES: Final = "</Parallel>"
SEARCH_OPENS: Final = "<Search>"
SEARCH_CLOSES: Final = "</Search>"
ANSWER_OPENS: Final = "<Answer>"
ANSWER_CLOSES: Final = "</Answer>"
END: Final = "<end>"
TRY: Final = "try"
LEFT: Final = "left"
NEEDS: Final = "needs"
YES: Final = "yes"
NO: Final = "no"
NONE: Final = "none"

MARKS: Final = (
    *("<Board>", "<Parallel>", "<Outlines>", "<Outline>", OUTLINE_CLOSES, OUTLINES_CLOSE, "<Thread>", THREAD_CLOSES),
    *(PARALLEL_CLOSES, SEARCH_OPENS, SEARCH_CLOSES, ANSWER_OPENS, ANSWER_CLOSES),
)
WORDS: Final = ("->", ":", ",", "=", "+", "-", "*", "/", TRY, LEFT, NEEDS, YES, NO, NONE)
VOCABULARY: Final = ("<pad>", END, "<unk>", *MARKS, *WORDS, *(str(number) for number in range(MAX_INTERMEDIATE + 1)))

OUTLINE_TOKENS: Final = 9
MOVE_TOKENS: Final = 6
"""Tokens of one tried move in a thread: the move and the verdict."""

_OPERATORS: Final[dict[str, Operator]] = {"+": "+", "-": "-", "*": "*", "/": "/"}


@dataclass(frozen=True, slots=True)
class Outline:
    """Reasoning thread `number` (from 1) begins with `move`."""

    number: int
    move: Move


def board_text(board: Board) -> str:
    return f"<Board> {' '.join(map(str, board.numbers))} -> {board.target}"


def outline_text(outline: Outline) -> str:
    return f"<Outline> {outline.number} : {outline.move} {OUTLINE_CLOSES}"


def fork_prefix(board: Board, outlines: Iterable[Outline]) -> str:
    """What all threads of a board share."""
    return " ".join((board_text(board), PARALLEL_OPENS, *map(outline_text, outlines), OUTLINES_CLOSE))


def thread_opening(outline: Outline, left: Iterable[int]) -> str:
    """How the program opens a thread: its outline, and the numbers that it leaves, so that the model cannot misread."""
    return f"<Thread> {outline.number} : {outline.move} {LEFT} {' '.join(map(str, left))} :"


def join_opening(ended: Iterable[tuple[Outline, Sequence[Move]]]) -> str:
    """The threads in short, in the order of their outlines, each with the moves it claims, or with `none`."""
    threads = (
        f"<Thread> {outline.number} : {' , '.join(map(str, claim)) if claim else NONE} {THREAD_CLOSES}"
        for outline, claim in ended
    )
    return " ".join((*threads, PARALLEL_CLOSES, ANSWER_OPENS))


def find_move(words: Sequence[str]) -> Move | None:
    """The move that five words `a op b = c` say, true or not; None when they say none."""
    if len(words) != 5 or words[3] != "=" or words[1] not in _OPERATORS:
        return None
    numbers = [words[0], words[2], words[4]]
    if not all(_is_number(word) for word in numbers):
        return None
    larger, smaller, result = map(int, numbers)
    return Move(larger, _OPERATORS[words[1]], smaller, result)


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) <= 6


@dataclass(frozen=True, slots=True)
class Outlines:
    """What a model's list holds: the outlines that can be forked, and how many entries were malformed or repeated."""

    usable: tuple[Move, ...]
    malformed: int
    repeated: int


def read_outlines(text: str, allowed: Iterable[Move]) -> Outlines:
    """Reads the text between `<Outlines>` and its close; an entry that is no move of `allowed` counts as malformed.

    A last entry that was cut off in the middle is not counted as anything.
    """
    possible = frozenset(allowed)
    usable: dict[Move, None] = {}
    malformed = repeated = 0
    *entries, _unfinished = text.split(OUTLINE_CLOSES)
    for entry in entries:
        words = entry.split()
        move = find_move(words[3:]) if words[:1] == ["<Outline>"] and words[2:3] == [":"] else None
        if move is None or move not in possible:
            malformed += 1
        elif move in usable:
            repeated += 1
        else:
            usable[move] = None
    return Outlines(tuple(usable), malformed, repeated)


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed solution: the moves after the thread's own, and how many words of the text come before its `yes`."""

    moves: tuple[Move, ...]
    words_before: int


def read_thread(text: str) -> Claim | None:
    """The claim in a thread's text: the move before `yes`, and the last move behind it; None when it claims nothing."""
    words = text.split()
    if YES not in words:
        return None
    at = words.index(YES)
    second, last = find_move(words[max(0, at - 5) : at]), find_move(words[at + 1 : at + 6])
    return Claim(tuple(move for move in (second, last) if move is not None), at)


def struck_out(text: str, claim: Claim) -> str:
    """The text up to a false claim, with `no` in the place of its `yes`: from there the search can go on."""
    return " ".join((*text.split()[: claim.words_before], NO))


def read_search(text: str) -> Claim | None:
    """The claim in a sequential text: the move it last tried, if any, and those of its `yes`."""
    claim = read_thread(text)
    if claim is None:
        return None
    words = text.split()[: claim.words_before]
    if TRY not in words:
        return claim
    at = len(words) - words[::-1].index(TRY)
    first = find_move(words[at : at + 5])
    return Claim(claim.moves if first is None else (first, *claim.moves), claim.words_before)


def read_answer(text: str) -> tuple[Move, ...] | None:
    """The moves of `<Answer> n : move , move , move`; None when it is anything else."""
    words = text.split()
    if len(words) < 7 or words[1] != ":" or not _is_number(words[0]):
        return None
    found = [find_move(part.split()) for part in " ".join(words[2:]).split(" , ")]
    moves = tuple(move for move in found if move is not None)
    return moves if len(moves) == len(found) else None
