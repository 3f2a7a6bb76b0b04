"""The protocol of Asterism and its client library: `AsyncClient`, and `Client` for programs without an event loop."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asterism.protocol.blocking import Client
    from asterism.protocol.client import AsyncClient

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> object:
    """Import the library when it is asked for: gRPC takes 150 ms, and every room's import passes through here."""
    match name:
        case "AsyncClient":
            from asterism.protocol.client import AsyncClient

            return AsyncClient
        case "Client":
            from asterism.protocol.blocking import Client

            return Client
        case _:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
