"""The program `reason.countdown`: a small model searches a board in parallel reasoning threads, verified exactly.

The parent text lists first moves as outlines; each thread explores one; the first verified claim cancels the others,
and the model says in the join which outline won. What the model says never counts by itself: expressions are rebuilt
from the moves and checked over the rationals. First moves that a list leaves out are put at its end, so that deeper
stars reach them all; a list without a usable outline falls back to the sequential search of one text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from asterism.agents import markup
from asterism.agents.asking import Asking, generate, say
from asterism.agents.asks import (
    Generate,
    Generated,
    Json,
    Program,
    ProgramContext,
    ProgramFailed,
    ProgramResult,
    Sampling,
)
from asterism.agents.countdown import (
    MAX_INTERMEDIATE,
    Board,
    InvalidBoard,
    Move,
    after,
    expression_of,
    first_moves,
    verify,
)
from asterism.agents.markup import Outline
from asterism.agents.threads import MAX_THREADS, Accounting, Judgement, ReasoningThread, ThreadReport, run_threads

Mode: TypeAlias = Literal["parallel", "sequential", "auto"]

MAX_SKIP: Final = 256
MAX_TOKENS: Final = 400
CONTEXT_TOKENS: Final = 512
"""What the model was trained on; a sequential search starts over before it is longer."""
_RESTART_TEMPERATURE: Final = 0.8
_MAX_STRETCHES: Final = 64
_ANSWER_TOKENS: Final = 24


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to try: `threads` outlines behind the first `skip`, `tokens` for each, and how to sample."""

    threads: int
    skip: int
    tokens: int
    mode: Mode
    temperature: float
    seed: int

    @staticmethod
    def from_json(inputs: Mapping[str, Json]) -> "Effort":
        """Reads a star's inputs, with defaults for what is not given; raises `ProgramFailed`."""
        mode = inputs.get("mode", "parallel")
        temperature = inputs.get("temperature", 0.0)
        if mode not in ("parallel", "sequential", "auto"):
            raise _invalid("mode", "must be 'parallel', 'sequential' or 'auto'")
        if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 <= temperature <= 2:
            raise _invalid("temperature", "must be a number from 0 to 2")
        return Effort(
            threads=_whole(inputs, "threads", 4, 1, MAX_THREADS),
            skip=_whole(inputs, "skip", 0, 0, MAX_SKIP),
            tokens=_whole(inputs, "tokens", 150, 1, MAX_TOKENS),
            mode="parallel" if mode == "parallel" else "sequential" if mode == "sequential" else "auto",
            temperature=float(temperature),
            seed=_whole(inputs, "seed", 0, 0, 2**31),
        )

    def sampling(self, max_tokens: int, *stop: str) -> Sampling:
        return Sampling(max_tokens=max_tokens, temperature=self.temperature, seed=self.seed, stop=stop)


def _invalid(field: str, reason: str) -> ProgramFailed:
    return ProgramFailed("invalid_input", f"{field}: {reason}", retryable=False)


def _whole(inputs: Mapping[str, Json], field: str, default: int, low: int, high: int) -> int:
    value = inputs.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _invalid(field, f"must be a whole number from {low} to {high}")
    return value


@dataclass(frozen=True, slots=True)
class _Found:
    """How a search ended: the verified expression if any, and a report for each thread."""

    expression: str | None
    threads: tuple[Json, ...]
    outlines: int = 0
    """How many outlines there were to fork, those of earlier stars among them, up to those asked for."""


def reason_countdown(inputs: Mapping[str, Json], context: ProgramContext) -> Program:
    """Searches the board of `numbers` and `target`; see `Effort` for the other inputs and `_result` for the value.

    The optional input `on_result` = {"solved": [edits], "unsolved": [edits]} says which edits of the graph go with the
    result.
    """
    try:
        board = Board.from_json(inputs)
    except InvalidBoard as error:
        raise _invalid(error.field, error.reason) from error
    if len(board.numbers) not in (3, 4) or max(*board.numbers, board.target) > MAX_INTERMEDIATE:
        raise _invalid("numbers", f"the model reads 3 or 4 numbers and a target up to {MAX_INTERMEDIATE}")
    effort = Effort.from_json(inputs)
    edits = _edits(inputs)
    accounting = Accounting()
    mode = effort.mode
    if mode == "auto":
        mode = yield from _chosen_mode(board, effort, accounting)
    if mode == "parallel":
        found = yield from _parallel(board, effort, accounting)
    else:
        found = yield from _sequential(board, effort, accounting)
    yield from say(f"{found.expression} = {board.target}" if found.expression else "no solution found")
    value = _result(board, effort, mode, found, accounting)
    return ProgramResult(value, edits["solved" if found.expression else "unsolved"])


def _edits(inputs: Mapping[str, Json]) -> dict[str, tuple[Mapping[str, Json], ...]]:
    on_result = inputs.get("on_result")
    if on_result is None:
        on_result = {}
    if not isinstance(on_result, Mapping) or not on_result.keys() <= {"solved", "unsolved"}:
        raise _invalid("on_result", "must be an object of 'solved' and 'unsolved'")
    edits: dict[str, tuple[Mapping[str, Json], ...]] = {}
    for case in ("solved", "unsolved"):
        listed = on_result.get(case, [])
        if not isinstance(listed, list | tuple):
            raise _invalid(f"on_result.{case}", "must be a list of edits")
        edits[case] = tuple(edit for edit in listed if isinstance(edit, Mapping) and len(edit) == 1)
        if len(edits[case]) != len(listed):
            raise _invalid(f"on_result.{case}", "each edit must be an object of one key")
    return edits


def _result(board: Board, effort: Effort, mode: Mode, found: _Found, accounting: Accounting) -> dict[str, Json]:
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
    accounting.count(generated, is_critical=True)
    return "sequential" if generated.text.split() == [markup.SEARCH_OPENS] else "parallel"


def _parallel(board: Board, effort: Effort, accounting: Accounting) -> Asking[_Found]:
    prompt = f"{markup.board_text(board)} {markup.PARALLEL_OPENS}"
    wanted = effort.skip + effort.threads
    # Two outlines more than needed: room for repeated and malformed ones.
    budget = (wanted + 2) * markup.OUTLINE_TOKENS
    listed = yield from generate(Generate(prompt, effort.sampling(budget, markup.OUTLINES_CLOSE)))
    accounting.count(listed, is_critical=True)
    read = markup.read_outlines(listed.text, first_moves(board))
    accounting.malformed_outlines += read.malformed
    accounting.repeated_outlines += read.repeated
    if not read.usable:
        accounting.fallbacks += 1
        return (yield from _sequential(board, effort, accounting))
    forgotten = [move for move in first_moves(board) if move not in read.usable]
    listed_moves = [*read.usable, *forgotten][:wanted]
    accounting.added_outlines += max(0, len(listed_moves) - len(read.usable))
    outlines = [Outline(number, move) for number, move in enumerate(listed_moves, start=1)]
    chosen = outlines[effort.skip :]
    if not chosen:
        return _Found(None, (), len(outlines))
    yield from say("; ".join(f"{outline.number}: {outline.move}" for outline in chosen))

    by_name = {f"t{outline.number}": outline for outline in chosen}
    claims: dict[str, tuple[Move, ...]] = {}
    expressions: dict[str, str] = {}

    def judge(thread: ReasoningThread, generated: Generated) -> Judgement:
        claim = markup.read_thread(generated.text)
        if claim is None:
            return _without_claim(generated)
        chain = (by_name[thread.name].move, *claim.moves)
        expression = expression_of(board, chain)
        if expression is not None and verify(board, expression).is_correct:
            claims[thread.name], expressions[thread.name] = claim.moves, expression
            return Judgement("verified")
        outcome: Literal["malformed", "claimed_false"] = "malformed" if len(claim.moves) < 2 else "claimed_false"
        return Judgement(outcome, markup.struck_out(generated.text, claim))

    prefix = markup.fork_prefix(board, outlines)
    openings = {name: markup.thread_opening(one, after(board.numbers, one.move) or ()) for name, one in by_name.items()}
    reports = yield from run_threads(
        prefix,
        [ReasoningThread(name, f" {opening}") for name, opening in openings.items()],
        sampling=effort.sampling(effort.tokens, markup.THREAD_CLOSES),
        policy="first-verified",
        judge=judge,
        accounting=accounting,
    )
    threads = tuple(_thread_json(report, str(by_name[report.name].move)) for report in reports)
    winner = next((report.name for report in reports if report.outcome == "verified"), None)
    if winner is None:
        return _Found(None, threads, len(outlines))
    ended = [
        (by_name[report.name], claims.get(report.name, ()))
        for report in reports
        if report.outcome in ("verified", "refuted")
    ]
    joined = yield from _joined_answer(board, prefix, ended, effort, accounting)
    return _Found(joined or expressions[winner], threads, len(outlines))


def _without_claim(generated: Generated) -> Judgement:
    if generated.finish_reason in ("length", "error", "cancelled"):
        return Judgement("truncated")
    return Judgement("refuted" if markup.NONE in generated.text.split() else "malformed")


def _thread_json(report: ThreadReport, outline: str) -> dict[str, Json]:
    return {"thread": report.name, "outline": outline, "outcome": report.outcome, "tokens": report.tokens}


def _joined_answer(
    board: Board, prefix: str, ended: Sequence[tuple[Outline, Sequence[Move]]], effort: Effort, accounting: Accounting
) -> Asking[str | None]:
    """What the model makes of the joined threads, if it is right; if not, the verified thread's own claim stands."""
    prompt = f"{prefix} {markup.join_opening(ended)}"
    tail = yield from generate(Generate(prompt, effort.sampling(_ANSWER_TOKENS, markup.ANSWER_CLOSES)))
    accounting.count(tail, is_critical=True)
    chain = markup.read_answer(tail.text)
    expression = None if chain is None else expression_of(board, chain)
    if expression is not None and verify(board, expression).is_correct:
        return expression
    accounting.false_claims += 1
    return None


def _sequential(board: Board, effort: Effort, accounting: Accounting) -> Asking[_Found]:
    """One text at a time, in all as many token ids as the threads would have had; each new start samples anew."""
    opening = f"{markup.board_text(board)} {markup.SEARCH_OPENS}"
    room = CONTEXT_TOKENS - len(opening.split())
    left = effort.threads * effort.tokens
    kept, starts = "", 0
    reports: list[Json] = []
    for _ in range(_MAX_STRETCHES):
        if left <= 0:
            break
        sampling = Sampling(
            max_tokens=min(left, room - len(kept.split())),
            temperature=effort.temperature if starts == 0 else max(effort.temperature, _RESTART_TEMPERATURE),
            seed=effort.seed + starts,
            stop=(markup.SEARCH_CLOSES,),
        )
        thread = f"s{starts + 1}"
        generated = yield from generate(Generate(f"{opening} {kept}".rstrip(), sampling, thread))
        accounting.count(generated, is_critical=True)
        left -= max(1, generated.tokens)
        text = f"{kept} {generated.text}".strip()
        claim = markup.read_search(text)
        expression = None if claim is None else expression_of(board, claim.moves)
        is_verified = expression is not None and verify(board, expression).is_correct
        judgement = Judgement("verified") if is_verified else _without_claim(generated)
        if claim is not None and not is_verified:
            judgement = Judgement("claimed_false")
            accounting.false_claims += 1
        reports.append(_thread_json(ThreadReport(thread, judgement.outcome, generated.tokens, text), ""))
        if is_verified:
            return _Found(expression, tuple(reports))
        kept = "" if claim is None else markup.struck_out(text, claim)
        if not kept or len(kept.split()) >= room - markup.MOVE_TOKENS:
            kept, starts = "", starts + 1
    return _Found(None, tuple(reports))
