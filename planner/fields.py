"""The fields of stars, lines and inputs as they are written in plan files and in edits, and their way to the core."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, StringConstraints, Tag, ValidationError

from asterism.orchestrator.core.check import MAX_QUORUM
from asterism.orchestrator.core.condition import MAX_TERMS, Compare, Comparison, Condition, Connect, Operator
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import NAME_PATTERN, StarId
from asterism.orchestrator.core.line import LineKind
from asterism.orchestrator.core.star import (
    Constant,
    OutputOf,
    ParentOutcomes,
    RetryPolicy,
    StarInput,
    StarKind,
    StarSpec,
    Telling,
    Timeouts,
    Told,
)
from asterism.orchestrator.core.values import Json, Path
from asterism.planner.written_values import MAX_INDEX, MAX_KEY, MAX_STEPS

Name: TypeAlias = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN}$")]
Capability: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,128}$")]
InputName: TypeAlias = Name
Seconds: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Backoff: TypeAlias = Annotated[float, Field(ge=0, le=7 * 86_400, allow_inf_nan=False)]
"""In seconds; the wire carries a week at most."""
Step: TypeAlias = Annotated[
    Annotated[str, StringConstraints(max_length=MAX_KEY), Tag("key")]
    | Annotated[int, Field(ge=0, le=MAX_INDEX), Tag("index")],
    Discriminator(lambda step: "key" if isinstance(step, str) else "index"),
]
Steps: TypeAlias = Annotated[list[Step], Field(max_length=MAX_STEPS)]
Inputs: TypeAlias = Annotated[
    dict[InputName, JsonValue],
    Field(
        max_length=64,
        description="Name -> value. A value is passed on as it is, whatever it looks like, with four exceptions: "
        '{"$from": STAR, "$path": [STEPS]} is a part of a star\'s result, {"$parents": true} gathers the outcomes of '
        'all parents, {"$told": "request"} is the request, and '
        '{"$value": VALUE} is VALUE itself, also when it has keys that begin with a dollar sign.',
    ),
]
Capabilities: TypeAlias = Annotated[list[Capability], Field(max_length=32)]
Priority: TypeAlias = Annotated[int, Field(ge=-100, le=100)]
Title: TypeAlias = Annotated[str, StringConstraints(max_length=200)]

_TIMEOUTS: Final = Timeouts()
_RETRY: Final = RetryPolicy()


class Fields(BaseModel):
    """Strict: a number is not text, and an unknown field is an error and not a wish that nobody hears."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TimeoutFields(Fields):
    """All in seconds; null means without end."""

    schedule_to_start_s: Seconds | None = _TIMEOUTS.schedule_to_start_s
    start_to_close_s: Seconds | None = _TIMEOUTS.start_to_close_s
    heartbeat_s: Seconds | None = _TIMEOUTS.heartbeat_s

    def to_core(self) -> Timeouts:
        """The core's own value."""
        return Timeouts(self.schedule_to_start_s, self.start_to_close_s, self.heartbeat_s)


class RetryFields(Fields):
    """Exponential backoff, in seconds; `jitter` is the share of each wait that is left to chance."""

    max_attempts: Annotated[int, Field(ge=1, le=100)] = _RETRY.max_attempts
    backoff_s: Backoff = _RETRY.backoff_s
    multiplier: Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)] = _RETRY.multiplier
    max_backoff_s: Backoff = _RETRY.max_backoff_s
    jitter: Annotated[float, Field(ge=0, le=1)] = _RETRY.jitter

    def to_core(self) -> RetryPolicy:
        """The core's own value."""
        return RetryPolicy(self.max_attempts, self.backoff_s, self.multiplier, self.max_backoff_s, self.jitter)


class CompareFields(Fields):
    """A comparison of a part of the parent's outcome `{state, result, error}`, or of its length, with a value."""

    path: Steps
    comparison: Annotated[Comparison, Field(alias="is", strict=False)]
    value: JsonValue = None
    of_length: bool = False

    def to_core(self) -> Condition:
        """The core's own value."""
        return Condition((Compare(tuple(self.path), self.comparison, self.value, self.of_length),))


class TermsFields(Fields):
    """Comparisons, and operators each behind the one (`not`) or two terms that it joins."""

    terms: Annotated[
        list[
            Annotated[
                Annotated[CompareFields, Tag("compare")] | Annotated[Operator, Field(strict=False), Tag("operator")],
                Discriminator(lambda term: "operator" if isinstance(term, str) else "compare"),
            ]
        ],
        Field(min_length=1, max_length=MAX_TERMS),
    ]

    def to_core(self) -> Condition:
        """The core's own value; the core says whether it can be evaluated."""
        terms = (term.to_core().terms[0] if isinstance(term, CompareFields) else Connect(term) for term in self.terms)
        return Condition(tuple(terms))


ConditionFields: TypeAlias = Annotated[
    Annotated[CompareFields, Tag("compare")] | Annotated[TermsFields, Tag("terms")],
    Discriminator(lambda value: "terms" if isinstance(value, Mapping) and "terms" in value else "compare"),
]


class WorkFields(Fields):
    """What is said of a star besides its kind and its program."""

    inputs: Inputs = {}
    requires: Capabilities = []
    priority: Priority = 0
    timeouts: TimeoutFields = TimeoutFields()
    retry: RetryFields = RetryFields()
    may_edit: bool = False
    title: Title = ""
    is_idempotent: Annotated[
        bool | None, Field(description="Whether it may run again after it may have begun; null: as its tool says.")
    ] = None

    def spec(self, star: StarId, kind: StarKind, program: str, *, at: Path, quorum: int = 0) -> StarSpec:
        """The core's own value; `at` is where the star stands, for what may be wrong with its inputs."""
        return StarSpec(
            star,
            kind,
            program,
            inputs=inputs_from_json(self.inputs, at=(*at, "inputs")),
            requires=frozenset(self.requires),
            priority=self.priority,
            timeouts=self.timeouts.to_core(),
            retry=self.retry.to_core(),
            may_edit=self.may_edit,
            title=self.title,
            quorum=quorum,
            is_idempotent=self.is_idempotent,
        )


class StarFields(WorkFields):
    """A star as the graph has it, all but its id."""

    kind: Annotated[StarKind, Field(strict=False)]
    program: Name
    quorum: Annotated[int, Field(ge=0, le=MAX_QUORUM)] = 0

    def to_core(self, star: StarId, *, at: Path) -> StarSpec:
        """The core's own value."""
        return self.spec(star, self.kind, self.program, at=at, quorum=self.quorum)


class WrongAt(Exception):
    """A part of a value does not fit; whoever knows where the value came from turns it into an InvalidField."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.path = path
        self.reason = reason


FieldsT = TypeVar("FieldsT", bound=BaseModel)

_PLAINER: Final = {
    "extra_forbidden": "there is no such field",
    "missing": "this field is required",
    "model_type": "must be a mapping of fields",
}
"""Words for people who do not know pydantic, by its type of error."""


def validated(model: type[FieldsT], value: Json, *, at: Path = ()) -> FieldsT:
    """`value` as the model; raises WrongAt for the first thing that does not fit."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        reason = _PLAINER.get(first["type"], first["msg"])
        raise WrongAt((*at, *_real_steps(value, first["loc"])), reason) from None


def _real_steps(value: Any, location: tuple[str | int, ...]) -> Path:
    """Leave out of pydantic's location the names of union branches, which are no steps into the value."""
    path: list[str | int] = []
    for index, step in enumerate(location):
        match value:
            case Mapping() if step in value:
                value = value[step]
            case list() if isinstance(step, int) and step < len(value):
                value = value[step]
            case Mapping() if index + 1 == len(location):  # a field that is missing
                pass
            case _:
                continue
        path.append(step)
    return tuple(path)


class _Told(Fields):
    what: Annotated[Telling, Field(alias="$told", strict=False)]


class _From(Fields):
    star: Annotated[Name, Field(alias="$from")]
    path: Annotated[Steps, Field(alias="$path")] = []


def inputs_from_json(inputs: Mapping[str, Json], *, at: Path) -> dict[str, StarInput]:
    """Inputs as they are written; only the outermost keys of an input are looked at, so data stays data."""
    return {name: _input_from_json(value, at=(*at, name)) for name, value in inputs.items()}


def _input_from_json(value: Json, *, at: Path) -> StarInput:
    if not isinstance(value, Mapping) or not any(key.startswith("$") for key in value):
        return Constant(value)
    if value.keys() == {"$value"}:
        return Constant(value["$value"])
    if value.keys() == {"$parents"} and value["$parents"] is True:
        return ParentOutcomes()
    if value.keys() == {"$told"}:
        return Told(validated(_Told, value, at=at).what)
    if "$from" in value:
        source = validated(_From, value, at=at)
        return OutputOf(StarId(source.star), tuple(source.path))
    raise WrongAt(
        at,
        'a mapping with a key that begins with "$" is {"$from": star, "$path": [...]}, {"$parents": true}, '
        '{"$told": "request"} or {"$value": anything}; wrap plain data that looks like this in '
        '{"$value": ...}',
    )


def input_to_json(value: StarInput) -> Json:
    """The other way; `inputs_from_json` gives back an equal input."""
    match value:
        case Constant(plain):
            if isinstance(plain, Mapping) and any(key.startswith("$") for key in plain):
                return {"$value": plain}
            return plain
        case OutputOf(star, path):
            return {"$from": star, "$path": list(path)} if path else {"$from": star}
        case ParentOutcomes():
            return {"$parents": True}
        case Told(what):
            return {"$told": what.value}


def line_kind(kind: LineKind | None, *, has_condition: bool, at: Path) -> LineKind:
    """The kind of a line: what is given, or what the presence of a condition says."""
    if has_condition:
        if kind not in (None, LineKind.CONDITION):
            raise WrongAt(at, f"a line of kind {kind} has no condition")
        return LineKind.CONDITION
    if kind is LineKind.CONDITION:
        raise WrongAt(at, "a line of kind condition needs one")
    return LineKind.SUCCESS if kind is None else kind


def refusal(wrong: WrongAt, *, field: str) -> InvalidField:
    """WrongAt as an error that names the part by its path below `field`."""
    text = field
    for step in wrong.path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return InvalidField(text, wrong.reason)
