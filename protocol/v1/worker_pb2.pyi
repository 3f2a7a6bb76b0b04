from asterism.protocol.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Hello(_message.Message):
    __slots__ = ("worker", "instance", "profile", "held")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    worker: str
    instance: str
    profile: _types_pb2.WorkerProfile
    held: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, worker: _Optional[str] = ..., instance: _Optional[str] = ..., profile: _Optional[_Union[_types_pb2.WorkerProfile, _Mapping]] = ..., held: _Optional[_Iterable[int]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("fencing_token", "chunks")
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    fencing_token: int
    chunks: _containers.RepeatedCompositeFieldContainer[_types_pb2.Chunk]
    def __init__(self, fencing_token: _Optional[int] = ..., chunks: _Optional[_Iterable[_Union[_types_pb2.Chunk, _Mapping]]] = ...) -> None: ...

class ProposedEdits(_message.Message):
    __slots__ = ("fencing_token", "proposal", "batch")
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PROPOSAL_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    fencing_token: int
    proposal: int
    batch: _types_pb2.EditBatch
    def __init__(self, fencing_token: _Optional[int] = ..., proposal: _Optional[int] = ..., batch: _Optional[_Union[_types_pb2.EditBatch, _Mapping]] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("fencing_token", "result_json", "error", "artifact", "edits", "is_stopped", "tokens")
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RESULT_JSON_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    IS_STOPPED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    fencing_token: int
    result_json: str
    error: _types_pb2.StarError
    artifact: _types_pb2.Artifact
    edits: _types_pb2.EditBatch
    is_stopped: bool
    tokens: int
    def __init__(self, fencing_token: _Optional[int] = ..., result_json: _Optional[str] = ..., error: _Optional[_Union[_types_pb2.StarError, _Mapping]] = ..., artifact: _Optional[_Union[_types_pb2.Artifact, _Mapping]] = ..., edits: _Optional[_Union[_types_pb2.EditBatch, _Mapping]] = ..., is_stopped: _Optional[bool] = ..., tokens: _Optional[int] = ...) -> None: ...

class WorkerFrame(_message.Message):
    __slots__ = ("hello", "progress", "proposed", "finished", "goodbye", "draining")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    progress: _containers.RepeatedCompositeFieldContainer[Progress]
    proposed: _containers.RepeatedCompositeFieldContainer[ProposedEdits]
    finished: _containers.RepeatedCompositeFieldContainer[Finished]
    goodbye: bool
    draining: bool
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., progress: _Optional[_Iterable[_Union[Progress, _Mapping]]] = ..., proposed: _Optional[_Iterable[_Union[ProposedEdits, _Mapping]]] = ..., finished: _Optional[_Iterable[_Union[Finished, _Mapping]]] = ..., goodbye: _Optional[bool] = ..., draining: _Optional[bool] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("worker", "lease_s", "max_frame_bytes", "max_artifact_bytes")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_ARTIFACT_BYTES_FIELD_NUMBER: _ClassVar[int]
    worker: str
    lease_s: float
    max_frame_bytes: int
    max_artifact_bytes: int
    def __init__(self, worker: _Optional[str] = ..., lease_s: _Optional[float] = ..., max_frame_bytes: _Optional[int] = ..., max_artifact_bytes: _Optional[int] = ...) -> None: ...

class Place(_message.Message):
    __slots__ = ("input", "at", "artifact", "path")
    INPUT_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    input: str
    at: _containers.RepeatedCompositeFieldContainer[_types_pb2.PathStep]
    artifact: _types_pb2.Artifact
    path: _containers.RepeatedCompositeFieldContainer[_types_pb2.PathStep]
    def __init__(self, input: _Optional[str] = ..., at: _Optional[_Iterable[_Union[_types_pb2.PathStep, _Mapping]]] = ..., artifact: _Optional[_Union[_types_pb2.Artifact, _Mapping]] = ..., path: _Optional[_Iterable[_Union[_types_pb2.PathStep, _Mapping]]] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("constellation", "star", "attempt", "fencing_token", "kind", "program", "inputs_json", "model", "revision", "may_edit", "start_to_close_s", "heartbeat_s", "places", "streams")
    class InputsJsonEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CONSTELLATION_FIELD_NUMBER: _ClassVar[int]
    STAR_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    INPUTS_JSON_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    MAY_EDIT_FIELD_NUMBER: _ClassVar[int]
    START_TO_CLOSE_S_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_S_FIELD_NUMBER: _ClassVar[int]
    PLACES_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    constellation: str
    star: str
    attempt: int
    fencing_token: int
    kind: _types_pb2.StarKind
    program: str
    inputs_json: _containers.ScalarMap[str, str]
    model: str
    revision: int
    may_edit: bool
    start_to_close_s: float
    heartbeat_s: float
    places: _containers.RepeatedCompositeFieldContainer[Place]
    streams: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, constellation: _Optional[str] = ..., star: _Optional[str] = ..., attempt: _Optional[int] = ..., fencing_token: _Optional[int] = ..., kind: _Optional[_Union[_types_pb2.StarKind, str]] = ..., program: _Optional[str] = ..., inputs_json: _Optional[_Mapping[str, str]] = ..., model: _Optional[str] = ..., revision: _Optional[int] = ..., may_edit: _Optional[bool] = ..., start_to_close_s: _Optional[float] = ..., heartbeat_s: _Optional[float] = ..., places: _Optional[_Iterable[_Union[Place, _Mapping]]] = ..., streams: _Optional[_Iterable[str]] = ...) -> None: ...

class InputPart(_message.Message):
    __slots__ = ("fencing_token", "input", "text", "value_json", "place")
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    VALUE_JSON_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    fencing_token: int
    input: str
    text: InputText
    value_json: str
    place: Place
    def __init__(self, fencing_token: _Optional[int] = ..., input: _Optional[str] = ..., text: _Optional[_Union[InputText, _Mapping]] = ..., value_json: _Optional[str] = ..., place: _Optional[_Union[Place, _Mapping]] = ...) -> None: ...

class InputText(_message.Message):
    __slots__ = ("at", "text")
    AT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    at: int
    text: str
    def __init__(self, at: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class StopAttempt(_message.Message):
    __slots__ = ("fencing_token", "reason")
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    fencing_token: int
    reason: str
    def __init__(self, fencing_token: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class EditsAnswer(_message.Message):
    __slots__ = ("fencing_token", "proposal", "is_accepted", "reasons", "revision")
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PROPOSAL_FIELD_NUMBER: _ClassVar[int]
    IS_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    fencing_token: int
    proposal: int
    is_accepted: bool
    reasons: _containers.RepeatedScalarFieldContainer[str]
    revision: int
    def __init__(self, fencing_token: _Optional[int] = ..., proposal: _Optional[int] = ..., is_accepted: _Optional[bool] = ..., reasons: _Optional[_Iterable[str]] = ..., revision: _Optional[int] = ...) -> None: ...

class OrchestratorFrame(_message.Message):
    __slots__ = ("welcome", "assignments", "stops", "acknowledged", "edits_answers", "going_away", "inputs")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    STOPS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    EDITS_ANSWERS_FIELD_NUMBER: _ClassVar[int]
    GOING_AWAY_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    assignments: _containers.RepeatedCompositeFieldContainer[Assignment]
    stops: _containers.RepeatedCompositeFieldContainer[StopAttempt]
    acknowledged: _containers.RepeatedScalarFieldContainer[int]
    edits_answers: _containers.RepeatedCompositeFieldContainer[EditsAnswer]
    going_away: bool
    inputs: _containers.RepeatedCompositeFieldContainer[InputPart]
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., assignments: _Optional[_Iterable[_Union[Assignment, _Mapping]]] = ..., stops: _Optional[_Iterable[_Union[StopAttempt, _Mapping]]] = ..., acknowledged: _Optional[_Iterable[int]] = ..., edits_answers: _Optional[_Iterable[_Union[EditsAnswer, _Mapping]]] = ..., going_away: _Optional[bool] = ..., inputs: _Optional[_Iterable[_Union[InputPart, _Mapping]]] = ...) -> None: ...
