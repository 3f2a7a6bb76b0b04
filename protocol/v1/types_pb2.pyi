from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StarState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STAR_STATE_UNSPECIFIED: _ClassVar[StarState]
    STAR_STATE_WAITING: _ClassVar[StarState]
    STAR_STATE_READY: _ClassVar[StarState]
    STAR_STATE_RUNNING: _ClassVar[StarState]
    STAR_STATE_SUCCEEDED: _ClassVar[StarState]
    STAR_STATE_FAILED: _ClassVar[StarState]
    STAR_STATE_CANCELLED: _ClassVar[StarState]

class StarKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STAR_KIND_UNSPECIFIED: _ClassVar[StarKind]
    STAR_KIND_PLAN: _ClassVar[StarKind]
    STAR_KIND_REASON: _ClassVar[StarKind]
    STAR_KIND_TOOL: _ClassVar[StarKind]
    STAR_KIND_GATHER: _ClassVar[StarKind]
    STAR_KIND_AGENT: _ClassVar[StarKind]
    STAR_KIND_APPROVAL: _ClassVar[StarKind]

class ConstellationState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONSTELLATION_STATE_UNSPECIFIED: _ClassVar[ConstellationState]
    CONSTELLATION_STATE_RUNNING: _ClassVar[ConstellationState]
    CONSTELLATION_STATE_SUCCEEDED: _ClassVar[ConstellationState]
    CONSTELLATION_STATE_FAILED: _ClassVar[ConstellationState]
    CONSTELLATION_STATE_CANCELLED: _ClassVar[ConstellationState]

class AttemptOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ATTEMPT_OUTCOME_UNSPECIFIED: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_SUCCEEDED: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_FAILED: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_TIMED_OUT: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_LOST: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_CANCELLED: _ClassVar[AttemptOutcome]

class LineKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LINE_KIND_UNSPECIFIED: _ClassVar[LineKind]
    LINE_KIND_SUCCESS: _ClassVar[LineKind]
    LINE_KIND_COMPLETION: _ClassVar[LineKind]
    LINE_KIND_CONDITION: _ClassVar[LineKind]
    LINE_KIND_QUORUM: _ClassVar[LineKind]
    LINE_KIND_GUARD: _ClassVar[LineKind]
    LINE_KIND_STREAM: _ClassVar[LineKind]

class Comparison(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMPARISON_UNSPECIFIED: _ClassVar[Comparison]
    COMPARISON_EQ: _ClassVar[Comparison]
    COMPARISON_NE: _ClassVar[Comparison]
    COMPARISON_LT: _ClassVar[Comparison]
    COMPARISON_LE: _ClassVar[Comparison]
    COMPARISON_GT: _ClassVar[Comparison]
    COMPARISON_GE: _ClassVar[Comparison]
    COMPARISON_EXISTS: _ClassVar[Comparison]
    COMPARISON_MISSING: _ClassVar[Comparison]
    COMPARISON_IN: _ClassVar[Comparison]
    COMPARISON_CONTAINS: _ClassVar[Comparison]

class Effect(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EFFECT_UNSPECIFIED: _ClassVar[Effect]
    EFFECT_PURE: _ClassVar[Effect]
    EFFECT_IDEMPOTENT: _ClassVar[Effect]
    EFFECT_NONE: _ClassVar[Effect]
STAR_STATE_UNSPECIFIED: StarState
STAR_STATE_WAITING: StarState
STAR_STATE_READY: StarState
STAR_STATE_RUNNING: StarState
STAR_STATE_SUCCEEDED: StarState
STAR_STATE_FAILED: StarState
STAR_STATE_CANCELLED: StarState
STAR_KIND_UNSPECIFIED: StarKind
STAR_KIND_PLAN: StarKind
STAR_KIND_REASON: StarKind
STAR_KIND_TOOL: StarKind
STAR_KIND_GATHER: StarKind
STAR_KIND_AGENT: StarKind
STAR_KIND_APPROVAL: StarKind
CONSTELLATION_STATE_UNSPECIFIED: ConstellationState
CONSTELLATION_STATE_RUNNING: ConstellationState
CONSTELLATION_STATE_SUCCEEDED: ConstellationState
CONSTELLATION_STATE_FAILED: ConstellationState
CONSTELLATION_STATE_CANCELLED: ConstellationState
ATTEMPT_OUTCOME_UNSPECIFIED: AttemptOutcome
ATTEMPT_OUTCOME_SUCCEEDED: AttemptOutcome
ATTEMPT_OUTCOME_FAILED: AttemptOutcome
ATTEMPT_OUTCOME_TIMED_OUT: AttemptOutcome
ATTEMPT_OUTCOME_LOST: AttemptOutcome
ATTEMPT_OUTCOME_CANCELLED: AttemptOutcome
LINE_KIND_UNSPECIFIED: LineKind
LINE_KIND_SUCCESS: LineKind
LINE_KIND_COMPLETION: LineKind
LINE_KIND_CONDITION: LineKind
LINE_KIND_QUORUM: LineKind
LINE_KIND_GUARD: LineKind
LINE_KIND_STREAM: LineKind
COMPARISON_UNSPECIFIED: Comparison
COMPARISON_EQ: Comparison
COMPARISON_NE: Comparison
COMPARISON_LT: Comparison
COMPARISON_LE: Comparison
COMPARISON_GT: Comparison
COMPARISON_GE: Comparison
COMPARISON_EXISTS: Comparison
COMPARISON_MISSING: Comparison
COMPARISON_IN: Comparison
COMPARISON_CONTAINS: Comparison
EFFECT_UNSPECIFIED: Effect
EFFECT_PURE: Effect
EFFECT_IDEMPOTENT: Effect
EFFECT_NONE: Effect

class PathStep(_message.Message):
    __slots__ = ("key", "index")
    KEY_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    key: str
    index: int
    def __init__(self, key: _Optional[str] = ..., index: _Optional[int] = ...) -> None: ...

class Input(_message.Message):
    __slots__ = ("constant_json", "output_of", "parent_outcomes", "told")
    class Telling(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        TELLING_UNSPECIFIED: _ClassVar[Input.Telling]
        TELLING_REQUEST: _ClassVar[Input.Telling]
        TELLING_GRAPH: _ClassVar[Input.Telling]
        TELLING_OFFERS: _ClassVar[Input.Telling]
    TELLING_UNSPECIFIED: Input.Telling
    TELLING_REQUEST: Input.Telling
    TELLING_GRAPH: Input.Telling
    TELLING_OFFERS: Input.Telling
    class OutputOf(_message.Message):
        __slots__ = ("star", "path")
        STAR_FIELD_NUMBER: _ClassVar[int]
        PATH_FIELD_NUMBER: _ClassVar[int]
        star: str
        path: _containers.RepeatedCompositeFieldContainer[PathStep]
        def __init__(self, star: _Optional[str] = ..., path: _Optional[_Iterable[_Union[PathStep, _Mapping]]] = ...) -> None: ...
    class ParentOutcomes(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    CONSTANT_JSON_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_OF_FIELD_NUMBER: _ClassVar[int]
    PARENT_OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    TOLD_FIELD_NUMBER: _ClassVar[int]
    constant_json: str
    output_of: Input.OutputOf
    parent_outcomes: Input.ParentOutcomes
    told: Input.Telling
    def __init__(self, constant_json: _Optional[str] = ..., output_of: _Optional[_Union[Input.OutputOf, _Mapping]] = ..., parent_outcomes: _Optional[_Union[Input.ParentOutcomes, _Mapping]] = ..., told: _Optional[_Union[Input.Telling, str]] = ...) -> None: ...

class Artifact(_message.Message):
    __slots__ = ("sha256", "size")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    sha256: bytes
    size: int
    def __init__(self, sha256: _Optional[bytes] = ..., size: _Optional[int] = ...) -> None: ...

class Timeouts(_message.Message):
    __slots__ = ("schedule_to_start_s", "start_to_close_s", "heartbeat_s")
    SCHEDULE_TO_START_S_FIELD_NUMBER: _ClassVar[int]
    START_TO_CLOSE_S_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_S_FIELD_NUMBER: _ClassVar[int]
    schedule_to_start_s: float
    start_to_close_s: float
    heartbeat_s: float
    def __init__(self, schedule_to_start_s: _Optional[float] = ..., start_to_close_s: _Optional[float] = ..., heartbeat_s: _Optional[float] = ...) -> None: ...

class RetryPolicy(_message.Message):
    __slots__ = ("max_attempts", "backoff_s", "multiplier", "max_backoff_s", "jitter")
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_S_FIELD_NUMBER: _ClassVar[int]
    MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    MAX_BACKOFF_S_FIELD_NUMBER: _ClassVar[int]
    JITTER_FIELD_NUMBER: _ClassVar[int]
    max_attempts: int
    backoff_s: float
    multiplier: float
    max_backoff_s: float
    jitter: float
    def __init__(self, max_attempts: _Optional[int] = ..., backoff_s: _Optional[float] = ..., multiplier: _Optional[float] = ..., max_backoff_s: _Optional[float] = ..., jitter: _Optional[float] = ...) -> None: ...

class StarSpec(_message.Message):
    __slots__ = ("id", "kind", "program", "inputs", "requires", "priority", "timeouts", "retry", "may_edit", "title", "quorum", "is_idempotent", "replan_when", "reuses")
    class InputsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Input
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Input, _Mapping]] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    REQUIRES_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUTS_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    MAY_EDIT_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    QUORUM_FIELD_NUMBER: _ClassVar[int]
    IS_IDEMPOTENT_FIELD_NUMBER: _ClassVar[int]
    REPLAN_WHEN_FIELD_NUMBER: _ClassVar[int]
    REUSES_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: StarKind
    program: str
    inputs: _containers.MessageMap[str, Input]
    requires: _containers.RepeatedScalarFieldContainer[str]
    priority: int
    timeouts: Timeouts
    retry: RetryPolicy
    may_edit: bool
    title: str
    quorum: int
    is_idempotent: bool
    replan_when: Condition
    reuses: str
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[_Union[StarKind, str]] = ..., program: _Optional[str] = ..., inputs: _Optional[_Mapping[str, Input]] = ..., requires: _Optional[_Iterable[str]] = ..., priority: _Optional[int] = ..., timeouts: _Optional[_Union[Timeouts, _Mapping]] = ..., retry: _Optional[_Union[RetryPolicy, _Mapping]] = ..., may_edit: _Optional[bool] = ..., title: _Optional[str] = ..., quorum: _Optional[int] = ..., is_idempotent: _Optional[bool] = ..., replan_when: _Optional[_Union[Condition, _Mapping]] = ..., reuses: _Optional[str] = ...) -> None: ...

class Condition(_message.Message):
    __slots__ = ("terms",)
    class Operator(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OPERATOR_UNSPECIFIED: _ClassVar[Condition.Operator]
        OPERATOR_AND: _ClassVar[Condition.Operator]
        OPERATOR_OR: _ClassVar[Condition.Operator]
        OPERATOR_NOT: _ClassVar[Condition.Operator]
    OPERATOR_UNSPECIFIED: Condition.Operator
    OPERATOR_AND: Condition.Operator
    OPERATOR_OR: Condition.Operator
    OPERATOR_NOT: Condition.Operator
    class Compare(_message.Message):
        __slots__ = ("path", "comparison", "value_json", "of_length")
        PATH_FIELD_NUMBER: _ClassVar[int]
        COMPARISON_FIELD_NUMBER: _ClassVar[int]
        VALUE_JSON_FIELD_NUMBER: _ClassVar[int]
        OF_LENGTH_FIELD_NUMBER: _ClassVar[int]
        path: _containers.RepeatedCompositeFieldContainer[PathStep]
        comparison: Comparison
        value_json: str
        of_length: bool
        def __init__(self, path: _Optional[_Iterable[_Union[PathStep, _Mapping]]] = ..., comparison: _Optional[_Union[Comparison, str]] = ..., value_json: _Optional[str] = ..., of_length: _Optional[bool] = ...) -> None: ...
    class Term(_message.Message):
        __slots__ = ("compare", "operator")
        COMPARE_FIELD_NUMBER: _ClassVar[int]
        OPERATOR_FIELD_NUMBER: _ClassVar[int]
        compare: Condition.Compare
        operator: Condition.Operator
        def __init__(self, compare: _Optional[_Union[Condition.Compare, _Mapping]] = ..., operator: _Optional[_Union[Condition.Operator, str]] = ...) -> None: ...
    TERMS_FIELD_NUMBER: _ClassVar[int]
    terms: _containers.RepeatedCompositeFieldContainer[Condition.Term]
    def __init__(self, terms: _Optional[_Iterable[_Union[Condition.Term, _Mapping]]] = ...) -> None: ...

class Line(_message.Message):
    __slots__ = ("parent", "child", "kind", "condition")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    CHILD_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    parent: str
    child: str
    kind: LineKind
    condition: Condition
    def __init__(self, parent: _Optional[str] = ..., child: _Optional[str] = ..., kind: _Optional[_Union[LineKind, str]] = ..., condition: _Optional[_Union[Condition, _Mapping]] = ...) -> None: ...

class Edit(_message.Message):
    __slots__ = ("add_star", "remove_star", "update_star", "add_line", "remove_line", "rebind_inputs", "cancel_star")
    class AddStar(_message.Message):
        __slots__ = ("spec", "after")
        SPEC_FIELD_NUMBER: _ClassVar[int]
        AFTER_FIELD_NUMBER: _ClassVar[int]
        spec: StarSpec
        after: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, spec: _Optional[_Union[StarSpec, _Mapping]] = ..., after: _Optional[_Iterable[str]] = ...) -> None: ...
    class RemoveStar(_message.Message):
        __slots__ = ("star",)
        STAR_FIELD_NUMBER: _ClassVar[int]
        star: str
        def __init__(self, star: _Optional[str] = ...) -> None: ...
    class Capabilities(_message.Message):
        __slots__ = ("requires",)
        REQUIRES_FIELD_NUMBER: _ClassVar[int]
        requires: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, requires: _Optional[_Iterable[str]] = ...) -> None: ...
    class UpdateStar(_message.Message):
        __slots__ = ("star", "priority", "requires", "timeouts", "retry", "title")
        STAR_FIELD_NUMBER: _ClassVar[int]
        PRIORITY_FIELD_NUMBER: _ClassVar[int]
        REQUIRES_FIELD_NUMBER: _ClassVar[int]
        TIMEOUTS_FIELD_NUMBER: _ClassVar[int]
        RETRY_FIELD_NUMBER: _ClassVar[int]
        TITLE_FIELD_NUMBER: _ClassVar[int]
        star: str
        priority: int
        requires: Edit.Capabilities
        timeouts: Timeouts
        retry: RetryPolicy
        title: str
        def __init__(self, star: _Optional[str] = ..., priority: _Optional[int] = ..., requires: _Optional[_Union[Edit.Capabilities, _Mapping]] = ..., timeouts: _Optional[_Union[Timeouts, _Mapping]] = ..., retry: _Optional[_Union[RetryPolicy, _Mapping]] = ..., title: _Optional[str] = ...) -> None: ...
    class AddLine(_message.Message):
        __slots__ = ("line",)
        LINE_FIELD_NUMBER: _ClassVar[int]
        line: Line
        def __init__(self, line: _Optional[_Union[Line, _Mapping]] = ...) -> None: ...
    class RemoveLine(_message.Message):
        __slots__ = ("parent", "child")
        PARENT_FIELD_NUMBER: _ClassVar[int]
        CHILD_FIELD_NUMBER: _ClassVar[int]
        parent: str
        child: str
        def __init__(self, parent: _Optional[str] = ..., child: _Optional[str] = ...) -> None: ...
    class RebindInputs(_message.Message):
        __slots__ = ("star", "inputs")
        class InputsEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: Input
            def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Input, _Mapping]] = ...) -> None: ...
        STAR_FIELD_NUMBER: _ClassVar[int]
        INPUTS_FIELD_NUMBER: _ClassVar[int]
        star: str
        inputs: _containers.MessageMap[str, Input]
        def __init__(self, star: _Optional[str] = ..., inputs: _Optional[_Mapping[str, Input]] = ...) -> None: ...
    class CancelStar(_message.Message):
        __slots__ = ("star",)
        STAR_FIELD_NUMBER: _ClassVar[int]
        star: str
        def __init__(self, star: _Optional[str] = ...) -> None: ...
    ADD_STAR_FIELD_NUMBER: _ClassVar[int]
    REMOVE_STAR_FIELD_NUMBER: _ClassVar[int]
    UPDATE_STAR_FIELD_NUMBER: _ClassVar[int]
    ADD_LINE_FIELD_NUMBER: _ClassVar[int]
    REMOVE_LINE_FIELD_NUMBER: _ClassVar[int]
    REBIND_INPUTS_FIELD_NUMBER: _ClassVar[int]
    CANCEL_STAR_FIELD_NUMBER: _ClassVar[int]
    add_star: Edit.AddStar
    remove_star: Edit.RemoveStar
    update_star: Edit.UpdateStar
    add_line: Edit.AddLine
    remove_line: Edit.RemoveLine
    rebind_inputs: Edit.RebindInputs
    cancel_star: Edit.CancelStar
    def __init__(self, add_star: _Optional[_Union[Edit.AddStar, _Mapping]] = ..., remove_star: _Optional[_Union[Edit.RemoveStar, _Mapping]] = ..., update_star: _Optional[_Union[Edit.UpdateStar, _Mapping]] = ..., add_line: _Optional[_Union[Edit.AddLine, _Mapping]] = ..., remove_line: _Optional[_Union[Edit.RemoveLine, _Mapping]] = ..., rebind_inputs: _Optional[_Union[Edit.RebindInputs, _Mapping]] = ..., cancel_star: _Optional[_Union[Edit.CancelStar, _Mapping]] = ...) -> None: ...

class EditBatch(_message.Message):
    __slots__ = ("edits", "base_revision")
    EDITS_FIELD_NUMBER: _ClassVar[int]
    BASE_REVISION_FIELD_NUMBER: _ClassVar[int]
    edits: _containers.RepeatedCompositeFieldContainer[Edit]
    base_revision: int
    def __init__(self, edits: _Optional[_Iterable[_Union[Edit, _Mapping]]] = ..., base_revision: _Optional[int] = ...) -> None: ...

class StarError(_message.Message):
    __slots__ = ("code", "message", "retryable")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    retryable: bool
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., retryable: _Optional[bool] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("number", "worker", "fencing_token", "leased_at", "ended_at", "outcome", "error", "holds_slot")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    LEASED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    HOLDS_SLOT_FIELD_NUMBER: _ClassVar[int]
    number: int
    worker: str
    fencing_token: int
    leased_at: float
    ended_at: float
    outcome: AttemptOutcome
    error: StarError
    holds_slot: bool
    def __init__(self, number: _Optional[int] = ..., worker: _Optional[str] = ..., fencing_token: _Optional[int] = ..., leased_at: _Optional[float] = ..., ended_at: _Optional[float] = ..., outcome: _Optional[_Union[AttemptOutcome, str]] = ..., error: _Optional[_Union[StarError, _Mapping]] = ..., holds_slot: _Optional[bool] = ...) -> None: ...

class Star(_message.Message):
    __slots__ = ("spec", "state", "revision", "attempts", "retry_at", "ready_at", "finished_at", "result_json", "error", "waiting_for", "artifact", "version", "source")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    RETRY_AT_FIELD_NUMBER: _ClassVar[int]
    READY_AT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    RESULT_JSON_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    spec: StarSpec
    state: StarState
    revision: int
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    retry_at: float
    ready_at: float
    finished_at: float
    result_json: str
    error: StarError
    waiting_for: str
    artifact: Artifact
    version: str
    source: str
    def __init__(self, spec: _Optional[_Union[StarSpec, _Mapping]] = ..., state: _Optional[_Union[StarState, str]] = ..., revision: _Optional[int] = ..., attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., retry_at: _Optional[float] = ..., ready_at: _Optional[float] = ..., finished_at: _Optional[float] = ..., result_json: _Optional[str] = ..., error: _Optional[_Union[StarError, _Mapping]] = ..., waiting_for: _Optional[str] = ..., artifact: _Optional[_Union[Artifact, _Mapping]] = ..., version: _Optional[str] = ..., source: _Optional[str] = ...) -> None: ...

class Budget(_message.Message):
    __slots__ = ("stars", "attempts", "seconds", "replans", "tokens")
    STARS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    REPLANS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    stars: int
    attempts: int
    seconds: float
    replans: int
    tokens: int
    def __init__(self, stars: _Optional[int] = ..., attempts: _Optional[int] = ..., seconds: _Optional[float] = ..., replans: _Optional[int] = ..., tokens: _Optional[int] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("form", "text", "name", "options_json")
    FORM_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    form: str
    text: str
    name: str
    options_json: str
    def __init__(self, form: _Optional[str] = ..., text: _Optional[str] = ..., name: _Optional[str] = ..., options_json: _Optional[str] = ...) -> None: ...

class Constellation(_message.Message):
    __slots__ = ("id", "request_id", "owner", "request", "budget", "created_at", "revision", "state", "reason", "ended_at", "stars", "lines", "seq", "attempts", "started_at", "pause", "resumed_at", "replan", "is_pressed", "tokens")
    ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    STARS_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    PAUSE_FIELD_NUMBER: _ClassVar[int]
    RESUMED_AT_FIELD_NUMBER: _ClassVar[int]
    REPLAN_FIELD_NUMBER: _ClassVar[int]
    IS_PRESSED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    id: str
    request_id: str
    owner: str
    request: Request
    budget: Budget
    created_at: float
    revision: int
    state: ConstellationState
    reason: str
    ended_at: float
    stars: _containers.RepeatedCompositeFieldContainer[Star]
    lines: _containers.RepeatedCompositeFieldContainer[Line]
    seq: int
    attempts: int
    started_at: float
    pause: Pause
    resumed_at: float
    replan: StarSpec
    is_pressed: bool
    tokens: int
    def __init__(self, id: _Optional[str] = ..., request_id: _Optional[str] = ..., owner: _Optional[str] = ..., request: _Optional[_Union[Request, _Mapping]] = ..., budget: _Optional[_Union[Budget, _Mapping]] = ..., created_at: _Optional[float] = ..., revision: _Optional[int] = ..., state: _Optional[_Union[ConstellationState, str]] = ..., reason: _Optional[str] = ..., ended_at: _Optional[float] = ..., stars: _Optional[_Iterable[_Union[Star, _Mapping]]] = ..., lines: _Optional[_Iterable[_Union[Line, _Mapping]]] = ..., seq: _Optional[int] = ..., attempts: _Optional[int] = ..., started_at: _Optional[float] = ..., pause: _Optional[_Union[Pause, _Mapping]] = ..., resumed_at: _Optional[float] = ..., replan: _Optional[_Union[StarSpec, _Mapping]] = ..., is_pressed: _Optional[bool] = ..., tokens: _Optional[int] = ...) -> None: ...

class Pause(_message.Message):
    __slots__ = ("by", "reason", "at")
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    by: str
    reason: str
    at: float
    def __init__(self, by: _Optional[str] = ..., reason: _Optional[str] = ..., at: _Optional[float] = ...) -> None: ...

class Gpu(_message.Message):
    __slots__ = ("name", "memory_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    memory_bytes: int
    def __init__(self, name: _Optional[str] = ..., memory_bytes: _Optional[int] = ...) -> None: ...

class WorkerProfile(_message.Message):
    __slots__ = ("slots", "os", "architecture", "cores", "memory_bytes", "gpus", "models", "tools", "programs", "labels", "version", "descriptions")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    OS_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    CORES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    PROGRAMS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    slots: int
    os: str
    architecture: str
    cores: int
    memory_bytes: int
    gpus: _containers.RepeatedCompositeFieldContainer[Gpu]
    models: _containers.RepeatedScalarFieldContainer[str]
    tools: _containers.RepeatedScalarFieldContainer[str]
    programs: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    version: str
    descriptions: _containers.RepeatedCompositeFieldContainer[Description]
    def __init__(self, slots: _Optional[int] = ..., os: _Optional[str] = ..., architecture: _Optional[str] = ..., cores: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., gpus: _Optional[_Iterable[_Union[Gpu, _Mapping]]] = ..., models: _Optional[_Iterable[str]] = ..., tools: _Optional[_Iterable[str]] = ..., programs: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., version: _Optional[str] = ..., descriptions: _Optional[_Iterable[_Union[Description, _Mapping]]] = ...) -> None: ...

class Description(_message.Message):
    __slots__ = ("capability", "effect", "version", "summary", "schema_json", "cache_s")
    CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_JSON_FIELD_NUMBER: _ClassVar[int]
    CACHE_S_FIELD_NUMBER: _ClassVar[int]
    capability: str
    effect: Effect
    version: str
    summary: str
    schema_json: str
    cache_s: float
    def __init__(self, capability: _Optional[str] = ..., effect: _Optional[_Union[Effect, str]] = ..., version: _Optional[str] = ..., summary: _Optional[str] = ..., schema_json: _Optional[str] = ..., cache_s: _Optional[float] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("thread", "text", "tokens")
    THREAD_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    thread: str
    text: str
    tokens: int
    def __init__(self, thread: _Optional[str] = ..., text: _Optional[str] = ..., tokens: _Optional[int] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("seq", "at", "constellation", "request_accepted", "edits_applied", "edits_refused", "attempt_leased", "attempt_ended", "star_finished", "slot_released", "constellation_ended", "constellation_paused")
    class RequestAccepted(_message.Message):
        __slots__ = ("request_id", "owner", "request", "budget", "replan")
        REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
        OWNER_FIELD_NUMBER: _ClassVar[int]
        REQUEST_FIELD_NUMBER: _ClassVar[int]
        BUDGET_FIELD_NUMBER: _ClassVar[int]
        REPLAN_FIELD_NUMBER: _ClassVar[int]
        request_id: str
        owner: str
        request: Request
        budget: Budget
        replan: StarSpec
        def __init__(self, request_id: _Optional[str] = ..., owner: _Optional[str] = ..., request: _Optional[_Union[Request, _Mapping]] = ..., budget: _Optional[_Union[Budget, _Mapping]] = ..., replan: _Optional[_Union[StarSpec, _Mapping]] = ...) -> None: ...
    class EditsApplied(_message.Message):
        __slots__ = ("revision", "by", "edits", "reason", "proposal")
        REVISION_FIELD_NUMBER: _ClassVar[int]
        BY_FIELD_NUMBER: _ClassVar[int]
        EDITS_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        PROPOSAL_FIELD_NUMBER: _ClassVar[int]
        revision: int
        by: str
        edits: _containers.RepeatedCompositeFieldContainer[Edit]
        reason: str
        proposal: int
        def __init__(self, revision: _Optional[int] = ..., by: _Optional[str] = ..., edits: _Optional[_Iterable[_Union[Edit, _Mapping]]] = ..., reason: _Optional[str] = ..., proposal: _Optional[int] = ...) -> None: ...
    class EditsRefused(_message.Message):
        __slots__ = ("by", "reasons", "proposal")
        BY_FIELD_NUMBER: _ClassVar[int]
        REASONS_FIELD_NUMBER: _ClassVar[int]
        PROPOSAL_FIELD_NUMBER: _ClassVar[int]
        by: str
        reasons: _containers.RepeatedScalarFieldContainer[str]
        proposal: int
        def __init__(self, by: _Optional[str] = ..., reasons: _Optional[_Iterable[str]] = ..., proposal: _Optional[int] = ...) -> None: ...
    class AttemptLeased(_message.Message):
        __slots__ = ("star", "attempt", "worker", "fencing_token")
        STAR_FIELD_NUMBER: _ClassVar[int]
        ATTEMPT_FIELD_NUMBER: _ClassVar[int]
        WORKER_FIELD_NUMBER: _ClassVar[int]
        FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
        star: str
        attempt: int
        worker: str
        fencing_token: int
        def __init__(self, star: _Optional[str] = ..., attempt: _Optional[int] = ..., worker: _Optional[str] = ..., fencing_token: _Optional[int] = ...) -> None: ...
    class AttemptEnded(_message.Message):
        __slots__ = ("star", "attempt", "outcome", "error", "retry_at", "releases_slot", "tokens")
        STAR_FIELD_NUMBER: _ClassVar[int]
        ATTEMPT_FIELD_NUMBER: _ClassVar[int]
        OUTCOME_FIELD_NUMBER: _ClassVar[int]
        ERROR_FIELD_NUMBER: _ClassVar[int]
        RETRY_AT_FIELD_NUMBER: _ClassVar[int]
        RELEASES_SLOT_FIELD_NUMBER: _ClassVar[int]
        TOKENS_FIELD_NUMBER: _ClassVar[int]
        star: str
        attempt: int
        outcome: AttemptOutcome
        error: StarError
        retry_at: float
        releases_slot: bool
        tokens: int
        def __init__(self, star: _Optional[str] = ..., attempt: _Optional[int] = ..., outcome: _Optional[_Union[AttemptOutcome, str]] = ..., error: _Optional[_Union[StarError, _Mapping]] = ..., retry_at: _Optional[float] = ..., releases_slot: _Optional[bool] = ..., tokens: _Optional[int] = ...) -> None: ...
    class StarFinished(_message.Message):
        __slots__ = ("star", "state", "result_json", "error", "attempt", "outcome", "releases_slot", "artifact", "version", "source", "tokens")
        STAR_FIELD_NUMBER: _ClassVar[int]
        STATE_FIELD_NUMBER: _ClassVar[int]
        RESULT_JSON_FIELD_NUMBER: _ClassVar[int]
        ERROR_FIELD_NUMBER: _ClassVar[int]
        ATTEMPT_FIELD_NUMBER: _ClassVar[int]
        OUTCOME_FIELD_NUMBER: _ClassVar[int]
        RELEASES_SLOT_FIELD_NUMBER: _ClassVar[int]
        ARTIFACT_FIELD_NUMBER: _ClassVar[int]
        VERSION_FIELD_NUMBER: _ClassVar[int]
        SOURCE_FIELD_NUMBER: _ClassVar[int]
        TOKENS_FIELD_NUMBER: _ClassVar[int]
        star: str
        state: StarState
        result_json: str
        error: StarError
        attempt: int
        outcome: AttemptOutcome
        releases_slot: bool
        artifact: Artifact
        version: str
        source: str
        tokens: int
        def __init__(self, star: _Optional[str] = ..., state: _Optional[_Union[StarState, str]] = ..., result_json: _Optional[str] = ..., error: _Optional[_Union[StarError, _Mapping]] = ..., attempt: _Optional[int] = ..., outcome: _Optional[_Union[AttemptOutcome, str]] = ..., releases_slot: _Optional[bool] = ..., artifact: _Optional[_Union[Artifact, _Mapping]] = ..., version: _Optional[str] = ..., source: _Optional[str] = ..., tokens: _Optional[int] = ...) -> None: ...
    class SlotReleased(_message.Message):
        __slots__ = ("star", "attempt")
        STAR_FIELD_NUMBER: _ClassVar[int]
        ATTEMPT_FIELD_NUMBER: _ClassVar[int]
        star: str
        attempt: int
        def __init__(self, star: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...
    class ConstellationPaused(_message.Message):
        __slots__ = ("by", "reason", "is_paused")
        BY_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        IS_PAUSED_FIELD_NUMBER: _ClassVar[int]
        by: str
        reason: str
        is_paused: bool
        def __init__(self, by: _Optional[str] = ..., reason: _Optional[str] = ..., is_paused: _Optional[bool] = ...) -> None: ...
    class ConstellationEnded(_message.Message):
        __slots__ = ("state", "reason")
        STATE_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        state: ConstellationState
        reason: str
        def __init__(self, state: _Optional[_Union[ConstellationState, str]] = ..., reason: _Optional[str] = ...) -> None: ...
    SEQ_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    CONSTELLATION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    EDITS_APPLIED_FIELD_NUMBER: _ClassVar[int]
    EDITS_REFUSED_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_LEASED_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_ENDED_FIELD_NUMBER: _ClassVar[int]
    STAR_FINISHED_FIELD_NUMBER: _ClassVar[int]
    SLOT_RELEASED_FIELD_NUMBER: _ClassVar[int]
    CONSTELLATION_ENDED_FIELD_NUMBER: _ClassVar[int]
    CONSTELLATION_PAUSED_FIELD_NUMBER: _ClassVar[int]
    seq: int
    at: float
    constellation: str
    request_accepted: Record.RequestAccepted
    edits_applied: Record.EditsApplied
    edits_refused: Record.EditsRefused
    attempt_leased: Record.AttemptLeased
    attempt_ended: Record.AttemptEnded
    star_finished: Record.StarFinished
    slot_released: Record.SlotReleased
    constellation_ended: Record.ConstellationEnded
    constellation_paused: Record.ConstellationPaused
    def __init__(self, seq: _Optional[int] = ..., at: _Optional[float] = ..., constellation: _Optional[str] = ..., request_accepted: _Optional[_Union[Record.RequestAccepted, _Mapping]] = ..., edits_applied: _Optional[_Union[Record.EditsApplied, _Mapping]] = ..., edits_refused: _Optional[_Union[Record.EditsRefused, _Mapping]] = ..., attempt_leased: _Optional[_Union[Record.AttemptLeased, _Mapping]] = ..., attempt_ended: _Optional[_Union[Record.AttemptEnded, _Mapping]] = ..., star_finished: _Optional[_Union[Record.StarFinished, _Mapping]] = ..., slot_released: _Optional[_Union[Record.SlotReleased, _Mapping]] = ..., constellation_ended: _Optional[_Union[Record.ConstellationEnded, _Mapping]] = ..., constellation_paused: _Optional[_Union[Record.ConstellationPaused, _Mapping]] = ...) -> None: ...
