"""The table of rights covers everything that is served."""

from typing import Any

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from asterism.orchestrator.core.credential import Role
from asterism.protocol.roles import OPEN, ROLES, may_call
from asterism.protocol.v1 import artifact_pb2, client_pb2, fleet_pb2, worker_pb2

SERVED = [artifact_pb2.DESCRIPTOR, client_pb2.DESCRIPTOR, fleet_pb2.DESCRIPTOR, worker_pb2.DESCRIPTOR]


def methods(file: Any) -> set[str]:
    """Full names as gRPC knows them."""
    return {
        f"/{service.full_name}/{method.name}"
        for service in file.services_by_name.values()
        for method in service.methods
    }


def test_every_method_that_is_served_is_in_the_table() -> None:
    ours = set[str]().union(*(methods(file) for file in SERVED))
    reflection = {f"/grpc.reflection.{v}.ServerReflection/ServerReflectionInfo" for v in ("v1", "v1alpha")}
    assert set(ROLES) == ours | reflection
    assert methods(reflection_pb2.DESCRIPTOR) <= reflection
    assert methods(health_pb2.DESCRIPTOR) == OPEN


@pytest.mark.parametrize("method", sorted(ROLES))
def test_nobody_without_a_role_may_call_what_is_not_open(method: str) -> None:
    assert not may_call(method, None)


@pytest.mark.parametrize("role", [None, *Role])
def test_method_that_is_not_listed_may_be_called_by_nobody(role: Role | None) -> None:
    assert not may_call("/asterism.protocol.v1.ClientService/Erase", role)
    assert may_call("/grpc.health.v1.Health/Check", role)


def test_worker_cannot_submit_client_cannot_report_and_only_admin_keeps_machines() -> None:
    submit, attach = "/asterism.protocol.v1.ClientService/Submit", "/asterism.protocol.v1.WorkerService/Attach"
    drain, list_ = "/asterism.protocol.v1.FleetService/DrainWorker", "/asterism.protocol.v1.FleetService/ListWorkers"
    assert [role for role in Role if may_call(submit, role)] == [Role.CLIENT, Role.ADMIN]
    assert [role for role in Role if may_call(attach, role)] == [Role.WORKER]
    assert [role for role in Role if may_call(drain, role)] == [Role.ADMIN]
    assert [role for role in Role if may_call(list_, role)] == [Role.CLIENT, Role.ADMIN]
