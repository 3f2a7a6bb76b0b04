"""The program `reason.countdown`: a small model searches a board in parallel reasoning threads, verified exactly.

The parent text lists first moves as outlines; a thread explores each of them as soon as it is listed; the first
verified claim cancels the others, and the model says in the join which outline won. What the model says never counts by
itself: expressions are rebuilt from the moves and checked over the rationals. First moves that a list leaves out are
put at its end, so that deeper stars reach them all. A board of three numbers is not worth a fork: the model says so.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from asterism.agents import markup
from asterism.agents.accounting import Accounting, Limits
from asterism.agents.asking import Asking, generate, say
from asterism.agents.asks import Generate, Json, Program, ProgramContext, ProgramResult
from asterism.agents.countdown import MAX_INTERMEDIATE, Board, InvalidBoard
from asterism.agents.effort import Effort, Mode, invalid
from asterism.agents.markup import Outline
from asterism.agents.one_text import Found, in_texts, thread_json, verified
from asterism.agents.outlined import Outlined
from asterism.agents.parts import Part, beginnings, left_of
from asterism.agents.policies import All, FirstVerified
from asterism.agents.reasoning import Ended, Judgement, Reasoned, Reasoning, Task
from asterism.agents.running import reason
from asterism.agents.scheme import Opening

SCHEME: Final = Outlined(
    entry="{entry_opens} {outline} {entry_closes}",
    closes_block=True,
    after_join=markup.ANSWER_OPENS,
    sequential_opens=markup.SEARCH_OPENS,
    glue=" ",
    bannable=frozenset(markup.MARKS),
)
TAIL_TOKENS: Final = 4
"""The number of an outline and the close of the answer, twice."""


def reason_countdown(inputs: Mapping[str, Json], context: ProgramContext) -> Program:
    """Searches the board of `numbers` and `target`; see `Effort` for the other inputs and `_result` for the value.

    The optional input `on_result` = {"solved": [edits], "unsolved": [edits]} says which edits of the graph go with the
    result.
    """
    try:
        board = Board.from_json(inputs)
    except InvalidBoard as error:
        raise invalid(error.field, error.reason) from error
    if len(board.numbers) not in (3, 4) or max(*board.numbers, board.target) > MAX_INTERMEDIATE:
        raise invalid("numbers", f"the model reads 3 or 4 numbers and a target up to {MAX_INTERMEDIATE}")
    effort = Effort.from_json(inputs)
    if effort.mode == "parallel" and len(board.numbers) == 3:
        raise invalid("mode", "a board of three numbers has nothing to fork; 'auto' or 'sequential' solves it")
    edits = _edits(inputs)
    accounting = Accounting()
    mode = effort.mode
    if mode == "auto":
        mode = yield from _chosen_mode(board, effort, accounting)
    if mode == "parallel":
        found = yield from _parallel(board, effort, accounting)
    else:
        found = yield from in_texts(board, effort, accounting, is_direct=mode == "direct")
    yield from say(f"{found.expression} = {board.target}" if found.expression else "no solution found")
    value = _result(board, effort, mode, found, accounting)
    return ProgramResult(value, edits["solved" if found.expression else "unsolved"])


def _edits(inputs: Mapping[str, Json]) -> dict[str, tuple[Mapping[str, Json], ...]]:
    on_result = inputs.get("on_result")
    if on_result is None:
        on_result = {}
    if not isinstance(on_result, Mapping) or not on_result.keys() <= {"solved", "unsolved"}:
        raise invalid("on_result", "must be an object of 'solved' and 'unsolved'")
    edits: dict[str, tuple[Mapping[str, Json], ...]] = {}
    for case in ("solved", "unsolved"):
        listed = on_result.get(case, [])
        if not isinstance(listed, list | tuple):
            raise invalid(f"on_result.{case}", "must be a list of edits")
        edits[case] = tuple(edit for edit in listed if isinstance(edit, Mapping) and len(edit) == 1)
        if len(edits[case]) != len(listed):
            raise invalid(f"on_result.{case}", "each edit must be an object of one key")
    return edits


def _result(board: Board, effort: Effort, mode: Mode, found: Found, accounting: Accounting) -> dict[str, Json]:
    return {
        **board.to_json(),
        "solved": found.expression is not None,
        "expression": found.expression,
        "mode": mode,
        "skip": effort.skip,
        "outlines": found.outlines,
        "threads": found.threads,
        "accounting": accounting.to_json(),
    }


def _chosen_mode(board: Board, effort: Effort, accounting: Accounting) -> Asking[Mode]:
    """Lets the model say whether this board is worth a fork."""
    generated = yield from generate(Generate(markup.board_text(board), effort.sampling(1)))
    accounting.count(generated)
    accounting.critical_path_tokens += generated.tokens
    return "sequential" if generated.text.split() == [markup.SEARCH_OPENS] else "parallel"


class Explorer:
    """What the threads of one board are about: opens them, reads what they claim, and keeps what was verified."""

    def __init__(self, board: Board, effort: Effort) -> None:
        self._board = board
        self._possible = beginnings(board.numbers)
        self._first = effort.skip
        self._wanted = effort.skip + effort.threads
        self.listed: dict[str, Outline] = {}
        """By the words of their moves, in the order of the list."""
        self.expressions: dict[int, str] = {}
        """Verified, by the number of the outline."""

    def open(self, parent: str, number: int, entry: str) -> Opening | None:
        """The thread of a listed first move; None for what is none, or stands in the list already."""
        move = markup.find_first(entry.split())
        left = None if move is None else left_of(self._board.numbers, move)
        if move is None or left is None or move not in self._possible:
            return None
        outline = self.listed.setdefault(str(move), Outline(number, move))
        rank = list(self.listed).index(str(move))
        # Two moves that leave the same numbers need one thread.
        content = " ".join((*left, str(move) if isinstance(move, Part) else ""))
        text = markup.thread_opening(outline, left, self._board.target)
        return Opening(text, content, forks=self._first <= rank < self._wanted)

    def complete(self, parent: str, entries: Sequence[str]) -> Sequence[str]:
        """The first moves that the list forgot, in canonical order, up to those that are wanted."""
        forgotten = [str(move) for move in self._possible if str(move) not in self.listed]
        return forgotten[: max(0, self._wanted - len(self.listed))]

    def judge(self, ended: Ended) -> Judgement:
        claim = markup.read_thread(ended.text)
        if claim is None:
            if ended.is_cut_off:
                return Judgement("truncated", joins=False)
            is_refuted = markup.NONE in ended.text.split()
            # The join shows claims alone, or it would not fit the context that threads fit.
            return Judgement("refuted" if is_refuted else "malformed", joins=False)
        outline = self.listed[" ".join(ended.entry.split())]
        expression = verified(self._board, outline.move, claim)
        if expression is not None:
            self.expressions[outline.number] = expression
            return Judgement("verified", brief=markup.thread_brief(claim.last))
        struck_out = markup.struck_out(ended.text, claim)
        is_read = len(claim.moves) == 2 or claim.end is not None
        return Judgement("claimed_false" if is_read else "malformed", struck_out, joins=False)


def _parallel(board: Board, effort: Effort, accounting: Accounting) -> Asking[Found]:
    explorer = Explorer(board, effort)
    wanted = effort.skip + effort.threads
    declared = Reasoning(
        scheme=SCHEME,
        sampling=effort.sampling(0),
        policy=FirstVerified() if effort.wait == "first-verified" else All(),
        limits=Limits(
            threads=effort.threads,
            at_once=effort.at_once,
            fork_from=1,
            tokens_a_thread=effort.tokens,
            # Two outlines more than wanted: room for repeated and malformed ones.
            tokens_parent=(wanted + 2) * markup.OUTLINE_TOKENS + TAIL_TOKENS,
            tail_tokens=TAIL_TOKENS,
            tokens=effort.budget,
        ),
        eager=effort.is_eager,
        # What a join shows is one short claim: there is nothing to compute before it.
        incremental=False,
        stop=(markup.ANSWER_CLOSES,),
        opens_with=markup.PARALLEL_OPENS,
    )
    task = Task(judge=explorer.judge, open=explorer.open, complete=explorer.complete)
    reasoned = yield from reason(markup.board_text(board), declared, task, accounting)
    threads = tuple(
        thread_json(one.name, one.entry, one.outcome, one.tokens, one.path_tokens) for one in reasoned.threads
    )
    return Found(_answer(explorer, reasoned, accounting), threads, min(wanted, len(explorer.listed)))


def _answer(explorer: Explorer, reasoned: Reasoned, accounting: Accounting) -> str | None:
    """The expression of the outline that the join says won; if that one has none, any that was verified."""
    if not explorer.expressions:
        return None
    number = markup.read_winner(reasoned.tail)
    if number in explorer.expressions:
        return explorer.expressions[number]
    accounting.false_claims += number is not None
    return next(iter(explorer.expressions.values()))
