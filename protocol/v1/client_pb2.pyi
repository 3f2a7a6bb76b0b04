from asterism.protocol.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SubmitRequest(_message.Message):
    __slots__ = ("request_id", "request", "budget")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    request: _types_pb2.Request
    budget: _types_pb2.Budget
    def __init__(self, request_id: _Optional[str] = ..., request: _Optional[_Union[_types_pb2.Request, _Mapping]] = ..., budget: _Optional[_Union[_types_pb2.Budget, _Mapping]] = ...) -> None: ...

class SubmitResponse(_message.Message):
    __slots__ = ("constellation", "is_new")
    CONSTELLATION_FIELD_NUMBER: _ClassVar[int]
    IS_NEW_FIELD_NUMBER: _ClassVar[int]
    constellation: str
    is_new: bool
    def __init__(self, constellation: _Optional[str] = ..., is_new: _Optional[bool] = ...) -> None: ...

class GetConstellationRequest(_message.Message):
    __slots__ = ("constellation",)
    CONSTELLATION_FIELD_NUMBER: _ClassVar[int]
    constellation: str
    def __init__(self, constellation: _Optional[str] = ...) -> None: ...

class ListConstellationsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "states")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    states: _containers.RepeatedScalarFieldContainer[_types_pb2.ConstellationState]
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., states: _Optional[_Iterable[_Union[_types_pb2.ConstellationState, str]]] = ...) -> None: ...

class Summary(_message.Message):
    __slots__ = ("id", "request_id", "owner", "name", "form", "created_at", "state", "reason", "ended_at", "revision", "stars", "stars_terminal")
    ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    FORM_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STARS_FIELD_NUMBER: _ClassVar[int]
    STARS_TERMINAL_FIELD_NUMBER: _ClassVar[int]
    id: str
    request_id: str
    owner: str
    name: str
    form: str
    created_at: float
    state: _types_pb2.ConstellationState
    reason: str
    ended_at: float
    revision: int
    stars: int
    stars_terminal: int
    def __init__(self, id: _Optional[str] = ..., request_id: _Optional[str] = ..., owner: _Optional[str] = ..., name: _Optional[str] = ..., form: _Optional[str] = ..., created_at: _Optional[float] = ..., state: _Optional[_Union[_types_pb2.ConstellationState, str]] = ..., reason: _Optional[str] = ..., ended_at: _Optional[float] = ..., revision: _Optional[int] = ..., stars: _Optional[int] = ..., stars_terminal: _Optional[int] = ...) -> None: ...

class ListConstellationsResponse(_message.Message):
    __slots__ = ("constellations", "next_page_token")
    CONSTELLATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    constellations: _containers.RepeatedCompositeFieldContainer[Summary]
    next_page_token: str
    def __init__(self, constellations: _Optional[_Iterable[_Union[Summary, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("constellation", "after_seq", "with_text")
    CONSTELLATION_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    WITH_TEXT_FIELD_NUMBER: _ClassVar[int]
    constellation: str
    after_seq: int
    with_text: bool
    def __init__(self, constellation: _Optional[str] = ..., after_seq: _Optional[int] = ..., with_text: _Optional[bool] = ...) -> None: ...

class StreamedText(_message.Message):
    __slots__ = ("star", "attempt", "worker", "chunks")
    STAR_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    star: str
    attempt: int
    worker: str
    chunks: _containers.RepeatedCompositeFieldContainer[_types_pb2.Chunk]
    def __init__(self, star: _Optional[str] = ..., attempt: _Optional[int] = ..., worker: _Optional[str] = ..., chunks: _Optional[_Iterable[_Union[_types_pb2.Chunk, _Mapping]]] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("records", "texts")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[_types_pb2.Record]
    texts: _containers.RepeatedCompositeFieldContainer[StreamedText]
    def __init__(self, records: _Optional[_Iterable[_Union[_types_pb2.Record, _Mapping]]] = ..., texts: _Optional[_Iterable[_Union[StreamedText, _Mapping]]] = ...) -> None: ...

class WaitRequest(_message.Message):
    __slots__ = ("constellation",)
    CONSTELLATION_FIELD_NUMBER: _ClassVar[int]
    constellation: str
    def __init__(self, constellation: _Optional[str] = ...) -> None: ...

class WaitResponse(_message.Message):
    __slots__ = ("state", "reason", "ended_at")
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    state: _types_pb2.ConstellationState
    reason: str
    ended_at: float
    def __init__(self, state: _Optional[_Union[_types_pb2.ConstellationState, str]] = ..., reason: _Optional[str] = ..., ended_at: _Optional[float] = ...) -> None: ...

class EditRequest(_message.Message):
    __slots__ = ("constellation", "batch", "reason")
    CONSTELLATION_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    constellation: str
    batch: _types_pb2.EditBatch
    reason: str
    def __init__(self, constellation: _Optional[str] = ..., batch: _Optional[_Union[_types_pb2.EditBatch, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class EditResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("constellation", "reason")
    CONSTELLATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    constellation: str
    reason: str
    def __init__(self, constellation: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CancelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DecideRequest(_message.Message):
    __slots__ = ("constellation", "star", "is_approved", "reason", "value_json")
    CONSTELLATION_FIELD_NUMBER: _ClassVar[int]
    STAR_FIELD_NUMBER: _ClassVar[int]
    IS_APPROVED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VALUE_JSON_FIELD_NUMBER: _ClassVar[int]
    constellation: str
    star: str
    is_approved: bool
    reason: str
    value_json: str
    def __init__(self, constellation: _Optional[str] = ..., star: _Optional[str] = ..., is_approved: _Optional[bool] = ..., reason: _Optional[str] = ..., value_json: _Optional[str] = ...) -> None: ...

class DecideResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class ReplanRequest(_message.Message):
    __slots__ = ("constellation", "why")
    CONSTELLATION_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    constellation: str
    why: str
    def __init__(self, constellation: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class ReplanResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class PauseRequest(_message.Message):
    __slots__ = ("constellation", "is_paused", "reason")
    CONSTELLATION_FIELD_NUMBER: _ClassVar[int]
    IS_PAUSED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    constellation: str
    is_paused: bool
    reason: str
    def __init__(self, constellation: _Optional[str] = ..., is_paused: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class PauseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RetryRequest(_message.Message):
    __slots__ = ("constellation", "stars", "rebinds")
    CONSTELLATION_FIELD_NUMBER: _ClassVar[int]
    STARS_FIELD_NUMBER: _ClassVar[int]
    REBINDS_FIELD_NUMBER: _ClassVar[int]
    constellation: str
    stars: _containers.RepeatedScalarFieldContainer[str]
    rebinds: _containers.RepeatedCompositeFieldContainer[_types_pb2.Edit.RebindInputs]
    def __init__(self, constellation: _Optional[str] = ..., stars: _Optional[_Iterable[str]] = ..., rebinds: _Optional[_Iterable[_Union[_types_pb2.Edit.RebindInputs, _Mapping]]] = ...) -> None: ...

class RetryResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...
