from asterism.protocol.v1 import types_pb2 as _types_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PutHeader(_message.Message):
    __slots__ = ("worker", "fencing_token", "artifact")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    worker: str
    fencing_token: int
    artifact: _types_pb2.Artifact
    def __init__(self, worker: _Optional[str] = ..., fencing_token: _Optional[int] = ..., artifact: _Optional[_Union[_types_pb2.Artifact, _Mapping]] = ...) -> None: ...

class PutRequest(_message.Message):
    __slots__ = ("header", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: PutHeader
    data: bytes
    def __init__(self, header: _Optional[_Union[PutHeader, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class PutResponse(_message.Message):
    __slots__ = ("is_kept",)
    IS_KEPT_FIELD_NUMBER: _ClassVar[int]
    is_kept: bool
    def __init__(self, is_kept: _Optional[bool] = ...) -> None: ...

class GetInputRequest(_message.Message):
    __slots__ = ("worker", "fencing_token", "artifact")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    worker: str
    fencing_token: int
    artifact: _types_pb2.Artifact
    def __init__(self, worker: _Optional[str] = ..., fencing_token: _Optional[int] = ..., artifact: _Optional[_Union[_types_pb2.Artifact, _Mapping]] = ...) -> None: ...

class GetResultRequest(_message.Message):
    __slots__ = ("constellation", "star")
    CONSTELLATION_FIELD_NUMBER: _ClassVar[int]
    STAR_FIELD_NUMBER: _ClassVar[int]
    constellation: str
    star: str
    def __init__(self, constellation: _Optional[str] = ..., star: _Optional[str] = ...) -> None: ...

class ArtifactPart(_message.Message):
    __slots__ = ("header", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: _types_pb2.Artifact
    data: bytes
    def __init__(self, header: _Optional[_Union[_types_pb2.Artifact, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...
