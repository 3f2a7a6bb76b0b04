"""One text after another about a board: a sequential search, or an answer without one; each new start samples anew.

What threads are compared with, and what boards of three numbers get, which are not worth a fork.
"""

from dataclasses import dataclass, replace
from typing import Final

from asterism.agents import markup
from asterism.agents.accounting import Accounting
from asterism.agents.asking import Asking, generate
from asterism.agents.asks import Generate, Json
from asterism.agents.countdown import Board, expression_of, verify
from asterism.agents.effort import Effort
from asterism.agents.markup import Claim
from asterism.agents.parts import FirstMove, Part
from asterism.agents.reasoning import Outcome

MAX_STRETCHES: Final = 128
RESTART_TEMPERATURE: Final = 0.8
_CLAIM_TOKENS: Final = 8
"""Less room than this is not worth another request."""


@dataclass(frozen=True, slots=True)
class Found:
    """How a search ended: the verified expression if any, and a report for each thread or text."""

    expression: str | None
    threads: tuple[Json, ...]
    outlines: int = 0
    """How many outlines there were to fork, those of earlier stars among them, up to those asked for."""


def thread_json(name: str, outline: str, outcome: Outcome, tokens: int, path_tokens: int) -> Json:
    """One thread in a result; `path_tokens` are on the longest causal chain that ends with it."""
    return {"thread": name, "outline": outline, "outcome": outcome, "tokens": tokens, "path_tokens": path_tokens}


def verified(board: Board, first: FirstMove | None, claim: Claim) -> str | None:
    """The expression that a claim builds behind a first move, if it solves the board."""
    expression: str | None
    if isinstance(first, Part):
        expression = None if claim.end is None else claim.end.expression(first)
    else:
        expression = expression_of(board, claim.moves if first is None else (first, *claim.moves))
    return expression if expression is not None and verify(board, expression).is_correct else None


def in_texts(board: Board, effort: Effort, accounting: Accounting, *, is_direct: bool) -> Asking[Found]:
    """Greedy first, then sampled, until a claim is verified or the budget is spent.

    A false claim of a search is struck out, and the text goes on behind it while its context lasts.
    """
    opens, closes = (
        (markup.ANSWER_OPENS, markup.ANSWER_CLOSES) if is_direct else (markup.SEARCH_OPENS, markup.SEARCH_CLOSES)
    )
    opening = f"{markup.board_text(board)} {opens}"
    room = effort.context - len(opening.split())
    left, kept, starts = effort.budget, "", 0
    reports: list[Json] = []
    for _ in range(MAX_STRETCHES):
        if left <= 0:
            break
        sampling = replace(
            effort.sampling(min(left, room - len(kept.split())), closes),
            temperature=effort.temperature if starts == 0 else max(effort.temperature, RESTART_TEMPERATURE),
            seed=(effort.seed + starts) % 2**31,
        )
        name = f"s{starts + 1}"
        generated = yield from generate(Generate(f"{opening} {kept}".rstrip(), sampling, name))
        accounting.count(generated)
        accounting.critical_path_tokens += generated.tokens
        left -= max(1, generated.tokens)
        text = f"{kept} {generated.text}".strip()
        claim = markup.read_direct(text) if is_direct else markup.read_search(text)
        expression = None if claim is None else verified(board, claim.first, claim)
        outcome = _outcome(text, claim, expression)
        reports.append(thread_json(name, "", outcome, generated.tokens, accounting.critical_path_tokens))
        if expression is not None:
            return Found(expression, tuple(reports))
        accounting.false_claims += claim is not None
        kept = "" if claim is None or is_direct else markup.struck_out(text, claim)
        if len(kept.split()) > room - _CLAIM_TOKENS:
            kept = ""
        starts += not kept
    return Found(None, tuple(reports))


def _outcome(text: str, claim: Claim | None, expression: str | None) -> Outcome:
    if expression is not None:
        return "verified"
    if claim is not None:
        return "claimed_false"
    return "refuted" if markup.NONE in text.split() else "truncated"
