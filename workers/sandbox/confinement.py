"""What this machine can promise of a tool's process, found out by making one that looks around."""

import asyncio
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from asterism.orchestrator.core.errors import Misconfigured
from asterism.workers.sandbox.calls import run_order
from asterism.workers.sandbox.order import Limits, Order

_SYSTEM: Final = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime"),
    *("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ca-certificates", "/etc/pki", "/etc/mime.types"),
)
_NETWORK: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/etc/gai.conf")
_PROBE: Final = Limits(time_s=20.0)
_IDENTITY: Final = ((0, 0, 4294967295),)
"""The map of users of a process that is in no user namespace but the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What holds: `holds` in words for people, or why nothing does, and whom a tool's process runs as."""

    is_confined: bool
    holds: str
    user: tuple[int, int] | None = None


async def find_confinement(user: str = "nobody") -> Confinement:
    """Tries it. Raises Misconfigured for a user that is not there."""
    if sys.platform == "win32":
        return Confinement(is_confined=False, holds="Windows has no namespaces, and no limits of a process either")
    other = _find_user(user) if os.geteuid() == 0 else None
    if sys.platform != "linux":
        return Confinement(is_confined=False, holds=f"{sys.platform} has no namespaces", user=other)
    maps = [read_map(await asyncio.to_thread(_read_map, kind)) for kind in ("uid", "gid")]
    candidates = [other]
    if other is not None and not all(is_mapped(number, ids) for number, ids in zip(other, maps, strict=True)):
        # Root of a container only, and alone in it: nobody else to become, and the kernel bounds its processes too.
        other, candidates = None, [None]
    elif other is not None and maps[0] != _IDENTITY:
        candidates.append(None)
    why = ""
    for candidate in candidates:
        found = await _look(candidate)
        if isinstance(found, str):
            why = found
            continue
        lacking = "" if found["has_proc"] else ", without /proc"
        if not found.get("is_filtered", True):
            lacking += ", without a filter of system calls"
        name = "its own user" if candidate is None else f"user {user}"
        return Confinement(
            is_confined=True,
            holds=f"namespaces of users, files, processes and network, as {name}, no capabilities{lacking}",
            user=candidate,
        )
    return Confinement(is_confined=False, holds=why, user=other)


def system_paths(*, has_network: bool) -> tuple[str, ...]:
    """What programs need to run at all: shown read-only, at their own places."""
    paths = [*_SYSTEM, *dict.fromkeys(map(os.path.realpath, (sys.base_prefix, sys.prefix)))]
    if has_network:
        paths += _NETWORK
        paths += [target for path in _NETWORK if (target := os.path.realpath(path)) != path]
    return tuple(path for path in paths if path != "/" and os.path.lexists(path))


def temporary_folder() -> str:
    """Where temporary files go, by a path without links."""
    return str(Path(tempfile.gettempdir()).resolve())


def own(folder: str, user: tuple[int, int] | None) -> None:
    """Give a new folder to whom the process runs as."""
    if user is not None:
        os.chown(folder, *user)


async def _look(user: tuple[int, int] | None) -> dict[str, Any] | str:
    """What such a process sees; or in words what keeps it from being confined."""
    with tempfile.TemporaryDirectory(prefix="asterism-look-", dir=temporary_folder()) as folder:
        own(folder, user)
        order = Order(
            limits=_PROBE,
            workspace=folder,
            function="look",
            user=user,
            system=system_paths(has_network=False),
        )
        try:
            ended = await run_order(order)
        except TimeoutError:
            return f"a process that only looks around took more than {_PROBE.time_s:g} s"
        except OSError as error:
            return f"no process could be started: {error}"
    report = ended.report or {}
    if "value" not in report:
        last = ended.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return str(report.get("refused") or report.get("message") or "".join(last) or "it ended without a word")
    found: dict[str, Any] = report["value"]
    expected = os.geteuid() if user is None else user[0]
    if found["network"] not in ([], ["lo"]):
        return f"it still has the network: {', '.join(found['network'])}"
    if found["writes_root"] or found.get("capabilities") or found["user"] != expected or found["pid"] > 2:
        return f"it is less confined than it was told to be: {found}"
    return found


def read_map(text: str) -> tuple[tuple[int, ...], ...]:
    """Lines of first number inside, first outside, and how many; see user_namespaces(7)."""
    return tuple(tuple(map(int, line.split())) for line in text.splitlines())


def is_mapped(number: int, ids: tuple[tuple[int, ...], ...]) -> bool:
    """Whether a process of this namespace may be that user or group."""
    return any(first <= number < first + count for first, _, count in ids)


def _read_map(kind: str) -> str:
    return Path(f"/proc/self/{kind}_map").read_text(encoding="ascii")


def _find_user(name: str) -> tuple[int, int]:
    import pwd  # not on Windows

    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise Misconfigured("tools.user", f"there is no user {name} on this machine") from None
    if entry.pw_uid == 0:
        raise Misconfigured("tools.user", f"{name} is root, whose processes the kernel does not bound")
    return entry.pw_uid, entry.pw_gid
