"""The programs `reason.text`, `reason.child` and `reason.join`: any model answers a prompt with reasoning threads.

`reason.text` runs them here, or ends with edits that make each thread a star (`reason.child`) and add one that gathers
them and writes the answer (`reason.join`), when the trip pays; see `trip.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from asterism.agents.accounting import Accounting
from asterism.agents.asking import clock, say
from asterism.agents.asks import Json, Program, ProgramContext, ProgramResult
from asterism.agents.declaring import invalid, read_declared, read_mapping, read_number, read_text, read_texts
from asterism.agents.leaving import MAX_TEXT, can_travel, leaving_edits, leaving_to_json, read_away, read_leaving
from asterism.agents.policies import Best, FirstVerified, Standing, Vote, decide
from asterism.agents.reasoning import Ended, Leaving, Reasoned, Reasoning, ThreadReport
from asterism.agents.requesting import shown_characters
from asterism.agents.running import reason
from asterism.agents.scheme import Body, Opening, glued
from asterism.agents.trimming import BY_ANSWER, BY_CHILD, trimmed

_OF_CHILD: Final = ("thread", "outcome", "answer", "score", "truncated")
"""What the join repeats of each thread's result."""


def reason_text(inputs: Mapping[str, Json], context: ProgramContext) -> Program:
    """Answers `prompt` as `declared` says (see `read_declared`); with `away` its threads may become stars.

    With `outlines`, 1 to `limits.threads` texts, the model writes no list: each of them is a thread, here.
    """
    prompt = read_text(inputs.get("prompt"), "prompt", MAX_TEXT)
    declared = inputs.get("declared", {})
    reasoning, task = read_declared(declared)
    away = read_away(inputs.get("away"), reasoning.limits.tokens_a_thread)
    outlines = read_texts(inputs.get("outlines", []), "outlines")
    if len(outlines) > reasoning.limits.threads:
        raise invalid("outlines", f"are {len(outlines)}; at most {reasoning.limits.threads}, as limits.threads says")
    openings = [_opened(reasoning, number, outline) for number, outline in enumerate(outlines, start=1)]
    if openings:
        if away is not None:
            raise invalid("away", "is for a list that the model writes; give no outlines with it")
        reasoning = replace(reasoning, opens_with=reasoning.opens_with + reasoning.scheme.whole_list(outlines))
    spent = Accounting()
    if away is not None:
        here = yield from clock()
        slots = reasoning.limits.at_once or here.free_slots or 1
        # A star cannot be taken back into the list that is still being written: the list comes first.
        reasoning = replace(reasoning, eager=False)
        worth, cancels = away, isinstance(reasoning.policy, FirstVerified)

        def edits_for(leaving: Leaving) -> tuple[Mapping[str, Json], ...]:
            return leaving_edits(leaving, context, declared, worth, cancels=cancels)

        def leaves(leaving: Leaving) -> bool:
            return worth.is_worth_it(leaving, slots) and can_travel(leaving, edits_for(leaving))

        task = replace(task, leaves=leaves)
    reasoned = yield from reason(prompt, reasoning, task, spent, given=openings)
    if away is None or reasoned.leaving is None:
        return ProgramResult(trimmed(_value(reasoned, spent), BY_ANSWER))
    edits = edits_for(reasoned.leaving)
    yield from say(f"{len(reasoned.leaving.openings)} threads go to other workers")
    value = trimmed(_value(reasoned, spent), BY_ANSWER)
    return ProgramResult({**value, "leaving": leaving_to_json(reasoned.leaving)}, edits)


def _opened(reasoning: Reasoning, number: int, outline: str) -> Opening:
    opening = reasoning.scheme.open(number, outline)
    if opening is None:
        raise invalid(f"outlines[{number - 1}]", "says nothing")
    return opening


def reason_child(inputs: Mapping[str, Json], context: ProgramContext) -> Program:
    """Runs thread number `thread` of a list that left its device; one that is verified cancels its `rivals`."""
    leaving = read_leaving(inputs.get("leaving"))
    reasoning, task = read_declared(inputs.get("declared", {}))
    number = read_number(inputs.get("thread"), "thread", 1, len(leaving.openings))
    rivals = read_texts(inputs.get("rivals", []), "rivals", 64)
    opening, entry = leaving.openings[number - 1], leaving.entries[number - 1]
    shared, own = reasoning.scheme.child_pieces((*leaving.context, *leaving.said), opening, is_cut=False)
    limits = reasoning.limits
    alone = replace(
        reasoning,
        limits=replace(
            limits, depth=max(0, limits.depth - 1), tokens_parent=limits.tokens_a_thread, tail_tokens=_tail(reasoning)
        ),
        stop=(reasoning.scheme.thread_closes, *reasoning.sampling.stop)[:8],
        opens_with="",
    )
    spent = Accounting()
    reasoned = yield from reason((*shared, *own), alone, task, spent, content=opening.content)
    name = f"t{number}"
    judgement = task.judge(
        Ended(name, entry, opening.text, reasoned.text, reasoned.finish_reason, winner=reasoned.winner)
    )
    value: dict[str, Json] = {
        **_value(reasoned, spent),
        "thread": name,
        "outcome": judgement.outcome,
        "body": reasoning.scheme.result([reasoned.text]) if judgement.brief is None else judgement.brief,
        "joins": judgement.joins,
        "answer": judgement.answer,
        "score": judgement.score,
    }
    edits = tuple({"cancel_star": {"star": star}} for star in rivals) if judgement.outcome == "verified" else ()
    return ProgramResult(trimmed(value, BY_CHILD), edits)


def reason_join(inputs: Mapping[str, Json], context: ProgramContext) -> Program:
    """Puts what the threads' stars brought behind their parent's text, and writes the answer.

    Threads that failed, or were cancelled or lost, are left out; without a single one the model goes on in one text.
    """
    leaving = read_leaving(inputs.get("leaving"))
    reasoning, task = read_declared(inputs.get("declared", {}))
    stars = read_texts(inputs.get("stars"), "stars", 64)
    if len(stars) != len(leaving.openings):
        raise invalid("stars", f"must name {len(leaving.openings)} stars")
    brought = [_brought(star, read_mapping(inputs.get("outcomes"), "outcomes")) for star in stars]
    before = read_mapping(inputs.get("accounting", {}), "accounting")
    spent = Accounting()
    shown = _shown(reasoning, brought)
    characters = sum(map(len, (*leaving.context, *leaving.said)))
    most = shown_characters(reasoning, characters, len(leaving.openings))
    bodies: list[Body] = []
    for index in shown:
        result = brought[index]
        if result is not None and result["joins"] is True:
            body = str(result["body"])
            bodies.append(Body(leaving.openings[index].text, body[:most]))
            spent.threads_truncated += len(body) > most or _is_truncated(result)
    scheme = reasoning.scheme
    if bodies:
        said = scheme.joined(leaving.said, leaving.block, bodies, is_whole=True)
        prompt = glued((*leaving.context, *said), scheme.glue)
        behind = replace(
            reasoning, opens_with="", limits=replace(reasoning.limits, tokens_parent=_tail_tokens(reasoning))
        )
    else:
        said = []
        prompt = leaving.context
        spent.fallbacks += 1
        behind = replace(
            reasoning, opens_with=scheme.sequential_opens, limits=replace(reasoning.limits, depth=0, tail_tokens=None)
        )
    reasoned = yield from reason(prompt, behind, task, spent)
    threads = [result for result in brought if result is not None]
    value: dict[str, Json] = {
        **_value(reasoned, spent),
        "text": "".join(glued((*said, reasoned.text), scheme.glue)),
        "threads": [None if result is None else {key: result.get(key) for key in _OF_CHILD} for result in brought],
        "chosen": [stars[index] for index in shown],
        "missing": len(brought) - len(threads),
        "accounting": _total(before, threads, spent),
    }
    return ProgramResult(trimmed(value, BY_ANSWER))


def _is_truncated(result: Mapping[str, Json]) -> bool:
    """Whether the thread's star said more than it could bring."""
    truncated = result.get("truncated")
    return isinstance(truncated, list | tuple) and "body" in truncated


def _tail(reasoning: Reasoning) -> int | None:
    """A thread has no larger tail than itself."""
    tail = reasoning.limits.tail_tokens
    return None if tail is None else min(tail, reasoning.limits.tokens_a_thread)


def _tail_tokens(reasoning: Reasoning) -> int:
    tail = reasoning.limits.tail_tokens
    return tail or reasoning.limits.tokens_parent


def _brought(star: str, outcomes: Mapping[str, Json]) -> Mapping[str, Json] | None:
    """The result of a thread's star, or of the last retry of it, if it has one that can be read."""
    names = [name for name in outcomes if name == star or name.startswith(f"{star}~")]
    for name in sorted(names, key=len, reverse=True):
        outcome = outcomes[name]
        result = outcome.get("result") if isinstance(outcome, Mapping) else None
        if isinstance(result, Mapping) and isinstance(result.get("body"), str) and "outcome" in result:
            return result
    return None


def _shown(reasoning: Reasoning, brought: Sequence[Mapping[str, Json] | None]) -> list[int]:
    """The threads that the join shows, in the order of the list."""
    there = [index for index, result in enumerate(brought) if result is not None]
    if not isinstance(reasoning.policy, Vote | Best):
        return there
    standings = [_standing(place, brought[index]) for place, index in enumerate(there)]
    chosen = decide(reasoning.policy, standings).chosen
    return sorted(there[place] for place in chosen) if chosen else there


def _standing(place: int, result: Mapping[str, Json] | None) -> Standing:
    answer, score = (None, None) if result is None else (result.get("answer"), result.get("score"))
    return Standing(
        place,
        is_verified=result is not None and result.get("outcome") == "verified",
        answer=answer if isinstance(answer, str) else None,
        score=float(score) if isinstance(score, int | float) else None,
    )


def _value(reasoned: Reasoned, spent: Accounting) -> dict[str, Json]:
    winner = reasoned.winner
    return {
        "text": reasoned.text,
        "tail": reasoned.tail,
        "finish_reason": reasoned.finish_reason,
        "threads": [_thread(thread) for thread in reasoned.threads],
        "chosen": [thread.name for thread in reasoned.chosen],
        "winner": None if winner is None else winner.name,
        "accounting": spent.to_json(),
    }


def _thread(thread: ThreadReport) -> Json:
    return {
        "thread": thread.name,
        "entry": thread.entry,
        "outcome": thread.outcome,
        "tokens": thread.tokens,
        "answer": thread.answer,
    }


def _total(before: Mapping[str, Json], threads: Sequence[Mapping[str, Json]], spent: Accounting) -> dict[str, Json]:
    """All stars together; the chain goes through the parent, the longest thread and this join."""
    accounts = [account for thread in threads if isinstance(account := thread.get("accounting"), Mapping)]
    sums: dict[str, Json] = {}
    for name, value in spent.to_json().items():
        parts = [before.get(name, 0), *(account.get(name, 0) for account in accounts), value]
        sums[name] = sum(part for part in parts if isinstance(part, int | float) and not isinstance(part, bool))
    longest = max((_number(account, "critical_path_tokens") for account in accounts), default=0)
    critical = _number(before, "critical_path_tokens") + longest + spent.critical_path_tokens
    sums["critical_path_tokens"] = critical
    sums["threads_forked"] = _number(sums, "threads_forked") + len(accounts)
    sums["joins"] = _number(sums, "joins") + 1
    total = _number(sums, "total_tokens")
    sums["acceleration"] = round(total / critical, 4) if critical else 1.0
    return {**sums, "stars": len(accounts) + 2}


def _number(account: Mapping[str, Json], name: str) -> int:
    value = account.get(name, 0)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
