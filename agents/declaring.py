"""Reads what a request declares about reasoning threads from a star's inputs; what is wrong is named by its field."""

from collections.abc import Mapping
from dataclasses import fields, replace
from string import Formatter
from typing import Any, Final, TypeVar

from asterism.agents.accounting import Limits
from asterism.agents.asks import Json, ProgramFailed, Sampling
from asterism.agents.outlined import Outlined
from asterism.agents.policies import EAGER, All, Best, FirstVerified, JoinPolicy, Quorum, Vote
from asterism.agents.reasoning import Ended, Judgement, Reasoning, Task, unjudged
from asterism.agents.scheme import Scheme
from asterism.agents.spawned import Spawned

_KEYS: Final = frozenset(
    {"protocol", "marks", "policy", "limits", "sampling", "eager", "incremental", "stop", "opens_with", "verifier"}
)
_SCHEMES: Final[Mapping[str, Outlined | Spawned]] = {"outlined": Outlined(), "spawned": Spawned()}
_POLICIES: Final[Mapping[str, JoinPolicy]] = {
    "all": All(),
    "first_verified": FirstVerified(),
    "best": Best(),
    "vote": Vote(),
    "eager": EAGER,
}
_MAX_TEXT: Final = 4_096
_MOST_REAL: Final = 1e9
_T = TypeVar("_T", Limits, Sampling, Outlined, Spawned)


def invalid(field: str, reason: str) -> ProgramFailed:
    """The same inputs are refused in every attempt."""
    return ProgramFailed("invalid_input", f"{field}: {reason}", retryable=False)


def read_declared(declared: Json) -> tuple[Reasoning, Task]:
    """What `declared` says: protocol and marks, policy, limits, sampling, a verifier; raises `ProgramFailed`.

    `verifier` {"contains": text} calls a thread verified that says this text, and its last line the answer; without
    one every thread counts, and its last line is its vote.
    """
    given = read_mapping(declared, "declared")
    unknown = sorted(given.keys() - _KEYS)
    if unknown:
        raise invalid(f"declared.{unknown[0]}", f"is not known; there are {', '.join(sorted(_KEYS))}")
    protocol = given.get("protocol", "outlined")
    if not isinstance(protocol, str) or protocol not in _SCHEMES:
        raise invalid("declared.protocol", "must be 'outlined' or 'spawned'")
    try:
        reasoning = Reasoning(
            scheme=_read_scheme(_SCHEMES[protocol], given.get("marks", {})),
            sampling=_filled(Sampling(max_tokens=0), given.get("sampling", {}), "declared.sampling"),
            policy=_read_policy(given.get("policy", "all")),
            limits=_filled(Limits(), given.get("limits", {}), "declared.limits"),
            eager=_read_flag(given, "eager"),
            incremental=_read_flag(given, "incremental"),
            stop=read_texts(given.get("stop", []), "declared.stop"),
            opens_with=read_text(given.get("opens_with", ""), "declared.opens_with"),
        )
    except ValueError as error:
        raise invalid("declared", str(error)) from error
    return reasoning, Task(judge=_Verifier(given.get("verifier")))


class _Verifier:
    """Reads threads by their text alone."""

    def __init__(self, verifier: Json) -> None:
        self._contains: str | None = None
        if verifier is not None:
            given = read_mapping(verifier, "declared.verifier")
            if given.keys() != {"contains"}:
                raise invalid("declared.verifier", "must be an object of 'contains'")
            self._contains = read_text(given["contains"], "declared.verifier.contains")
            if not self._contains:
                raise invalid("declared.verifier.contains", "is empty, so that everything would be verified")

    def __call__(self, ended: Ended) -> Judgement:
        lines = ended.text.strip().splitlines()
        answer = " ".join(lines[-1].split()) if lines else None
        if self._contains is None:
            return replace(unjudged(ended), answer=answer, score=float(not ended.is_cut_off))
        is_verified = self._contains in ended.text
        return Judgement(
            "verified" if is_verified else "truncated" if ended.is_cut_off else "refuted",
            answer=answer if is_verified else None,
            score=float(is_verified),
        )


def read_sampling(given: Json, field: str, default: Sampling) -> Sampling:
    """How a text is chosen, `max_tokens` (1 to 1,048,576) included; no grammar, which is the program's to give."""
    values = dict(read_mapping(given, field))
    most = read_number(values.pop("max_tokens", default.max_tokens), f"{field}.max_tokens", 1, 1024 * 1024)
    return replace(_filled(default, values, field), max_tokens=most)


def _read_scheme(scheme: Outlined | Spawned, marks: Json) -> Scheme:
    given = dict(read_mapping(marks, "declared.marks"))
    bannable = read_texts(given.pop("bannable", []), "declared.marks.bannable")
    if isinstance(scheme, Outlined):
        read: Outlined | Spawned = _filled(scheme, given, "declared.marks")
    else:
        read = _filled(scheme, given, "declared.marks")
    required = ("block_opens", "entry_opens", "entry_closes", "list_closes", "thread_closes")
    empty = next((mark for mark in required if not getattr(read, mark).strip()), None)
    if empty is not None:
        raise invalid(f"declared.marks.{empty}", "is empty")
    _check_templates(read)
    return replace(read, bannable=frozenset(bannable))


def _check_templates(scheme: Outlined | Spawned) -> None:
    """Only plain names may stand in them: `{outline.__class__}` reads what is not said, `{outline:>999999999}` fills
    the memory."""
    entry = {"entry_opens", "number", "outline", "entry_closes"}
    templates: dict[str, tuple[str, set[str]]] = {"entry": (scheme.entry, entry)}
    if isinstance(scheme, Outlined):
        templates["opening"] = (scheme.opening, {"thread_opens", "number", "outline"})
    else:
        templates["child_prompt"] = (scheme.child_prompt, {"number", "task"})
    for name, (template, allowed) in templates.items():
        try:
            for _, place, specification, conversion in Formatter().parse(template):
                if place is not None and (place not in allowed or specification or conversion):
                    raise ValueError(f"{{{place}}} is not one of {', '.join(sorted(allowed))}")
        except ValueError as error:
            raise invalid(f"declared.marks.{name}", str(error)) from error


def _read_policy(policy: Json) -> JoinPolicy:
    if isinstance(policy, str) and policy in _POLICIES:
        return _POLICIES[policy]
    if isinstance(policy, Mapping) and len(policy) == 1:
        ((name, count),) = policy.items()
        if name in ("quorum", "vote") and isinstance(count, int) and not isinstance(count, bool):
            return Quorum(count) if name == "quorum" else Vote(count)
    known = ", ".join(sorted(_POLICIES))
    raise invalid("declared.policy", f'must be one of {known}, or {{"quorum": k}} or {{"vote": k}}')


def _filled(default: _T, given: Json, field: str) -> _T:
    """`default` with what is given in its place, each of the type that stands there."""
    values: dict[str, Any] = {}
    known = {one.name: getattr(default, one.name) for one in fields(default)}
    for name, value in read_mapping(given, field).items():
        if name not in known or name in ("max_tokens", "grammar", "bannable"):
            raise invalid(f"{field}.{name}", f"is not known; there are {', '.join(sorted(known))}")
        values[name] = _fitting(known[name], value, f"{field}.{name}")
    return replace(default, **values)


def _fitting(default: object, value: Json, field: str) -> object:
    match default:
        case bool():
            if isinstance(value, bool):
                return value
        case str():
            return read_text(value, field)
        case tuple():
            return read_texts(value, field)
        case float():
            # Beyond the range of floats no number is meant.
            if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST_REAL:
                return float(value)
        case _:  # whole numbers; None stands where there is no bound
            if (default is None and value is None) or (isinstance(value, int) and not isinstance(value, bool)):
                return value
    raise invalid(field, f"cannot be {str(value)[:40]!r}")


def _read_flag(given: Mapping[str, Json], name: str) -> bool:
    value = given.get(name, True)
    if not isinstance(value, bool):
        raise invalid(f"declared.{name}", "must be true or false")
    return value


def read_mapping(value: Json, field: str) -> Mapping[str, Json]:
    if not isinstance(value, Mapping):
        raise invalid(field, "must be an object")
    return value


def read_text(value: Json, field: str, most: int = _MAX_TEXT) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise invalid(field, f"must be a text of at most {most} characters")
    return value


def read_texts(value: Json, field: str, most: int = _MAX_TEXT) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise invalid(field, "must be a list of texts")
    return tuple(read_text(text, f"{field}[{index}]", most) for index, text in enumerate(value))


def read_number(value: Json, field: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise invalid(field, f"must be a whole number from {low} to {high}")
    return value
