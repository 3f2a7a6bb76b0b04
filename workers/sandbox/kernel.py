"""The system calls of Linux that confine a process, as Python 3.11 does not have them. Standard library only.

See namespaces(7), user_namespaces(7), pivot_root(2), mount_setattr(2) and capabilities(7).
"""

import ctypes
import os
import signal
from contextlib import suppress
from typing import Final

from asterism.workers.sandbox.filter import FilterProgram

CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWUTS: Final = 0x0400_0000
CLONE_NEWIPC: Final = 0x0800_0000
CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWPID: Final = 0x2000_0000
CLONE_NEWNET: Final = 0x4000_0000

MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18

MOUNT_ATTR_RDONLY: Final = 1
MOUNT_ATTR_NOSUID: Final = 2
MOUNT_ATTR_NODEV: Final = 4

_SYS_MOUNT_SETATTR: Final = 442  # the same on every architecture, as all calls since Linux 5.1
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_MNT_DETACH: Final = 2
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_CAPABILITY_VERSION_3: Final = 0x2008_0522
_MOST_CAPABILITIES: Final = 64
_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217, "armv7l": 218}


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


class Kernel:
    """The calls, each of which raises OSError that says which one failed."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def unshare(self, flags: int) -> None:
        """New namespaces; that of processes begins with the next fork."""
        self._check("unshare", self._libc.unshare(flags))

    def mount(self, source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
        result = self._libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            None if kind is None else kind.encode(),
            ctypes.c_ulong(flags),
            options.encode() or None,
        )
        self._check(f"mount of {target}", result)

    def protect(self, target: str, attributes: int, *, deep: bool) -> None:
        """Make a mount read-only and the like, with all below it where `deep`."""
        wanted = _MountAttributes(attr_set=attributes)
        result = self._libc.syscall(
            ctypes.c_long(_SYS_MOUNT_SETATTR),
            ctypes.c_int(_AT_FDCWD),
            ctypes.c_char_p(os.fsencode(target)),
            ctypes.c_uint(_AT_RECURSIVE if deep else 0),
            ctypes.byref(wanted),
            ctypes.c_size_t(ctypes.sizeof(wanted)),
        )
        self._check(f"mount_setattr of {target}", result)

    def unmount(self, target: str) -> None:
        """Take a mount away with all below it, now for everybody who looks, and wholly when nobody uses it."""
        self._check(f"umount of {target}", self._libc.umount2(os.fsencode(target), _MNT_DETACH))

    def pivot_root(self, new: str, old: str) -> None:
        number = _PIVOT_ROOT.get(os.uname().machine)
        if number is None:
            raise OSError(f"pivot_root: its number on {os.uname().machine} is not known here")
        result = self._libc.syscall(
            ctypes.c_long(number), ctypes.c_char_p(os.fsencode(new)), ctypes.c_char_p(os.fsencode(old))
        )
        self._check("pivot_root", result)

    def name_host(self, name: str) -> None:
        self._check("sethostname", self._libc.sethostname(name.encode(), ctypes.c_size_t(len(name))))

    def die_with_parent(self) -> None:
        """SIGKILL when the thread that forked this process ends. Ask whether it has ended already.

        A change of user, group or capabilities can undo it: it comes behind the last. See PR_SET_PDEATHSIG in prctl(2).
        """
        self._prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, int(signal.SIGKILL))

    def stay_dumpable(self) -> None:
        """Own its files in /proc again after its user has changed."""
        self._prctl("PR_SET_DUMPABLE", _PR_SET_DUMPABLE, 1)

    def bound_capabilities(self) -> None:
        """No program that it will run can gain any; needs a capability itself, which a change of user takes away."""
        for capability in range(_MOST_CAPABILITIES):
            with suppress(OSError):  # the kernel knows fewer
                self._prctl("PR_CAPBSET_DROP", _PR_CAPBSET_DROP, capability)

    def drop_capabilities(self) -> None:
        """None is left, and nothing that it runs can gain any, nor any other privilege."""
        self.forbid_new_privileges()
        header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
        data = (_CapabilityData * 2)()
        self._check("capset", self._libc.capset(ctypes.byref(header), ctypes.byref(data)))

    def filter_calls(self, program: bytes) -> None:
        """Let system calls through this filter only, for good; see `filter.py`. Needs `forbid_new_privileges`."""
        kept = ctypes.create_string_buffer(program, len(program))
        given = FilterProgram(len(program) // 8, ctypes.addressof(kept))
        result = self._libc.prctl(
            ctypes.c_int(_PR_SET_SECCOMP), ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.byref(given)
        )
        self._check("PR_SET_SECCOMP", result)

    def forbid_new_privileges(self) -> None:
        """Programs with the bit of another user, or with capabilities in their file, get neither."""
        self._prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)

    def _prctl(self, name: str, option: int, value: int) -> None:
        zero = ctypes.c_ulong(0)
        self._check(name, self._libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero))

    def _check(self, what: str, result: int) -> None:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{what}: {os.strerror(number)}")
