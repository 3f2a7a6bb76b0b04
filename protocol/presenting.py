"""Presenting a credential with every call of a channel."""

from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from asterism.protocol.credentials import Credential


class CallCredential(grpc.AuthMetadataPlugin):
    """For channels with TLS: gRPC itself refuses to send these over plaintext."""

    def __init__(self, credential: Credential) -> None:
        self._metadata = credential.metadata

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        """Hand the metadata over at once."""
        callback(self._metadata, None)


class _Presenting:
    """For plaintext on loopback, where gRPC's own call credentials do not work."""

    def __init__(self, credential: Credential) -> None:
        self._metadata = credential.metadata

    async def intercept(self, continuation: Callable[..., Any], details: grpc.aio.ClientCallDetails, call: Any) -> Any:
        """Go on, with the credential among the call's metadata. `Any`: gRPC types each kind of call apart."""
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *self._metadata)
        presented = grpc.aio.ClientCallDetails(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
        )
        return await continuation(presented, call)


# gRPC files an interceptor under the first kind it is an instance of, so each kind needs an object of its own.
class _UnaryUnary(_Presenting, grpc.aio.UnaryUnaryClientInterceptor):
    intercept_unary_unary = _Presenting.intercept


class _UnaryStream(_Presenting, grpc.aio.UnaryStreamClientInterceptor):
    intercept_unary_stream = _Presenting.intercept


class _StreamStream(_Presenting, grpc.aio.StreamStreamClientInterceptor):
    intercept_stream_stream = _Presenting.intercept


def presenting_interceptors(credential: Credential) -> list[grpc.aio.ClientInterceptor]:
    """One for each kind of call that the protocol has."""
    return [_UnaryUnary(credential), _UnaryStream(credential), _StreamStream(credential)]
