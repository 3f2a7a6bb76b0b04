"""One table between the leaves of AsterismError and gRPC's status codes; nothing else raises or reads a code.

A leaf travels with its fields (google.rpc.ErrorInfo), so that the caller gets back the very leaf that was raised.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from asterism.orchestrator.core.errors import (
    AlreadyExists,
    AsterismError,
    DataLoss,
    Forbidden,
    InvalidEdit,
    InvalidField,
    Misconfigured,
    NotFound,
    NotLeading,
    Overloaded,
    StaleRevision,
    Unauthenticated,
    Unreachable,
    WrongState,
)
from asterism.orchestrator.core.values import Json

DOMAIN: Final = "asterism.protocol.v1"
DETAILS_KEY: Final = "grpc-status-details-bin"
MAX_TEXT: Final = 1000
"""Longest text of one detail, in characters: all of them travel in trailers, whose size is bounded."""
MAX_LISTED: Final = 20
"""Most entries of a list in a detail."""

CODES: Final[Mapping[type[AsterismError], tuple[grpc.StatusCode, tuple[str, ...]]]] = {
    InvalidField: (grpc.StatusCode.INVALID_ARGUMENT, ("field", "reason")),
    InvalidEdit: (grpc.StatusCode.INVALID_ARGUMENT, ("star", "reason")),
    StaleRevision: (grpc.StatusCode.ABORTED, ("base", "current", "stars")),
    NotFound: (grpc.StatusCode.NOT_FOUND, ("kind", "identifier")),
    AlreadyExists: (grpc.StatusCode.ALREADY_EXISTS, ("kind", "identifier")),
    DataLoss: (grpc.StatusCode.DATA_LOSS, ("kind", "identifier", "reason")),
    WrongState: (grpc.StatusCode.FAILED_PRECONDITION, ("kind", "identifier", "state", "reason")),
    Overloaded: (grpc.StatusCode.RESOURCE_EXHAUSTED, ("reason", "retry_after_s")),
    Unauthenticated: (grpc.StatusCode.UNAUTHENTICATED, ("message",)),
    Forbidden: (grpc.StatusCode.PERMISSION_DENIED, ("role", "action")),
    Unreachable: (grpc.StatusCode.UNAVAILABLE, ("address", "reason")),
    NotLeading: (grpc.StatusCode.UNAVAILABLE, ("leader",)),
    Misconfigured: (grpc.StatusCode.FAILED_PRECONDITION, ("setting", "reason")),
}
"""Leaf -> code, and the fields that it is made of, in the order of its constructor."""

_LEAVES: Final = {leaf.__name__: leaf for leaf in CODES}


@dataclass(frozen=True, slots=True)
class RpcStatus:
    """How an RPC ends: what `context.abort` takes."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def to_rpc_status(error: AsterismError) -> RpcStatus:
    """The status of a leaf, with details that machines can read; long texts in it are clipped."""
    # An error of a room below a leaf travels as that leaf.
    leaf = next(kind for kind in type(error).__mro__ if kind in CODES)
    code, names = CODES[leaf]
    message = _clipped(error.message)
    fields = {name: _field_to_text(getattr(error, name)) for name in names}
    details = [_packed(ErrorInfo(reason=leaf.__name__, domain=DOMAIN, metadata=fields))]
    match error:
        case InvalidField():
            violation = BadRequest.FieldViolation(field=_clipped(error.field), description=_clipped(error.reason))
            details.append(_packed(BadRequest(field_violations=[violation])))
        case Overloaded():
            delay = Duration()
            delay.FromNanoseconds(int(error.retry_after_s * 1e9))
            details.append(_packed(RetryInfo(retry_delay=delay)))
        case _:
            pass
    status = Status(code=code.value[0], message=message, details=details)
    return RpcStatus(code, message, ((DETAILS_KEY, status.SerializeToString()),))


def from_rpc_error(error: grpc.aio.AioRpcError, address: str) -> AsterismError:
    """The leaf that the other side raised, or the nearest one where something between us and it answered instead."""
    message = error.details() or ""
    info = _error_info(error)
    if info is not None:
        leaf = _leaf(info)
        if leaf is not None:
            leaf.message = message or leaf.message
            leaf.args = (leaf.message,)
            return leaf
    return _foreign(error.code(), message, address)


def _foreign(code: grpc.StatusCode, message: str, address: str) -> AsterismError:
    """What gRPC itself, a proxy or another server says."""
    match code:
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.OUT_OF_RANGE:
            return InvalidField("request", message or "refused")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            if "larger than max" in message:
                return InvalidField("message", f"too large for one message: {message}")
            return Overloaded(message or "too many calls", 1.0)
        case grpc.StatusCode.UNAUTHENTICATED:
            return Unauthenticated(message or "the credential was refused")
        case grpc.StatusCode.PERMISSION_DENIED:
            return Forbidden("caller", f"do that: {message}")
        case grpc.StatusCode.NOT_FOUND:
            return NotFound("thing", message)
        case grpc.StatusCode.UNIMPLEMENTED:
            return Misconfigured("address", f"{address} answers, but is no orchestrator of this protocol: {message}")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unreachable(address, "no answer before the deadline")
        case grpc.StatusCode.UNAVAILABLE:
            return Unreachable(address, message or "unavailable")
        case _:
            return Unreachable(address, f"{code.name}: {message}" if message else code.name)


def _error_info(error: grpc.aio.AioRpcError) -> ErrorInfo | None:
    """What the other side says that it raised. Untrusted: whatever does not parse is not there."""
    # The stubs call it a tuple of something that cannot be unpacked; in grpc.aio it is a Metadata, or None.
    trailers: object = error.trailing_metadata()
    if not isinstance(trailers, grpc.aio.Metadata):
        return None
    for value in trailers.get_all(DETAILS_KEY):
        if not isinstance(value, bytes):
            continue
        try:
            status = Status.FromString(value)
            for detail in status.details:
                info = ErrorInfo()
                if detail.Unpack(info) and info.domain == DOMAIN:
                    return info
        except DecodeError:
            return None
    return None


def _leaf(info: ErrorInfo) -> AsterismError | None:
    """The leaf with its fields, or None where one is missing or of another type."""
    leaf = _LEAVES.get(info.reason)
    if leaf is None:
        return None
    try:
        values = [json.loads(info.metadata[name]) for name in CODES[leaf][1]]
    except (ValueError, RecursionError):
        return None
    match leaf.__name__, values:
        case "StaleRevision", [int(base), int(current), list(stars)]:
            return StaleRevision(base, current, [str(star) for star in stars])
        case "Overloaded", [str(reason), int(retry_after_s) | float(retry_after_s)]:
            return Overloaded(reason, retry_after_s)
        case "StaleRevision" | "Overloaded", _:
            return None
        case _ if all(isinstance(value, str) for value in values):
            return leaf(*values)
        case _:
            return None


def _field_to_text(value: Json) -> str:
    """JSON, so that numbers and lists come back as such."""
    match value:
        case str():
            return json.dumps(_clipped(value), ensure_ascii=False)
        case list() | tuple():
            return json.dumps([_clipped(str(entry)) for entry in value[:MAX_LISTED]], ensure_ascii=False)
        case _:
            return json.dumps(value)


def _packed(message: ErrorInfo | BadRequest | RetryInfo) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def _clipped(text: str) -> str:
    whole = text.encode("utf-8", "replace").decode()
    return whole if len(whole) <= MAX_TEXT else whole[: MAX_TEXT - 1] + "…"
