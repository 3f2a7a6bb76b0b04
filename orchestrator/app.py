"""Puts the orchestrator together: recovery, the server, the loop, and an orderly end."""

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from asterism.orchestrator.artifacts import ArtifactFiles
from asterism.orchestrator.clock import Clock, SystemClock
from asterism.orchestrator.config import Settings
from asterism.orchestrator.core.errors import EPOCH, Misconfigured, Unreachable, WrongState
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.leading import Leadership, Standby
from asterism.orchestrator.listening import SERVICES, Listener, listening
from asterism.orchestrator.loop import Loop
from asterism.orchestrator.outbox import first_error
from asterism.orchestrator.retention import keep_retention
from asterism.orchestrator.services.artifacts import ArtifactService
from asterism.orchestrator.services.client import ClientService
from asterism.orchestrator.services.fleet import FleetService
from asterism.orchestrator.services.rates import Places, TokenBuckets
from asterism.orchestrator.services.worker import WorkerService
from asterism.orchestrator.standby import Refusing
from asterism.orchestrator.store import OpenStore
from asterism.orchestrator.telling import tell
from asterism.protocol.v1 import artifact_pb2_grpc, client_pb2_grpc, fleet_pb2_grpc, worker_pb2_grpc
from asterism.store.location import shown
from asterism.store.sql import SqlStore

log = structlog.get_logger(__name__)

EXIT_APPEND_FAILED: Final = 70
"""EX_SOFTWARE: what is in memory is not what is on disk, so the process must end and recover."""


@dataclass(frozen=True, slots=True)
class Running:
    """An orchestrator that serves."""

    address: str
    loop: Loop


async def serve(settings: Settings, stop: asyncio.Event, *, ready_file: Path | None = None) -> None:
    """Serve from the configured database until `stop` is set, then leave in order."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Before it stands by or serves: what cannot be is to be said now, and not at the takeover.
    if ready_file is not None and not ready_file.parent.is_dir():
        raise Misconfigured("ready_file", f"there is no folder {ready_file.parent}")
    files = ArtifactFiles(settings.artifact_location)
    files.check()
    store = SqlStore(settings.location, synchronous=settings.synchronous)
    await store.open()
    clock = SystemClock()

    async def lead(running: Running) -> None:
        log.info("ready", address=running.address, database=shown(settings.location))
        if ready_file is not None:
            _write_ready(ready_file, running.address)
        # What is here now stays: no search for garbage is to walk through it again.
        gc.freeze()
        await stop.wait()
        log.info("leaving", drain_s=settings.drain_s)

    try:
        async with listening(settings, store, clock) as listener:
            if not store.is_shared:
                async with _serving(settings, store, clock, listener, files, await store.acquire_epoch()) as running:
                    await lead(running)
                return
            standby = Standby(store, settings.advertised(listener.address), settings.leader_lease_s)
            refusing = Refusing(lambda: standby.leader)
            listener.server.add_generic_rpc_handlers((refusing,))
            await listener.stand_by()
            log.info("listening", address=listener.address, database=shown(settings.location))
            if ready_file is not None:
                _write_ready(ready_file, listener.address)
            leadership = await standby.wait(stop)
            if leadership is not None:
                async with (
                    _kept(leadership),
                    _serving(settings, store, clock, listener, files, leadership.epoch, leadership.check) as running,
                ):
                    refusing.end()
                    await lead(running)
    finally:
        await store.close()
        files.close()


@asynccontextmanager
async def _kept(leadership: Leadership) -> AsyncIterator[None]:
    """Renew the lease while the block runs, its recovery and its drain too, then give it back."""
    try:
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(_or_die(leadership.keep))
            try:
                yield
            finally:
                keeping.cancel()
    except ExceptionGroup as errors:
        # The lease's task raises nothing either.
        raise first_error(errors) from None
    finally:
        await leadership.resign()


@asynccontextmanager
async def running(settings: Settings, store: OpenStore, clock: Clock) -> AsyncIterator[Running]:
    """Become the only writer of an open store, and serve while the block runs; then drain. The store stays open."""
    with closing(ArtifactFiles(settings.artifact_location)) as files:
        async with (
            listening(settings, store, clock) as listener,
            _serving(settings, store, clock, listener, files, await store.acquire_epoch()) as orchestrator,
        ):
            yield orchestrator


@asynccontextmanager
async def _serving(
    settings: Settings,
    store: OpenStore,
    clock: Clock,
    listener: Listener,
    files: ArtifactFiles,
    epoch: int,
    check_lead: Callable[[], None] | None = None,
) -> AsyncIterator[Running]:
    """Recover, serve while the block runs, then drain; `files` is to be closed by the caller."""
    snapshot = await store.load()
    machine = Machine(snapshot, at=clock.now(), lease_s=settings.lease_s, tell=tell, reuses=settings.reuse_results)
    log.info("recovered", live=len(snapshot.constellations), workers=len(snapshot.workers), epoch=epoch)
    loop = Loop(
        machine=machine,
        store=store,
        clock=clock,
        epoch=epoch,
        max_mailbox=settings.max_mailbox,
        check_lead=check_lead,
    )
    server, gate = listener.registrar, listener.gate
    client_service = ClientService(
        loop,
        store,
        clock,
        gate,
        changes=TokenBuckets(clock, per_s=settings.changes_per_s, burst=settings.change_burst),
        watches=Places("watches", settings.max_watches),
        retention_s=settings.retention_s,
    )
    worker_service = WorkerService(
        loop,
        clock,
        gate,
        lease_s=settings.lease_s,
        max_workers=settings.max_workers,
        max_artifact_bytes=settings.max_artifact_bytes,
        is_kept=files.is_kept,
    )
    artifact_service = ArtifactService(loop, store, files, gate, max_artifact_bytes=settings.max_artifact_bytes)
    artifact_pb2_grpc.add_ArtifactServiceServicer_to_server(artifact_service, server)
    client_pb2_grpc.add_ClientServiceServicer_to_server(client_service, server)
    worker_pb2_grpc.add_WorkerServiceServicer_to_server(worker_service, server)
    fleet_pb2_grpc.add_FleetServiceServicer_to_server(FleetService(loop, clock), server)
    reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_or_die(loop.run))
            await listener.serve()
            forgetting: asyncio.Task[None] | None = None
            if settings.retention_s is not None:
                forgetting = group.create_task(_or_die(partial(keep_retention, loop, clock, settings.retention_s)))
            try:
                yield Running(listener.address, loop)
            finally:
                if forgetting is not None:
                    forgetting.cancel()
                await listener.healthy.enter_graceful_shutdown()
                _send_away(loop, listener.address)
                await listener.server.stop(settings.drain_s)
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


async def _or_die(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """The supervisor of the loop and of the lease. When one fails, nothing more may be seen of what memory holds: the
    process ends here, without clean-up, and the next start recovers what is on disk."""
    try:
        await work()
    except Exception as error:
        if isinstance(error, WrongState) and error.kind == EPOCH:
            log.critical("the lead is lost; the process ends, and a new start stands by", reason=error.reason)
        else:
            message = "the loop has failed; the process ends, and a new start recovers what is on disk"
            log.critical(message, exc_info=True)
        sys.stderr.flush()
        os._exit(EXIT_APPEND_FAILED)


def _write_ready(path: Path, address: str) -> None:
    """Whoever finds the file finds all of it."""
    part = path.with_name(path.name + ".part")
    part.write_text(address + "\n", encoding="utf-8")
    part.replace(path)
