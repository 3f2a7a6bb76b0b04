"""What an orchestrator that stands by answers: every call is refused, with the address of the leader."""

from collections.abc import Callable
from typing import Any

import grpc

from asterism.orchestrator.core.errors import NotLeading
from asterism.protocol.status import to_rpc_status


class Refusing(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs only
    """Handles every method there may be, until it is told to end: then the handlers that come after it do."""

    def __init__(self, leader: Callable[[], str]) -> None:
        self._leader = leader
        self._has_ended = False

    def end(self) -> None:
        """Refuse nothing more."""
        self._has_ended = True

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """A handler that fits every kind of call, since it neither reads nor writes a message."""
        return None if self._has_ended else grpc.stream_stream_rpc_method_handler(self._refuse)

    async def _refuse(self, requests: Any, context: Any) -> None:
        status = to_rpc_status(NotLeading(self._leader()))
        await context.abort(status.code, status.details, status.trailing_metadata)
