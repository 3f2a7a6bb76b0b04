"""A filter of system calls (seccomp) for what namespaces do not shut out. Standard library only.

It refuses sockets of families that have no namespaces, of which AF_VSOCK leads from a virtual machine to its host; keys
of the kernel, which belong to a user and not to a namespace; and bpf, performance events, io_uring and userfaultfd: few
programs need them, and much of what was wrong with the kernel was found in them. See seccomp(2) for the form.
"""

import ctypes
import errno
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Final

_LD_WORD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JEQ: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JGE: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RET: Final = 0x06  # BPF_RET | BPF_K
_ALLOW: Final = 0x7FFF_0000
_KILL: Final = 0x8000_0000
_ERRNO: Final = 0x0005_0000
_NUMBER_AT: Final = 0
_ARCHITECTURE_AT: Final = 4
_FIRST_ARGUMENT_AT: Final = 16
_X32: Final = 0x4000_0000
"""System calls of x86-64's second interface begin here; it has its own numbers for many of them."""
_FAMILIES: Final = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_NETLINK", 16))
_IO_URING: Final = (425, 426, 427)


@dataclass(frozen=True, slots=True)
class _Architecture:
    """Its number for the kernel's audit, that of `socket`, and those of what is refused."""

    audit: int
    socket: int
    refused: tuple[int, ...]
    first_foreign: int | None = None


_ARCHITECTURES: Final = {
    # add_key, request_key, keyctl, perf_event_open, bpf, userfaultfd
    "x86_64": _Architecture(0xC000_003E, 41, (248, 249, 250, 298, 321, 323, *_IO_URING), _X32),
    "aarch64": _Architecture(0xC000_00B7, 198, (217, 218, 219, 241, 280, 282, *_IO_URING)),
}


def filter_program(machine: str) -> bytes | None:
    """The filter as the kernel takes it, 8 bytes an instruction; None for a machine with numbers unknown here."""
    architecture = _ARCHITECTURES.get(machine)
    if architecture is None or sys.byteorder != "little":
        return None
    program = [
        (_LD_WORD, 0, 0, _ARCHITECTURE_AT),
        (_JEQ, 1, 0, architecture.audit),
        (_RET, 0, 0, _KILL),
        (_LD_WORD, 0, 0, _NUMBER_AT),
    ]
    if architecture.first_foreign is not None:
        program += [(_JGE, 0, 1, architecture.first_foreign), (_RET, 0, 0, _KILL)]
    for number in architecture.refused:
        program += [(_JEQ, 0, 1, number), (_RET, 0, 0, _ERRNO | errno.EPERM)]
    families = [one for family in _FAMILIES for one in ((_JEQ, 0, 1, int(family)), (_RET, 0, 0, _ALLOW))]
    checked = [(_LD_WORD, 0, 0, _FIRST_ARGUMENT_AT), *families, (_RET, 0, 0, _ERRNO | errno.EAFNOSUPPORT)]
    program += [(_JEQ, 0, len(checked), architecture.socket), *checked, (_RET, 0, 0, _ALLOW)]
    return b"".join(struct.pack("=HBBI", *one) for one in program)


class FilterProgram(ctypes.Structure):
    """What prctl(PR_SET_SECCOMP) is handed: how many instructions, and where they are."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))
