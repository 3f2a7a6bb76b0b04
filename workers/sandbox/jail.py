"""Builds the world that a confined process sees: namespaces, a root of its own, nothing writable but what was allowed.

Works as a plain user where the kernel lets users make user namespaces, and as root with CAP_SYS_ADMIN or the same
permission; there the process becomes another user, since the kernel counts no processes of root. Raises OSError where
the machine does not allow it. Standard library only.
"""

import os
import select
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from asterism.workers.sandbox.filter import filter_program
from asterism.workers.sandbox.kernel import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    Kernel,
)
from asterism.workers.sandbox.order import SCRATCH, WORKSPACE, Order

_DEVICES: Final = ("null", "zero", "full", "random", "urandom")
_SAFE: Final = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
_FRAME_BYTES: Final = 1024 * 1024
"""Of the root itself: folders to mount on, and links."""
_ORPHANED: Final = 1


def enter_jail(kernel: Kernel, order: Order, worker: int) -> None:
    """Returns in a process that is the first one of its world, without privileges; the caller waits until it ends.

    `worker` is the process that the caller is a child of. When it ends, the kernel ends the caller, then this process
    and with it all of its world.
    """
    _make_namespaces(kernel, order)
    kernel.die_with_parent()
    if os.getppid() != worker:
        os._exit(_ORPHANED)
    outer, held = os.pipe()
    child = os.fork()
    if child:
        _wait_for(child, held)
    os.close(held)
    _build_root(kernel, order)
    kernel.name_host("worker")
    _forbid_more_namespaces()
    kernel.protect("/", MOUNT_ATTR_RDONLY | _SAFE, deep=False)
    kernel.bound_capabilities()
    if order.user is not None:
        user, group = order.user
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    kernel.drop_capabilities()
    kernel.die_with_parent()
    # Its parent has no number in this world; but what the parent alone holds open ends with it.
    if select.select([outer], [], [], 0)[0]:
        os._exit(_ORPHANED)
    os.close(outer)
    program = filter_program(os.uname().machine)
    if program is not None:
        with suppress(OSError):  # a kernel without; what holds is told by whoever looks around
            kernel.filter_calls(program)
    os.umask(0o022)


def _make_namespaces(kernel: Kernel, order: Order) -> None:
    flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS
    if not order.has_network:
        flags |= CLONE_NEWNET
    if order.user is None:
        user, group = os.geteuid(), os.getegid()
        kernel.unshare(flags)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
        return
    # Two users are mapped, root to build with and the one to become; only a process that stays outside may say so.
    is_apart, to_map = os.pipe()
    mapper = os.fork()
    if mapper == 0:
        _map_from_outside(is_apart, to_map, order.user)
    os.close(is_apart)
    try:
        kernel.unshare(flags)
        os.write(to_map, b"!")
    finally:
        os.close(to_map)
        _, status = os.waitpid(mapper, 0)
    if status:
        raise OSError("the users of the new namespace could not be mapped")


def _map_from_outside(is_apart: int, to_map: int, target: tuple[int, int]) -> NoReturn:
    code = 1
    try:
        os.close(to_map)
        if os.read(is_apart, 1):
            for kind, number in zip(("uid", "gid"), target, strict=True):
                _write(f"/proc/{os.getppid()}/{kind}_map", f"0 0 1\n{number} {number} 1")
            code = 0
    finally:
        os._exit(code)


def _build_root(kernel: Kernel, order: Order) -> None:
    """Two pivots: the first makes everything of before reachable under one name, the second leaves it behind."""
    kernel.mount("none", "/", None, MS_REC | MS_PRIVATE)
    kernel.mount("tmpfs", SCRATCH, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    os.mkdir(f"{SCRATCH}/old")
    os.mkdir(f"{SCRATCH}/new")
    kernel.pivot_root(SCRATCH, f"{SCRATCH}/old")
    os.chdir("/")
    kernel.mount("tmpfs", "/new", "tmpfs", MS_NOSUID | MS_NODEV, f"mode=755,size={_FRAME_BYTES}")
    for path in ("proc", "dev", "etc", SCRATCH[1:], WORKSPACE[1:]):
        os.mkdir(f"/new/{path}")
    kernel.mount(
        "tmpfs", f"/new{SCRATCH}", "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777,size={order.limits.scratch_bytes}"
    )
    # A container that hides parts of its own /proc may have no other one: then there is none.
    with suppress(PermissionError):
        kernel.mount("proc", "/new/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for device in _DEVICES:
        _bind(kernel, f"/dev/{device}", 0)
    for name, target in (("fd", "/proc/self/fd"), ("shm", SCRATCH)):
        os.symlink(target, f"/new/dev/{name}")
    shown = [(path, MOUNT_ATTR_RDONLY | _SAFE) for path in (*order.system, *order.read)]
    shown += [(path, _SAFE) for path in order.write]
    for path, attributes in sorted(shown, key=lambda one: (one[0].count("/"), one[1])):
        _show(kernel, path, attributes)
    kernel.mount(f"/old{order.workspace}", f"/new{WORKSPACE}", None, MS_BIND)
    kernel.protect(f"/new{WORKSPACE}", _SAFE, deep=False)
    os.chdir("/new")
    kernel.pivot_root(".", ".")
    kernel.unmount(".")
    os.chdir("/")


def _show(kernel: Kernel, path: str, attributes: int) -> None:
    """`path` at the same place inside; a link of the system, such as /bin to usr/bin, is made again as a link."""
    if os.path.islink(f"/old{path}"):
        inside = Path(f"/new{path}")
        inside.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            inside.symlink_to(os.readlink(f"/old{path}"))
    elif os.path.exists(f"/old{path}"):
        _bind(kernel, path, attributes)


def _bind(kernel: Kernel, path: str, attributes: int) -> None:
    source, target = f"/old{path}", f"/new{path}"
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    kernel.mount(source, target, None, MS_BIND | MS_REC)
    if attributes:
        kernel.protect(target, attributes, deep=True)


def _forbid_more_namespaces() -> None:
    """In a user namespace of its own a process has every capability again, and more of the kernel to attack."""
    with suppress(OSError):  # without /proc, or on a kernel that counts them otherwise
        _write("/proc/sys/user/max_user_namespaces", "0")


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _wait_for(child: int, held: int) -> NoReturn:
    """Hold nothing of the call open but `held`, and end as the child does."""
    os.closerange(0, held)
    os.closerange(held + 1, 256)
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
