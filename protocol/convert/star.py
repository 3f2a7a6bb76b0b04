"""A star's specification and the lines between stars, both ways."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, TypeVar, assert_never

from asterism.orchestrator.core.condition import MAX_TERMS, Compare, Condition, Connect, Term
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.star import (
    Constant,
    OutputOf,
    ParentOutcomes,
    RetryPolicy,
    StarError,
    StarInput,
    StarSpec,
    Timeouts,
    Told,
)
from asterism.orchestrator.core.values import Artifact, Path, Result
from asterism.protocol.convert import checks, enums
from asterism.protocol.v1 import types_pb2 as pb

MAX_INPUTS: Final = 64
MAX_REQUIRES: Final = 32
MAX_PATH_STEPS: Final = 32
MAX_PATH_KEY: Final = 1024
MAX_ATTEMPTS: Final = 100
MAX_INDEX: Final = 2**32 - 1
MAX_KNOWN: Final = 256
"""Timeouts and policies that are remembered: what a fleet's plans use is a handful."""

MAX_REMEMBERED_BYTES: Final = 512
"""Of a specification without inputs that is remembered."""

T = TypeVar("T")

_NOTHING: Final = frozenset[str]()
_DEFAULT_TIMEOUTS: Final = Timeouts()
_DEFAULT_RETRY: Final = RetryPolicy()
_TIMEOUTS: Final[dict[bytes, Timeouts]] = {}
_RETRIES: Final[dict[bytes, RetryPolicy]] = {}
_LIKE: Final[dict[bytes, tuple[Any, ...]]] = {}
"""All fields but the id of specifications without inputs, by their message without the id."""
_FIELDS: Final = attrgetter(*(field.name for field in fields(StarSpec) if field.name != "id"))
_LAST_WRITTEN: Final[list[tuple[StarSpec, bytes]]] = []
"""At most one, without inputs, and its message."""


def star_id(value: str, at: str) -> StarId:
    """A checked star id."""
    return StarId(checks.name(value, at))


def artifact_to_proto(artifact: Artifact) -> pb.Artifact:
    """The hash as bytes."""
    return pb.Artifact(sha256=bytes.fromhex(artifact.sha256), size=artifact.size)


def artifact_from_proto(proto: pb.Artifact, at: str = "artifact") -> Artifact:
    """Refuses what is no SHA-256."""
    if len(proto.sha256) != 32:
        raise InvalidField(f"{at}.sha256", f"must be 32 bytes, is {len(proto.sha256)}")
    return Artifact(proto.sha256.hex(), checks.integer(proto.size, f"{at}.size"))


def result_to_proto(result: Result, at: str = "result_json") -> tuple[str, pb.Artifact | None]:
    """The JSON text, empty for None, or the artifact."""
    if isinstance(result, Artifact):
        return "", artifact_to_proto(result)
    return checks.optional_json_to_text(result, at), None


def path_to_proto(path: Path, at: str = "path") -> list[pb.PathStep]:
    """Keys and indexes as they stand."""
    steps: list[pb.PathStep] = []
    for number, step in enumerate(path):
        if isinstance(step, str):
            steps.append(pb.PathStep(key=step))
        else:
            steps.append(pb.PathStep(index=checks.integer(step, f"{at}[{number}].index", 0, MAX_INDEX)))
    return steps


def path_from_proto(steps: Sequence[pb.PathStep], at: str = "path") -> Path:
    """Refuses a step that is neither a key nor an index."""
    checks.few(steps, at, MAX_PATH_STEPS)
    path: list[str | int] = []
    for number, step in enumerate(steps):
        match step.WhichOneof("step"):
            case "key":
                path.append(checks.text(step.key, f"{at}[{number}].key", MAX_PATH_KEY))
            case "index":
                path.append(step.index)
            case _:
                raise InvalidField(f"{at}[{number}]", "must be a key or an index")
    return tuple(path)


def star_input_to_proto(source: StarInput, at: str = "input") -> pb.Input:
    """A constant travels as JSON text."""
    match source:
        case Constant(value):
            return pb.Input(constant_json=checks.json_to_text(value, f"{at}.constant_json"))
        case OutputOf(star, path):
            return pb.Input(output_of=pb.Input.OutputOf(star=star, path=path_to_proto(path, f"{at}.output_of.path")))
        case ParentOutcomes():
            return pb.Input(parent_outcomes=pb.Input.ParentOutcomes())
        case Told(what):
            return pb.Input(told=enums.TELLINGS[what])
        case _:
            assert_never(source)


def star_input_from_proto(proto: pb.Input, at: str = "input") -> StarInput:
    """Refuses an input without a source."""
    match proto.WhichOneof("source"):
        case "constant_json":
            return Constant(checks.json_from_text(proto.constant_json, f"{at}.constant_json"))
        case "output_of":
            star = star_id(proto.output_of.star, f"{at}.output_of.star")
            return OutputOf(star, path_from_proto(proto.output_of.path, f"{at}.output_of.path"))
        case "parent_outcomes":
            return ParentOutcomes()
        case "told":
            return Told(checks.known(enums.TELLINGS_BACK, proto.told, f"{at}.told"))
        case _:
            raise InvalidField(at, "must be constant_json, output_of, parent_outcomes or told")


def star_inputs_to_proto(inputs: Mapping[str, StarInput], at: str = "inputs") -> dict[str, pb.Input]:
    """Each under its name."""
    return {name: star_input_to_proto(source, f"{at}[{name}]") for name, source in inputs.items()}


def star_inputs_from_proto(protos: Mapping[str, pb.Input], at: str = "inputs") -> dict[str, StarInput]:
    """In the order of their names: a proto map has none, and equal specifications should look equal."""
    checks.few(protos, at, MAX_INPUTS)
    return {checks.name(name, at): star_input_from_proto(protos[name], f"{at}[{name}]") for name in sorted(protos)}


@lru_cache(MAX_KNOWN)
def timeouts_to_proto(timeouts: Timeouts) -> pb.Timeouts:
    """None is left out. Equal timeouts give the same message: it is to be read only."""
    return pb.Timeouts(
        schedule_to_start_s=timeouts.schedule_to_start_s,
        start_to_close_s=timeouts.start_to_close_s,
        heartbeat_s=timeouts.heartbeat_s,
    )


def timeouts_from_proto(proto: pb.Timeouts, at: str = "timeouts") -> Timeouts:
    """What is left out is without end. Equal messages give the same object: the stars of a plan share it."""
    text = proto.SerializeToString()
    known = _TIMEOUTS.get(text)
    if known is not None:
        return known

    def seconds(name: str, value: float) -> float | None:
        return checks.positive(value, f"{at}.{name}") if proto.HasField(name) else None

    timeouts = Timeouts(
        seconds("schedule_to_start_s", proto.schedule_to_start_s),
        seconds("start_to_close_s", proto.start_to_close_s),
        seconds("heartbeat_s", proto.heartbeat_s),
    )
    _remember(_TIMEOUTS, text, timeouts)
    return timeouts


@lru_cache(MAX_KNOWN)
def retry_policy_to_proto(retry: RetryPolicy) -> pb.RetryPolicy:
    """Field by field. Equal policies give the same message: it is to be read only."""
    return pb.RetryPolicy(
        max_attempts=retry.max_attempts,
        backoff_s=retry.backoff_s,
        multiplier=retry.multiplier,
        max_backoff_s=retry.max_backoff_s,
        jitter=retry.jitter,
    )


def retry_policy_from_proto(proto: pb.RetryPolicy, at: str = "retry") -> RetryPolicy:
    """A week is the longest backoff, and the multiplier cannot make waits shrink. Equal messages give one object."""
    text = proto.SerializeToString()
    known = _RETRIES.get(text)
    if known is not None:
        return known
    retry = RetryPolicy(
        checks.integer(proto.max_attempts, f"{at}.max_attempts", 1, MAX_ATTEMPTS),
        checks.number(proto.backoff_s, f"{at}.backoff_s", 0.0, 604_800.0),
        checks.number(proto.multiplier, f"{at}.multiplier", 1.0, 100.0),
        checks.number(proto.max_backoff_s, f"{at}.max_backoff_s", 0.0, 604_800.0),
        checks.number(proto.jitter, f"{at}.jitter", 0.0, 1.0),
    )
    _remember(_RETRIES, text, retry)
    return retry


def _remember(known: dict[bytes, T], text: bytes, value: T) -> None:
    """By its message; one too many, and all are forgotten."""
    if len(known) >= MAX_KNOWN:
        known.clear()
    known[text] = value


def requires_from_proto(values: Sequence[str], at: str = "requires") -> frozenset[str]:
    """Capabilities; a repeated one counts once."""
    return frozenset(checks.words(values, at, MAX_REQUIRES))


def star_spec_to_proto(spec: StarSpec, at: str = "spec") -> pb.StarSpec:
    """Everything is written, defaults too: the reader's defaults may be others."""
    proto = pb.StarSpec()
    write_star_spec(spec, proto, at)
    return proto


def write_star_spec(spec: StarSpec, proto: pb.StarSpec, at: str = "spec") -> None:
    """Into an empty message, where it is to be."""
    for like, text in _LAST_WRITTEN:
        if _differ_in_name_alone(spec, like):
            proto.MergeFromString(text)
            proto.id = spec.id
            return
    _write_star_spec(spec, proto, at)
    if not spec.inputs:
        _LAST_WRITTEN[:] = [(spec, proto.SerializeToString())]


def _differ_in_name_alone(one: StarSpec, other: StarSpec) -> bool:
    """As most stars of a plan do, which share what is the same; those that do not are not looked at more closely."""
    return (
        one.timeouts is other.timeouts
        and one.retry is other.retry
        and one.kind is other.kind
        and one.program == other.program
        and not one.inputs
        and not other.inputs
        and one.requires == other.requires
        and one.priority == other.priority
        and one.may_edit is other.may_edit
        and one.title == other.title
        and one.is_idempotent is other.is_idempotent
        and one.quorum == other.quorum
        and one.reuses == other.reuses
        and one.replan_when is other.replan_when
    )


def _write_star_spec(spec: StarSpec, proto: pb.StarSpec, at: str) -> None:
    proto.id = spec.id
    proto.kind = enums.STAR_KINDS[spec.kind]
    proto.program = spec.program
    for name, source in spec.inputs.items():
        proto.inputs[name].CopyFrom(star_input_to_proto(source, f"{at}.inputs[{name}]"))
    if spec.requires:
        proto.requires.extend(sorted(spec.requires))
    proto.priority = spec.priority
    proto.timeouts.CopyFrom(timeouts_to_proto(spec.timeouts))
    proto.retry.CopyFrom(retry_policy_to_proto(spec.retry))
    proto.may_edit = spec.may_edit
    proto.title = spec.title
    proto.quorum = spec.quorum
    if spec.is_idempotent is not None:
        proto.is_idempotent = spec.is_idempotent
    if spec.reuses is not None:
        proto.reuses = spec.reuses
    if spec.replan_when is not None:
        proto.replan_when.CopyFrom(condition_to_proto(spec.replan_when, f"{at}.replan_when"))


def star_spec_from_proto(proto: pb.StarSpec, at: str = "spec") -> StarSpec:
    """Timeouts and retry that are left out take the core's defaults."""
    try:
        name = star_id(proto.id, "id")
        # The id comes first, in one byte of length: what follows is the same for most stars of a plan, which differ in
        # little else, and 13 fields are slow to read.
        text = proto.SerializeToString()[2 + len(name) :]
        known = _LIKE.get(text)
        if known is not None:
            return StarSpec(name, *known)
        spec = _spec_from_proto(name, proto)
        if len(text) <= MAX_REMEMBERED_BYTES and not spec.inputs:
            _remember(_LIKE, text, _FIELDS(spec))
        return spec
    except InvalidField as error:
        raise checks.placed(at, error) from None


def _spec_from_proto(name: StarId, proto: pb.StarSpec) -> StarSpec:
    return StarSpec(
        name,
        checks.known(enums.STAR_KINDS_BACK, proto.kind, "kind"),
        checks.name(proto.program, "program"),
        star_inputs_from_proto(proto.inputs) if proto.inputs else {},
        requires_from_proto(proto.requires) if proto.requires else _NOTHING,
        priority_from_proto(proto.priority),
        timeouts_from_proto(proto.timeouts) if proto.HasField("timeouts") else _DEFAULT_TIMEOUTS,
        retry_policy_from_proto(proto.retry) if proto.HasField("retry") else _DEFAULT_RETRY,
        proto.may_edit,
        checks.text(proto.title, "title", checks.MAX_TITLE),
        proto.is_idempotent if proto.HasField("is_idempotent") else None,
        proto.quorum,
        star_id(proto.reuses, "reuses") if proto.reuses else None,
        condition_from_proto(proto.replan_when, "replan_when") if proto.HasField("replan_when") else None,
    )


def priority_from_proto(value: int, at: str = "priority") -> int:
    """-100 to 100."""
    return checks.integer(value, at, -100, 100)


def condition_to_proto(condition: Condition, at: str = "condition") -> pb.Condition:
    """A value of None is left out of its comparison."""
    return pb.Condition(terms=[_term_to_proto(term, f"{at}.terms[{n}]") for n, term in enumerate(condition.terms)])


def condition_from_proto(proto: pb.Condition, at: str = "condition") -> Condition:
    """Refuses one that cannot be evaluated; a value that is left out is None."""
    checks.few(proto.terms, f"{at}.terms", MAX_TERMS)
    condition = Condition(tuple(_term_from_proto(term, f"{at}.terms[{n}]") for n, term in enumerate(proto.terms)))
    fault = condition.find_fault()
    if fault is not None:
        raise InvalidField(at, fault)
    return condition


def _term_to_proto(term: Term, at: str) -> pb.Condition.Term:
    match term:
        case Compare():
            compare = pb.Condition.Compare(
                path=path_to_proto(term.path, f"{at}.path"),
                comparison=enums.COMPARISONS[term.comparison],
                value_json=checks.optional_json_to_text(term.value, f"{at}.value_json"),
                of_length=term.of_length,
            )
            return pb.Condition.Term(compare=compare)
        case Connect(operator):
            return pb.Condition.Term(operator=enums.OPERATORS[operator])
        case _:
            assert_never(term)


def _term_from_proto(proto: pb.Condition.Term, at: str) -> Term:
    match proto.WhichOneof("term"):
        case "compare":
            of = proto.compare
            return Compare(
                path_from_proto(of.path, f"{at}.path"),
                checks.known(enums.COMPARISONS_BACK, of.comparison, f"{at}.comparison"),
                checks.optional_json_from_text(of.value_json, f"{at}.value_json"),
                of.of_length,
            )
        case "operator":
            return Connect(checks.known(enums.OPERATORS_BACK, proto.operator, f"{at}.operator"))
        case _:
            raise InvalidField(at, "must be compare or operator")


def line_to_proto(line: TaskStarLine, at: str = "line") -> pb.Line:
    """With its condition, if it has one."""
    proto = pb.Line()
    write_line(line, proto, at)
    return proto


def write_line(line: TaskStarLine, proto: pb.Line, at: str = "line") -> None:
    """Into an empty message, where it is to be."""
    proto.parent = line.parent
    proto.child = line.child
    proto.kind = enums.LINE_KINDS[line.kind]
    if line.condition is not None:
        proto.condition.CopyFrom(condition_to_proto(line.condition, f"{at}.condition"))


def line_from_proto(proto: pb.Line, at: str = "line") -> TaskStarLine:
    """Refuses a condition line without a condition, and one on another kind of line."""
    try:
        kind = checks.known(enums.LINE_KINDS_BACK, proto.kind, "kind")
        has_condition = proto.HasField("condition")
        if has_condition is not (kind is LineKind.CONDITION):
            raise InvalidField("condition", "must be given exactly when the kind is CONDITION")
        return TaskStarLine(
            star_id(proto.parent, "parent"),
            star_id(proto.child, "child"),
            kind,
            condition_from_proto(proto.condition) if has_condition else None,
        )
    except InvalidField as error:
        raise checks.placed(at, error) from None


def star_error_to_proto(error: StarError) -> pb.StarError:
    """A message that is too long for the other side is clipped."""
    return pb.StarError(code=error.code, message=checks.clipped(error.message), retryable=error.retryable)


def star_error_from_proto(proto: pb.StarError, at: str = "error") -> StarError:
    """A code for programs and a message for people."""
    return StarError(
        checks.word(proto.code, f"{at}.code"),
        checks.text(proto.message, f"{at}.message", checks.MAX_REASON),
        proto.retryable,
    )
