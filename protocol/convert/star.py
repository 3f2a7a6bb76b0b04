"""A star's specification and the lines between stars, both ways."""

from collections.abc import Mapping, Sequence
from typing import Final, assert_never

from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import Condition, LineKind, TaskStarLine
from asterism.orchestrator.core.star import (
    Constant,
    OutputOf,
    ParentOutcomes,
    RetryPolicy,
    StarError,
    StarInput,
    StarSpec,
    Timeouts,
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
        case _:
            raise InvalidField(at, "must be constant_json, output_of or parent_outcomes")


def star_inputs_to_proto(inputs: Mapping[str, StarInput], at: str = "inputs") -> dict[str, pb.Input]:
    """Each under its name."""
    return {name: star_input_to_proto(source, f"{at}[{name}]") for name, source in inputs.items()}


def star_inputs_from_proto(protos: Mapping[str, pb.Input], at: str = "inputs") -> dict[str, StarInput]:
    """In the order of their names: a proto map has none, and equal specifications should look equal."""
    checks.few(protos, at, MAX_INPUTS)
    return {checks.name(name, at): star_input_from_proto(protos[name], f"{at}[{name}]") for name in sorted(protos)}


def timeouts_to_proto(timeouts: Timeouts) -> pb.Timeouts:
    """None is left out."""
    return pb.Timeouts(
        schedule_to_start_s=timeouts.schedule_to_start_s,
        start_to_close_s=timeouts.start_to_close_s,
        heartbeat_s=timeouts.heartbeat_s,
    )


def timeouts_from_proto(proto: pb.Timeouts, at: str = "timeouts") -> Timeouts:
    """What is left out is without end."""

    def seconds(name: str, value: float) -> float | None:
        return checks.positive(value, f"{at}.{name}") if proto.HasField(name) else None

    return Timeouts(
        seconds("schedule_to_start_s", proto.schedule_to_start_s),
        seconds("start_to_close_s", proto.start_to_close_s),
        seconds("heartbeat_s", proto.heartbeat_s),
    )


def retry_policy_to_proto(retry: RetryPolicy) -> pb.RetryPolicy:
    """Field by field."""
    return pb.RetryPolicy(
        max_attempts=retry.max_attempts,
        backoff_s=retry.backoff_s,
        multiplier=retry.multiplier,
        max_backoff_s=retry.max_backoff_s,
        jitter=retry.jitter,
    )


def retry_policy_from_proto(proto: pb.RetryPolicy, at: str = "retry") -> RetryPolicy:
    """A week is the longest backoff, and the multiplier cannot make waits shrink."""
    return RetryPolicy(
        checks.integer(proto.max_attempts, f"{at}.max_attempts", 1, MAX_ATTEMPTS),
        checks.number(proto.backoff_s, f"{at}.backoff_s", 0.0, 604_800.0),
        checks.number(proto.multiplier, f"{at}.multiplier", 1.0, 100.0),
        checks.number(proto.max_backoff_s, f"{at}.max_backoff_s", 0.0, 604_800.0),
        checks.number(proto.jitter, f"{at}.jitter", 0.0, 1.0),
    )


def requires_from_proto(values: Sequence[str], at: str = "requires") -> frozenset[str]:
    """Capabilities; a repeated one counts once."""
    return frozenset(checks.words(values, at, MAX_REQUIRES))


def star_spec_to_proto(spec: StarSpec, at: str = "spec") -> pb.StarSpec:
    """Everything is written, defaults too: the reader's defaults may be others."""
    return pb.StarSpec(
        id=spec.id,
        kind=enums.STAR_KINDS[spec.kind],
        program=spec.program,
        inputs=star_inputs_to_proto(spec.inputs, f"{at}.inputs"),
        requires=sorted(spec.requires),
        priority=spec.priority,
        timeouts=timeouts_to_proto(spec.timeouts),
        retry=retry_policy_to_proto(spec.retry),
        may_edit=spec.may_edit,
        title=spec.title,
    )


def star_spec_from_proto(proto: pb.StarSpec, at: str = "spec") -> StarSpec:
    """Timeouts and retry that are left out take the core's defaults."""
    return StarSpec(
        star_id(proto.id, f"{at}.id"),
        checks.known(enums.STAR_KINDS_BACK, proto.kind, f"{at}.kind"),
        checks.name(proto.program, f"{at}.program"),
        star_inputs_from_proto(proto.inputs, f"{at}.inputs"),
        requires_from_proto(proto.requires, f"{at}.requires"),
        priority_from_proto(proto.priority, f"{at}.priority"),
        timeouts_from_proto(proto.timeouts, f"{at}.timeouts") if proto.HasField("timeouts") else Timeouts(),
        retry_policy_from_proto(proto.retry, f"{at}.retry") if proto.HasField("retry") else RetryPolicy(),
        proto.may_edit,
        checks.text(proto.title, f"{at}.title", checks.MAX_TITLE),
    )


def priority_from_proto(value: int, at: str = "priority") -> int:
    """-100 to 100."""
    return checks.integer(value, at, -100, 100)


def condition_to_proto(condition: Condition, at: str = "condition") -> pb.Condition:
    """A value of None is left out."""
    return pb.Condition(
        path=path_to_proto(condition.path, f"{at}.path"),
        comparison=enums.COMPARISONS[condition.comparison],
        value_json=checks.optional_json_to_text(condition.value, f"{at}.value_json"),
    )


def condition_from_proto(proto: pb.Condition, at: str = "condition") -> Condition:
    """A value that is left out is None."""
    return Condition(
        path_from_proto(proto.path, f"{at}.path"),
        checks.known(enums.COMPARISONS_BACK, proto.comparison, f"{at}.comparison"),
        checks.optional_json_from_text(proto.value_json, f"{at}.value_json"),
    )


def line_to_proto(line: TaskStarLine, at: str = "line") -> pb.Line:
    """With its condition, if it has one."""
    return pb.Line(
        parent=line.parent,
        child=line.child,
        kind=enums.LINE_KINDS[line.kind],
        condition=None if line.condition is None else condition_to_proto(line.condition, f"{at}.condition"),
    )


def line_from_proto(proto: pb.Line, at: str = "line") -> TaskStarLine:
    """Refuses a condition line without a condition, and one on another kind of line."""
    kind = checks.known(enums.LINE_KINDS_BACK, proto.kind, f"{at}.kind")
    if proto.HasField("condition") is not (kind is LineKind.CONDITION):
        raise InvalidField(f"{at}.condition", "must be given exactly when the kind is CONDITION")
    return TaskStarLine(
        star_id(proto.parent, f"{at}.parent"),
        star_id(proto.child, f"{at}.child"),
        kind,
        condition_from_proto(proto.condition, f"{at}.condition") if proto.HasField("condition") else None,
    )


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
