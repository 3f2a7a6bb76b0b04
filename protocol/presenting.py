"""Presenting a credential with every call of a channel."""

from collections.abc import Callable
from typing import Any

import grpc.aio

from asterism.protocol.credentials import Credential


class _Presenting:
    """Adds the credential to a call's metadata.

    Not gRPC's own call credentials: they work over TLS only, and a channel that had them can deadlock when it goes. The
    thread that closes it holds the GIL while it waits for gRPC's own threads, one of which waits for the GIL to let go
    of the plugin (native stacks of grpcio 1.81.1; within 25 s of a loop of open, call and close).
    """

    def __init__(self, credential: Credential) -> None:
        self._metadata = credential.metadata

    def presented(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        """The call, with the credential among its metadata."""
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *self._metadata)
        return grpc.aio.ClientCallDetails(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
        )


# gRPC files an interceptor under the first kind it is an instance of, so each kind needs an object of its own.
# `Any` throughout: messages of every type pass through.
class _UnaryUnary(_Presenting, grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(self.presented(client_call_details), request)


class _UnaryStream(_Presenting, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    async def intercept_unary_stream(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(self.presented(client_call_details), request)


class _StreamStream(_Presenting, grpc.aio.StreamStreamClientInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    async def intercept_stream_stream(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request_iterator: Any
    ) -> Any:
        return await continuation(self.presented(client_call_details), request_iterator)


def presenting_interceptors(credential: Credential) -> list[Any]:
    """One for each kind of call that the protocol has. `Any`: gRPC's stubs know no type of all interceptors."""
    return [_UnaryUnary(credential), _UnaryStream(credential), _StreamStream(credential)]
