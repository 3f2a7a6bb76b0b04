"""Who calls, and may they: one interceptor in front of every RPC, which also turns our errors into status codes."""

import asyncio
import hashlib
import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from asterism.orchestrator.clock import Clock
from asterism.orchestrator.core.credential import Role, StoredCredential
from asterism.orchestrator.core.errors import AsterismError, Forbidden, InvalidField, Unauthenticated
from asterism.protocol.credentials import parse_credential
from asterism.protocol.roles import may_call
from asterism.protocol.status import to_rpc_status

log = structlog.get_logger(__name__)

TRUST_S: Final = 5.0
"""How long a look-up of a credential holds, and so at most how long a revoked one still works for a new call."""
RECHECK_S: Final = 20.0
"""How long a stream goes on under a credential before somebody looks again."""
MAX_TRUSTED: Final = 10_000
LOCAL: Final = "local"


class Credentials(Protocol):
    """What this needs of the store."""

    async def find_credential(self, secret_sha256: bytes) -> StoredCredential | None:
        """The credential with that secret, revoked and ended ones too."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls."""

    name: str
    role: Role
    secret_sha256: bytes | None
    """None for whoever reaches the loopback address of an orchestrator without credentials: they may do all."""

    @property
    def is_local(self) -> bool:
        """Whether no credential was asked for."""
        return self.secret_sha256 is None

    @property
    def sees_all(self) -> bool:
        """Whether it sees the requests of others."""
        return self.role is Role.ADMIN


CALLER: ContextVar[Identity] = ContextVar("CALLER")
"""The identity of the RPC that runs in this context."""


class Gate:
    """Knows credentials by their hash."""

    def __init__(self, credentials: Credentials, clock: Clock, *, is_required: bool) -> None:
        self._credentials = credentials
        self._clock = clock
        self._is_required = is_required
        self._trusted: dict[bytes, tuple[StoredCredential, float]] = {}

    async def identify(self, metadata: Sequence[tuple[str, str | bytes]]) -> Identity:
        """Who presents this metadata. One who presents a credential is held to it even where none is asked for."""
        presented = [value for key, value in metadata if key == "authorization"]
        if not presented:
            if self._is_required:
                raise Unauthenticated("this orchestrator asks for a credential: pass --token or set ASTERISM_TOKEN")
            return Identity(LOCAL, Role.ADMIN, None)
        text = presented[0]
        scheme, _, secret = text.partition(" ") if isinstance(text, str) else ("", "", "")
        if len(presented) > 1 or scheme.lower() != "bearer":
            raise Unauthenticated("the authorization metadata is not one 'Bearer CREDENTIAL'")
        return await self.check(secret_sha256(secret.strip()))

    def renewal(self, identity: Identity) -> "Renewal":
        """For a long stream: see `Renewal`."""
        return Renewal(self, identity, self._clock)

    async def check(self, digest: bytes) -> Identity:
        """The identity that holds the secret; raises Unauthenticated where there is none, or its time is over."""
        at = self._clock.now()
        found, until = self._trusted.get(digest, (None, 0.0))
        if found is None or at >= until:
            found = await self._credentials.find_credential(digest)
            if found is not None:
                if len(self._trusted) >= MAX_TRUSTED:
                    self._trusted.clear()
                self._trusted[digest] = (found, at + TRUST_S)
        if found is None:
            raise Unauthenticated("the credential is unknown here")
        if not found.is_valid(at):
            raise Unauthenticated(f"the credential {found.name!r} has ended or was revoked: ask for a new one")
        return Identity(found.name, found.role, digest)


class Renewal:
    """Looks again, now and then, whether the credential of a long stream still holds."""

    def __init__(self, gate: Gate, identity: Identity, clock: Clock) -> None:
        self._gate = gate
        self._identity = identity
        self._clock = clock
        self._checked_at = clock.now()

    async def check(self) -> None:
        """Raise Unauthenticated when it does not; to be called at every message, and cheap at most of them."""
        digest, at = self._identity.secret_sha256, self._clock.now()
        if digest is not None and at - self._checked_at > RECHECK_S:
            await self._gate.check(digest)
            self._checked_at = at


class AuthInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Lets a call through when its identity's role may make it."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Identify the caller, look the right up, and wrap the handler so that our errors become statuses."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None  # an unknown method: gRPC answers UNIMPLEMENTED
        method = handler_call_details.method
        try:
            if not may_call(method, None):
                identity = await self._gate.identify(handler_call_details.invocation_metadata)
                if not identity.is_local and not may_call(method, identity.role):
                    raise Forbidden(identity.role.value, f"call {method}")
                CALLER.set(identity)
        except AsterismError as error:
            return _replaced(_forgiving(handler), _refuse(error))
        inner = _behaviour(handler)
        if not inspect.iscoroutinefunction(inner):
            return handler
        return _replaced(_forgiving(handler), _guarded(method, inner))


def secret_sha256(text: str) -> bytes:
    """What is kept of a credential; the fingerprint that a join token carries is no part of the secret."""
    try:
        return parse_credential(text).secret_sha256
    except AsterismError:
        # Unknown by its form already; a digest that nobody has gives the same answer as any other unknown one.
        return hashlib.sha256(b"malformed").digest()


class _Unreadable:
    """Stands for the one request of a call whose bytes are no message of the method's type."""


def _forgiving(handler: Any) -> Any:
    """The same handler, called even when its one request cannot be read.

    gRPC itself would log a traceback and answer UNKNOWN. A stream of requests raises where it is read: see `_guarded`.
    """
    if handler.request_streaming:
        return handler
    read = handler.request_deserializer

    def read_or_not(data: bytes) -> Any:
        try:
            return read(data)
        except DecodeError:
            return _Unreadable()

    return handler._replace(request_deserializer=read_or_not)


def _behaviour(handler: Any) -> Any:
    return handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream


def _replaced(handler: Any, behaviour: Any) -> Any:
    """The same kind of handler with another behaviour. `Any`: gRPC's stubs do not type behaviours of streams."""
    serializers = {
        "request_deserializer": handler.request_deserializer,
        "response_serializer": handler.response_serializer,
    }
    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(behaviour, **serializers)
    if handler.unary_stream:
        return grpc.unary_stream_rpc_method_handler(behaviour, **serializers)
    if handler.stream_unary:
        return grpc.stream_unary_rpc_method_handler(behaviour, **serializers)
    return grpc.stream_stream_rpc_method_handler(behaviour, **serializers)


def _refuse(error: AsterismError) -> Any:
    async def refuse(request: Any, context: Any) -> None:
        await _abort(context, error)

    return refuse


def _guarded(method: str, inner: Any) -> Any:
    async def guarded(request: Any, context: Any) -> Any:
        try:
            if isinstance(request, _Unreadable):
                raise InvalidField("request", "its bytes are no message of this method")
            return await inner(request, context)
        except AsterismError as error:
            await _abort(context, error)
        except DecodeError:
            await _abort(context, InvalidField("frame", "its bytes are no message of this method"))
        except grpc.aio.AbortError:
            raise
        except Exception:
            # The supervisor of all calls: a mistake of ours costs one call, is logged, and tells the caller nothing.
            log.exception("call failed", method=method)
            await context.abort(grpc.StatusCode.INTERNAL, "the orchestrator made a mistake; its log says more")

    return guarded


async def _abort(context: Any, error: AsterismError) -> NoReturn:
    status = to_rpc_status(error)
    try:
        await context.abort(status.code, status.details, status.trailing_metadata)
    except grpc.aio.InternalError:
        # The caller hangs in the middle of a message, and can be told nothing: the call is dropped.
        raise asyncio.CancelledError from None
    raise AssertionError("abort raises")
