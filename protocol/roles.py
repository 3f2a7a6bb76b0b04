"""Who may call what: one table, by the full name of an RPC's method."""

from typing import Final

from asterism.orchestrator.core.credential import Role

_CLIENTS: Final = frozenset({Role.CLIENT, Role.ADMIN})
_ADMINS: Final = frozenset({Role.ADMIN})
_WORKERS: Final = frozenset({Role.WORKER})
_ANY_ROLE: Final = frozenset(Role)

_CLIENT_SERVICE: Final = "/asterism.protocol.v1.ClientService"
_FLEET_SERVICE: Final = "/asterism.protocol.v1.FleetService"
_ARTIFACT_SERVICE: Final = "/asterism.protocol.v1.ArtifactService"
_WORKER_SERVICE: Final = "/asterism.protocol.v1.WorkerService"

ROLES: Final = {
    f"{_CLIENT_SERVICE}/Submit": _CLIENTS,
    f"{_CLIENT_SERVICE}/GetConstellation": _CLIENTS,
    f"{_CLIENT_SERVICE}/ListConstellations": _CLIENTS,
    f"{_CLIENT_SERVICE}/Watch": _CLIENTS,
    f"{_CLIENT_SERVICE}/Wait": _CLIENTS,
    f"{_CLIENT_SERVICE}/Edit": _CLIENTS,
    f"{_CLIENT_SERVICE}/Cancel": _CLIENTS,
    f"{_CLIENT_SERVICE}/Retry": _CLIENTS,
    f"{_CLIENT_SERVICE}/Decide": _CLIENTS,
    f"{_CLIENT_SERVICE}/Pause": _CLIENTS,
    f"{_CLIENT_SERVICE}/Replan": _CLIENTS,
    # Whoever submits may see what there is to run on; only who keeps the machines may change them.
    f"{_FLEET_SERVICE}/ListWorkers": _CLIENTS,
    f"{_FLEET_SERVICE}/DrainWorker": _ADMINS,
    f"{_FLEET_SERVICE}/LabelWorker": _ADMINS,
    f"{_FLEET_SERVICE}/GetCounters": _ADMINS,
    f"{_WORKER_SERVICE}/Attach": _WORKERS,
    f"{_ARTIFACT_SERVICE}/Put": _WORKERS,
    f"{_ARTIFACT_SERVICE}/GetInput": _WORKERS,
    f"{_ARTIFACT_SERVICE}/GetResult": _CLIENTS,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _ANY_ROLE,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _ANY_ROLE,
}
"""Full method name -> roles that may call it."""

OPEN: Final = frozenset({"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"})
"""What anybody may call, without a credential: load balancers have none, and it tells nothing else."""


def may_call(method: str, role: Role | None) -> bool:
    """Whether a caller of that role, or of none, may call the method; nobody may call one that is not listed."""
    return method in OPEN or (role is not None and role in ROLES.get(method, frozenset()))
