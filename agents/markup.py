"""The words in which a model reasons about a board: what a program writes into prompts and reads from texts.

The marks follow ThreadWeaver (arXiv 2512.07843) as its paper describes them: `<Outlines>` name the threads, each
`<Thread>` is decoded behind the list, or behind as much of it as there is when it is spawned, and the text after
`</Parallel>` joins them. Every word is one token id.

    <Board> 3 4 6 8 -> 24 <Parallel> <Outlines> <Outline> 4 + 3 = 7 </Outline> <Outline> 4 - 3 = 1 </Outline> ...
    </Outlines> <Thread> 1 : 4 + 3 = 7 left 6 7 8 -> 24 : with 8 add 16 from 32 times 3 : 7 6 + 13 ... none </Thread>
    </Outlines> <Thread> 3 : 4 * 3 = 12 left 6 8 12 -> 24 : with 12 add 12 from 36 times 2 into 288 : 8 6 + 14 - 2 yes
        12 * 2 = 24 </Thread>
    </Parallel> <Answer> 3 </Answer>

A thread takes each of the three numbers that its outline left in turn, from the largest: says what that number needs
beside it to make the target, and then what each move on the other two gives, until one gives what is needed. So every
word is one small sum or one look back. The sequential form says the same in one text: `<Search> try <move> left ...`.

A quotient that is not whole may begin a thread too (see `parts.py`). It is called `part`; the two numbers beside it are
taken in turn as the factor, and all is multiplied by what stands under the part, so that the sums stay whole:

    <Thread> 20 : 11 / 18 = part left 3 18 part -> 65 : with 18 times 65 : 3 18 * 54 + 65 yes 3 + part , 18 * part
        </Thread>

`no` is the program's word: it stands behind a claim that was found false, and the model is never taught to say it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from asterism.agents.countdown import MAX_INTERMEDIATE, Board, Move, Operator
from asterism.agents.parts import END_WORDS, PART, FirstMove, Part, PartEnd, find_end, is_number

PARALLEL_OPENS: Final = "<Parallel> <Outlines>"
OUTLINE_OPENS: Final = "<Outline>"
OUTLINE_CLOSES: Final = "</Outline>"
OUTLINES_CLOSE: Final = "</Outlines>"
THREAD_OPENS: Final = "<Thread>"
THREAD_CLOSES: Final = "</Thread>"
PARALLEL_CLOSES: Final = "</Parallel>"
SEARCH_OPENS: Final = "<Search>"
SEARCH_CLOSES: Final = "</Search>"
ANSWER_OPENS: Final = "<Answer>"
ANSWER_CLOSES: Final = "</Answer>"
END: Final = "<end>"
TRY: Final = "try"
LEFT: Final = "left"
WITH: Final = "with"
YES: Final = "yes"
NO: Final = "no"
NONE: Final = "none"

Need: TypeAlias = Literal["add", "from", "take", "times", "into", "over"]
NEEDS: Final[tuple[Need, ...]] = ("add", "from", "take", "times", "into", "over")
"""What stands beside a number n to make the target: n + v, v - n, n - v, n * v, v / n and n / v."""

MARKS: Final = (
    *("<Board>", *PARALLEL_OPENS.split(), OUTLINE_OPENS, OUTLINE_CLOSES, OUTLINES_CLOSE, THREAD_OPENS, THREAD_CLOSES),
    *(PARALLEL_CLOSES, SEARCH_OPENS, SEARCH_CLOSES, ANSWER_OPENS, ANSWER_CLOSES),
)
WORDS: Final = ("->", ":", ",", "=", "+", "-", "*", "/", *NEEDS, TRY, LEFT, WITH, YES, NO, NONE, PART)
VOCABULARY: Final = ("<pad>", END, "<unk>", *MARKS, *WORDS, *(str(number) for number in range(MAX_INTERMEDIATE + 1)))

OUTLINE_TOKENS: Final = 7
_OPERATORS: Final[dict[str, Operator]] = {"+": "+", "-": "-", "*": "*", "/": "/"}


@dataclass(frozen=True, slots=True)
class Outline:
    """Reasoning thread `number` (from 1) begins with `move`."""

    number: int
    move: FirstMove


def board_text(board: Board) -> str:
    return board_line(board.numbers, board.target)


def board_line(numbers: Iterable[int], target: int) -> str:
    """The words of a board; what moves leave of one may hold 0, which no `Board` does."""
    return f"<Board> {' '.join(map(str, numbers))} -> {target}"


def outline_text(move: FirstMove) -> str:
    return f"{OUTLINE_OPENS} {move} {OUTLINE_CLOSES}"


def fork_prefix(board: Board, moves: Iterable[FirstMove]) -> str:
    """What threads of a board share: the first moves, or those that there were when a thread was spawned."""
    return " ".join((board_text(board), PARALLEL_OPENS, *map(outline_text, moves), OUTLINES_CLOSE))


def left_text(left: Iterable[int | str], target: int) -> str:
    """What a move left, and the target again: all that the search behind it has to look at."""
    return f"{LEFT} {' '.join(map(str, left))} -> {target} :"


def thread_opening(outline: Outline, left: Iterable[int | str], target: int) -> str:
    """How the program opens a thread: its outline, and the numbers that it leaves, so that the model cannot misread."""
    return f"{THREAD_OPENS} {outline.number} : {outline.move} {left_text(left, target)}"


def thread_brief(end: Move | PartEnd | None) -> str:
    """What the join says of a thread behind its opening: how its claim ends, or `none`."""
    return NONE if end is None else f"{YES} {end}"


def find_first(words: Sequence[str]) -> FirstMove | None:
    """The first move that five words say, true or not; None when they say none."""
    if len(words) == 5 and words[1] == "/" and words[3:] == ["=", PART] and all(map(is_number, (words[0], words[2]))):
        over, under = int(words[0]), int(words[2])
        return Part(over, under) if under else None
    return find_move(words)


def find_move(words: Sequence[str]) -> Move | None:
    """The move that five words `a op b = c` say, true or not; None when they say none."""
    if len(words) != 5 or words[3] != "=":
        return None
    return _move(words[0], words[1], words[2], words[4])


def _move(larger: str, operator: str, smaller: str, result: str) -> Move | None:
    if operator not in _OPERATORS or not all(map(is_number, (larger, smaller, result))):
        return None
    return Move(int(larger), _OPERATORS[operator], int(smaller), int(result))


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed solution: the moves after the thread's own, and how many words of the text come before its `yes`."""

    moves: tuple[Move, ...]
    words_before: int
    end: PartEnd | None = None
    """Instead of moves, where the thread's own is a part."""
    first: FirstMove | None = None
    """The thread's own, where the text says it."""

    @property
    def last(self) -> Move | PartEnd | None:
        return self.end if self.end is not None else self.moves[-1] if self.moves else None


def read_thread(text: str) -> Claim | None:
    """The claim in a thread's text: the move whose result stands before `yes`, and the last move behind it.

    None when it claims nothing; a claim that cannot be read has fewer than two moves.
    """
    words = text.split()
    if YES not in words:
        return None
    at = words.index(YES)
    end = find_end(words[at + 1 : at + 1 + END_WORDS])
    if end is not None:
        return Claim((), at, end)
    found = (_second_move(words[:at]), find_move(words[at + 1 : at + 6]))
    return Claim(tuple(move for move in found if move is not None), at)


def _second_move(words: Sequence[str]) -> Move | None:
    """The move of the last result in `... : a b op c op c`: the operands stand behind the last colon."""
    if ":" not in words:
        return None
    at = len(words) - words[::-1].index(":")
    if len(words) - at < 4:
        return None
    return _move(words[at], words[-2], words[at + 1], words[-1])


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
    return replace(claim, first=find_first(words[at : at + 5]))


def read_winner(text: str) -> int | None:
    """The number of the outline that the join says won; None when it says anything else."""
    words = text.split()
    return int(words[0]) if len(words) == 1 and is_number(words[0]) else None


def read_direct(text: str) -> Claim | None:
    """The claim of an answer that was said without a search, `move , move , move`; None when it is anything else."""
    words = text.split()
    first, rest = find_first(words[:5]), words[6:]
    if first is None or words[5:6] not in ([], [","]):
        return None
    if isinstance(first, Part):
        end = find_end(rest)
        return None if end is None else Claim((), 0, end, first)
    found = [find_move(part.split()) for part in " ".join(rest).split(" , ") if part]
    moves = tuple(move for move in found if move is not None)
    return Claim(moves, 0, first=first) if len(moves) == len(found) else None
