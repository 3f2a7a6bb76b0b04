"""The program `judge`: verifies, scores or votes over what other stars found. A verdict is a value under a schema."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias, cast

from asterism.agents.asking import Asking, say
from asterism.agents.asks import Json, Message, Program, ProgramContext, ProgramFailed, ProgramResult
from asterism.agents.briefs import Brief, read_at_once, read_brief
from asterism.agents.chatting import Question, Spent, Written, answer_all, form_rule, with_seed
from asterism.agents.data import as_data, as_text, shortened
from asterism.agents.declaring import invalid, read_mapping, read_number
from asterism.agents.json_check import JsonCheck

Mode: TypeAlias = Literal["verify", "score", "vote"]

JOBS: Final[Mapping[str, str]] = {
    "verify": "You check one answer to a task, step by step, and say whether it is right.",
    "score": "You judge how well one answer does a task: 0 is useless, 10 could not be better.",
    "vote": "You compare several answers to a task, and choose the best one by its name.",
}
MAX_CANDIDATES: Final = 64
MAX_VOTES: Final = 64
_REASON: Final[Json] = {"type": "string"}
_SPARE: Final = 400
_LEAST: Final = 100
"""Characters of each candidate that a vote must have room for."""


def judge(inputs: Mapping[str, Json], context: ProgramContext) -> Program:
    """Judges `candidates` {name: value}, or the results of `outcomes`, by `mode`: verify, score or vote.

    Gives `best`, the name of the one that stands (None where none does), `value`, what it is, and the verdicts. Stars
    that did not succeed are no candidates, and named in `left_out`.
    """
    shared = {name: value for name, value in inputs.items() if name != "outcomes"}
    brief = read_brief(shared, "mode", "candidates", "votes", "at_once", answer_schema=False)
    mode = _read_mode(inputs.get("mode", "verify"))
    candidates, left_out = _read_candidates(inputs)
    votes = read_number(inputs.get("votes", 5), "votes", 1, MAX_VOTES)
    if mode == "vote" and votes > 1 and brief.sampling.temperature <= 0:
        raise invalid("sampling.temperature", f"is {brief.sampling.temperature:g}; {votes} votes would all be the same")
    at_once = read_at_once(inputs)
    spent = Spent()
    verdicts: Json
    if not candidates:
        best, verdicts = None, {}
    elif mode == "vote":
        best, verdicts = yield from _vote(brief, candidates, votes, spent, at_once=at_once)
    else:
        best, verdicts = yield from _look_at_each(brief, mode, candidates, spent, at_once=at_once)
    yield from say(f"best: {best or 'none'}\n")
    value = None if best is None else candidates[best]
    return ProgramResult(
        {
            "mode": mode,
            "best": best,
            "value": value,
            "verdicts": verdicts,
            "left_out": list(left_out),
            "spent": spent.to_json(),
        }
    )


def _read_mode(mode: Json) -> Mode:
    if mode not in JOBS:
        raise invalid("mode", f"must be one of {', '.join(JOBS)}")
    return cast(Mode, mode)


def _read_candidates(inputs: Mapping[str, Json]) -> tuple[dict[str, Json], tuple[str, ...]]:
    """The candidates by name, and the stars that have no result to judge."""
    candidates = dict(read_mapping(inputs.get("candidates", {}), "candidates"))
    left_out = []
    for star, outcome in read_mapping(inputs.get("outcomes", {}), "outcomes").items():
        ended = read_mapping(outcome, f"outcomes.{star}")
        if ended.get("state") == "SUCCEEDED" and star not in candidates:
            candidates[star] = ended.get("result")
        else:
            left_out.append(star)
    if len(candidates) > MAX_CANDIDATES:
        raise invalid("candidates", f"are {len(candidates)}; at most {MAX_CANDIDATES}")
    if not candidates and not left_out:
        raise invalid("candidates", "there are none, and no outcomes either")
    return candidates, tuple(left_out)


def _look_at_each(
    brief: Brief, mode: Mode, candidates: Mapping[str, Json], spent: Spent, *, at_once: int
) -> Asking[tuple[str | None, Json]]:
    """A verdict for each; the best is the first that was accepted, or that has the highest score."""
    if mode == "verify":
        asked: Mapping[str, Json] = {"enum": ["right", "wrong", "unsure"]}
    else:
        asked = {"type": "number", "minimum": 0, "maximum": 10}
    check = _check("verdict" if mode == "verify" else "score", asked)
    system = brief.system(JOBS[mode], form_rule(check))
    room = brief.context - len(system) - len(brief.task) - _SPARE
    questions = [
        Question(
            (Message("system", system), Message("user", _shown(brief, {name: value}, room))),
            brief.sampling,
            check,
            thread=f"candidate {number}",
        )
        for number, (name, value) in enumerate(candidates.items(), 1)
    ]
    answers = yield from answer_all(questions, spent, at_once=at_once)
    verdicts: dict[str, Mapping[str, Json]] = {
        name: cast("Mapping[str, Json]", one.value) if isinstance(one, Written) else {"fault": one}
        for name, one in zip(candidates, answers, strict=True)
    }
    if mode == "verify":
        best = next((name for name, verdict in verdicts.items() if verdict.get("verdict") == "right"), None)
    else:
        scores = {name: score for name, one in verdicts.items() if isinstance(score := one.get("score"), int | float)}
        best = max(scores, key=lambda name: scores[name], default=None)
    return best, verdicts


def _vote(
    brief: Brief, candidates: Mapping[str, Json], votes: int, spent: Spent, *, at_once: int
) -> Asking[tuple[str | None, Json]]:
    """Each vote sees the candidates in another order, so that none wins by its place; of a draw the first one wins."""
    names = list(candidates)
    check = _check("choice", {"enum": cast("Json", names)})
    system = brief.system(JOBS["vote"], form_rule(check))
    room = brief.context - len(system) - len(brief.task) - _SPARE
    if room < _LEAST * len(names):
        raise ProgramFailed("invalid_input", f"context_characters: {len(names)} candidates do not fit", retryable=False)
    questions = []
    for number in range(votes):
        turned = [*names[number % len(names) :], *names[: number % len(names)]]
        shown = _shown(brief, {name: candidates[name] for name in turned}, room)
        messages = (Message("system", system), Message("user", shown))
        questions.append(Question(messages, with_seed(brief.sampling, number), check, thread=f"vote {number + 1}"))
    answers = yield from answer_all(questions, spent, at_once=at_once)
    counted = Counter(_choice(one) for one in answers if isinstance(one, Written))
    best = max(names, key=lambda name: counted[name]) if counted else None
    return best, {name: counted[name] for name in names}


def _choice(written: Written) -> str:
    return str(cast("Mapping[str, Json]", written.value)["choice"])


def _check(field: str, schema: Json) -> JsonCheck:
    """The reason comes first: a verdict that is written before it would not follow from it."""
    properties: dict[str, Json] = {"reason": _REASON, field: schema}
    return JsonCheck(
        {"type": "object", "properties": properties, "required": ["reason", field], "additionalProperties": False},
        root="answer",
    )


def _shown(brief: Brief, candidates: Mapping[str, Json], room: int) -> str:
    """What is known, in half of the room at most; the candidates in marks, each in its share of the rest; the task."""
    known = brief.data_within(max(0, room // 2))
    share = max(0, (room - len(known)) // len(candidates) - _SPARE // 2)
    blocks: Sequence[str] = [as_data(name, shortened(as_text(value), share)) for name, value in candidates.items()]
    return "\n".join([*([known] if known else []), *blocks, f"\nThe task: {brief.task}"])
