"""Puts the orchestrator together: recovery, the server, the loop, and an orderly end."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from asterism.orchestrator.clock import Clock, SystemClock
from asterism.orchestrator.config import Settings
from asterism.orchestrator.core.credential import StoredCredential
from asterism.orchestrator.core.errors import Misconfigured, Unreachable
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.identity import ServerCertificate, check_exposure, load_certificate
from asterism.orchestrator.loop import Loop
from asterism.orchestrator.outbox import first_error
from asterism.orchestrator.services.auth import AuthInterceptor, Gate
from asterism.orchestrator.services.client import ClientService
from asterism.orchestrator.services.fleet import FleetService
from asterism.orchestrator.services.rates import Places, TokenBuckets
from asterism.orchestrator.services.worker import WorkerService
from asterism.orchestrator.store import Store
from asterism.protocol.limits import SERVER_OPTIONS
from asterism.protocol.v1 import client_pb2, client_pb2_grpc, fleet_pb2, fleet_pb2_grpc, worker_pb2, worker_pb2_grpc
from asterism.store.location import shown
from asterism.store.sql import SqlStore

log = structlog.get_logger(__name__)

EXIT_APPEND_FAILED: Final = 70
"""EX_SOFTWARE: what is in memory is not what is on disk, so the process must end and recover."""
MAX_CALLS: Final = 8192
"""Calls at one time, of everybody; more are refused by gRPC."""
SERVICES: Final = (
    client_pb2.DESCRIPTOR.services_by_name["ClientService"].full_name,
    worker_pb2.DESCRIPTOR.services_by_name["WorkerService"].full_name,
    fleet_pb2.DESCRIPTOR.services_by_name["FleetService"].full_name,
)


class OpenStore(Store, Protocol):
    """What the orchestrator as a whole needs of a store, beyond what the loop does."""

    async def acquire_epoch(self) -> int:
        """Become the writer: earlier ones are refused from now on."""

    async def find_credential(self, secret_sha256: bytes) -> StoredCredential | None:
        """The credential with that secret."""

    async def list_credentials(self) -> Sequence[StoredCredential]:
        """All of them, revoked and ended ones too."""


@dataclass(frozen=True, slots=True)
class Running:
    """An orchestrator that serves."""

    address: str
    loop: Loop


async def serve(settings: Settings, stop: asyncio.Event, *, ready_file: Path | None = None) -> None:
    """Serve from the configured database until `stop` is set, then leave in order."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = SqlStore(settings.location, synchronous=settings.synchronous)
    await store.open()
    try:
        async with running(settings, store, SystemClock()) as orchestrator:
            log.info("ready", address=orchestrator.address, database=shown(settings.location))
            if ready_file is not None:
                _write_ready(ready_file, orchestrator.address)
            await stop.wait()
            log.info("leaving", drain_s=settings.drain_s)
    finally:
        await store.close()


@asynccontextmanager
async def running(settings: Settings, store: OpenStore, clock: Clock) -> AsyncIterator[Running]:
    """Recover from an open store and serve while the block runs; then drain. The store stays open."""
    certificate = load_certificate(settings)
    has_credential = any(credential.is_valid(clock.now()) for credential in await store.list_credentials())
    check_exposure(settings, has_credential=has_credential)
    is_required = settings.credentials == "required" or not settings.is_loopback or has_credential
    epoch = await store.acquire_epoch()
    snapshot = await store.load()
    machine = Machine(snapshot, at=clock.now(), lease_s=settings.lease_s)
    log.info("recovered", live=len(snapshot.constellations), workers=len(snapshot.workers), epoch=epoch)
    loop = Loop(machine=machine, store=store, clock=clock, epoch=epoch, max_mailbox=settings.max_mailbox)
    gate = Gate(store, clock, is_required=is_required)
    server = grpc.aio.server(
        interceptors=[AuthInterceptor(gate)], options=SERVER_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS
    )
    client_service = ClientService(
        loop,
        store,
        clock,
        gate,
        changes=TokenBuckets(clock, per_s=settings.changes_per_s, burst=settings.change_burst),
        watches=Places("watches", settings.max_watches),
    )
    worker_service = WorkerService(loop, clock, gate, lease_s=settings.lease_s, max_workers=settings.max_workers)
    client_pb2_grpc.add_ClientServiceServicer_to_server(client_service, server)
    worker_pb2_grpc.add_WorkerServiceServicer_to_server(worker_service, server)
    fleet_pb2_grpc.add_FleetServiceServicer_to_server(FleetService(loop, clock), server)
    healthy = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    address = _bind(server, settings, certificate)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_run_or_die(loop))
            await server.start()
            for service in (health.OVERALL_HEALTH, *SERVICES):
                await healthy.set(service, health_pb2.HealthCheckResponse.SERVING)
            try:
                yield Running(address, loop)
            finally:
                await healthy.enter_graceful_shutdown()
                _send_away(loop, address)
                await server.stop(settings.drain_s)
                loop.stop()
    except ExceptionGroup as errors:
        # The loop's task raises nothing, so there is one error: that of the caller's block, which knows no groups.
        raise first_error(errors) from None


def _send_away(loop: Loop, address: str) -> None:
    """Tell those who hold streams that this end is leaving: workers come back by themselves, watchers resume."""
    for stream in loop.streams:
        stream.finish()
    for watcher in loop.watchers:
        watcher.cut(Unreachable(address, "the orchestrator is leaving; resume with after_seq"))


def _bind(server: grpc.aio.Server, settings: Settings, certificate: ServerCertificate | None) -> str:
    """The address it listens on, with the port that was chosen where the settings said 0."""
    try:
        if certificate is None:
            port = server.add_insecure_port(settings.listen)
        else:
            credentials = grpc.ssl_server_credentials([(certificate.key, certificate.chain)])
            port = server.add_secure_port(settings.listen, credentials)
    except RuntimeError as error:
        raise Misconfigured("listen", f"cannot listen on {settings.listen}: {error}") from error
    return f"{settings.listen.rpartition(':')[0]}:{port}"


async def _run_or_die(loop: Loop) -> None:
    """The supervisor of the loop. When it fails, nothing more may be seen of what memory holds: the process ends here,
    without clean-up, and the next start recovers what is on disk."""
    try:
        await loop.run()
    except Exception:
        log.critical("the loop has failed; the process ends, and a new start recovers what is on disk", exc_info=True)
        sys.stderr.flush()
        os._exit(EXIT_APPEND_FAILED)


def _write_ready(path: Path, address: str) -> None:
    """Whoever finds the file finds all of it."""
    part = path.with_name(path.name + ".part")
    part.write_text(address + "\n", encoding="utf-8")
    part.replace(path)
