"""Every RPC with every role and with none: the table is what the server does."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from asterism.orchestrator.app import Running
from asterism.orchestrator.core.credential import Role
from asterism.protocol.credentials import Credential
from asterism.protocol.roles import OPEN, ROLES, may_call
from asterism.protocol.v1 import artifact_pb2, client_pb2, fleet_pb2, worker_pb2
from asterism.store.memory import MemoryStore
from tests.orchestrator.serving import EOF, Peer, code_of, granted, served

DESCRIPTORS = [
    module.DESCRIPTOR for module in (artifact_pb2, client_pb2, fleet_pb2, worker_pb2, health_pb2, reflection_pb2)
]
METHODS = [
    (f"/{service.full_name}/{method.name}", method.client_streaming, method.server_streaming)
    for descriptor in DESCRIPTORS
    for service in descriptor.services_by_name.values()
    for method in service.methods
    if method.name != "List"  # of health: newer than the servicer
]
REFUSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def guarded(tmp_path: Path, store: MemoryStore) -> AsyncIterator[Running]:
    async with served(tmp_path, store, credentials="required") as orchestrator:
        yield orchestrator


async def _call(peer: Peer, method: str, streams_in: bool, streams_out: bool) -> grpc.StatusCode:
    """The status of a call with an empty request; OK once a stream has given something."""
    call: Any
    if streams_in:
        call = peer.channel.stream_stream(method)(metadata=peer.metadata)
        await call.done_writing()
    elif streams_out:
        call = peer.channel.unary_stream(method)(b"", metadata=peer.metadata)
    else:
        return await code_of(peer.channel.unary_unary(method)(b"", metadata=peer.metadata))
    try:
        is_answered = await call.read() is not EOF
    except grpc.aio.AioRpcError as error:
        return error.code()
    if is_answered:
        call.cancel()
        return grpc.StatusCode.OK
    code = await call.code()
    assert isinstance(code, grpc.StatusCode)
    return code


def test_table_names_every_method_there_is() -> None:
    ours = {name for name, _, _ in METHODS if name.startswith("/asterism.")}
    assert ours == {name for name in ROLES if name.startswith("/asterism.")}
    assert {name for name, _, _ in METHODS} <= set(ROLES) | OPEN


@pytest.mark.parametrize("role", [None, *Role])
async def test_every_rpc_with_every_role_and_with_none(guarded: Running, store: MemoryStore, role: Role | None) -> None:
    credential = None if role is None else await granted(store, role)
    async with Peer(guarded.address, credential) as peer:
        for method, streams_in, streams_out in METHODS:
            code = await _call(peer, method, streams_in, streams_out)
            if may_call(method, role):
                assert code not in REFUSED, method
            elif role is None:
                assert code is grpc.StatusCode.UNAUTHENTICATED, method
            else:
                assert code is grpc.StatusCode.PERMISSION_DENIED, method


async def _code(orchestrator: Running, metadata: Any) -> grpc.StatusCode:
    async with Peer(orchestrator.address) as peer:
        peer.metadata = metadata
        return await _call(peer, "/asterism.protocol.v1.ClientService/ListConstellations", False, False)


@pytest.mark.parametrize(
    "metadata",
    [
        (("authorization", "Bearer asterism_admin_" + "x" * 43),),
        (("authorization", "Bearer garbage"),),
        (("authorization", "Bearer "),),
        (("authorization", "Basic YTpi"),),
        (("authorization", "Bearer a"), ("authorization", "Bearer b")),
    ],
)
async def test_what_is_no_credential_of_ours_is_refused(guarded: Running, metadata: Any) -> None:
    assert await _code(guarded, metadata) is grpc.StatusCode.UNAUTHENTICATED


async def test_ended_and_revoked_credentials_are_refused(guarded: Running, store: MemoryStore) -> None:
    ended = await granted(store, Role.CLIENT, "ended", ends_at=1.0)
    revoked = await granted(store, Role.CLIENT, "revoked")
    await store.revoke_credential("revoked", 1.0)
    valid = await granted(store, Role.CLIENT, "valid")
    codes = [await _code(guarded, credential.metadata) for credential in (ended, revoked, valid)]
    assert codes == [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.OK]


async def test_loopback_without_credentials_is_open_but_a_wrong_credential_is_not_overlooked(tmp_path: Path) -> None:
    async with served(tmp_path) as orchestrator:
        assert await _code(orchestrator, ()) is grpc.StatusCode.OK
        wrong = Credential(Role.ADMIN, "x" * 43)
        assert await _code(orchestrator, wrong.metadata) is grpc.StatusCode.UNAUTHENTICATED


async def test_first_credential_closes_the_door_at_the_next_start(tmp_path: Path, store: MemoryStore) -> None:
    await granted(store, Role.ADMIN)
    async with served(tmp_path, store) as orchestrator:
        assert await _code(orchestrator, ()) is grpc.StatusCode.UNAUTHENTICATED
