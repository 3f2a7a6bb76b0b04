"""The server, from before it serves until it has stopped: its address, who may call, how it says that it is."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from asterism.orchestrator.clock import Clock
from asterism.orchestrator.config import Settings
from asterism.orchestrator.core.errors import Misconfigured
from asterism.orchestrator.identity import ServerCertificate, check_exposure, load_certificate
from asterism.orchestrator.services.auth import AuthInterceptor, Gate
from asterism.orchestrator.store import OpenStore
from asterism.protocol.limits import SERVER_OPTIONS
from asterism.protocol.v1 import artifact_pb2, client_pb2, fleet_pb2, worker_pb2

MAX_CALLS: Final = 8192
"""Calls at one time, of everybody; more are refused by gRPC."""
SERVICES: Final = (
    client_pb2.DESCRIPTOR.services_by_name["ClientService"].full_name,
    worker_pb2.DESCRIPTOR.services_by_name["WorkerService"].full_name,
    fleet_pb2.DESCRIPTOR.services_by_name["FleetService"].full_name,
    artifact_pb2.DESCRIPTOR.services_by_name["ArtifactService"].full_name,
)


@dataclass(slots=True)
class Listener:
    """A server that has its address. Services may be added to it also after it has started."""

    server: grpc.aio.Server
    address: str
    gate: Gate
    healthy: HealthServicer
    has_started: bool = False

    @property
    def registrar(self) -> Any:
        """What generated code adds services to. `Any`: it is said to be the server itself."""
        return _Registrar(self.server) if self.has_started else self.server

    async def serve(self) -> None:
        """Take calls, and let the health service say that they are served."""
        await self._start()
        for service in (health.OVERALL_HEALTH, *SERVICES):
            await self.healthy.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def stand_by(self) -> None:
        """Take calls; the health service says that it lives, and serves nothing."""
        await self._start()
        await self.healthy.set(health.OVERALL_HEALTH, health_pb2.HealthCheckResponse.SERVING)
        for service in SERVICES:
            await self.healthy.set(service, health_pb2.HealthCheckResponse.NOT_SERVING)

    async def _start(self) -> None:
        if not self.has_started:
            self.has_started = True
            await self.server.start()


class _Registrar:
    """Adds services to a server that has started: gRPC's table of methods is closed by then, its handlers are not."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """As of the server."""
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """What it would have found faster."""


@asynccontextmanager
async def listening(settings: Settings, store: OpenStore, clock: Clock) -> AsyncIterator[Listener]:
    """A server that is bound and not started; it has stopped when the block ends.

    Raises Misconfigured for an address that cannot be had, or that is too exposed.
    """
    certificate = load_certificate(settings)
    has_credential = any(credential.is_valid(clock.now()) for credential in await store.list_credentials())
    check_exposure(settings, has_credential=has_credential)
    is_required = settings.credentials == "required" or not settings.is_loopback or has_credential
    gate = Gate(store, clock, is_required=is_required)
    server = grpc.aio.server(
        interceptors=[AuthInterceptor(gate)], options=SERVER_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS
    )
    healthy = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    try:
        yield Listener(server, _bind(server, settings, certificate), gate, healthy)
    finally:
        await server.stop(None)


def _bind(server: grpc.aio.Server, settings: Settings, certificate: ServerCertificate | None) -> str:
    """The address it listens on, with the port that was chosen where the settings said 0."""
    try:
        if certificate is None:
            port = server.add_insecure_port(settings.listen)
        else:
            credentials = grpc.ssl_server_credentials([(certificate.key, certificate.chain)])
            port = server.add_secure_port(settings.listen, credentials)
    except RuntimeError as error:
        reason = _fault(settings.listen) or str(error)
        raise Misconfigured("listen", f"cannot listen on {settings.listen}: {reason}") from error
    return f"{settings.listen.rpartition(':')[0]}:{port}"


def _fault(listen: str) -> str | None:
    """What the system says of an address on which gRPC could not listen: gRPC itself says that only to its log."""
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host.strip("[]"), int(port)), family=family).close()
    except OSError as error:
        return str(error) if error.errno is None or error.errno < 0 else os.strerror(error.errno)
    return None
