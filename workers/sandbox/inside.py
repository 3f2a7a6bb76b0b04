"""The process of one tool call: takes its order, confines and bounds itself, then runs a program or a function of ours.

Its standard input begins with the order; what follows is the input of the program that it runs. It reports on a pipe of
its own, whose number is its first argument, one JSON text: `{"exit", "signal"}` of a program, `{"value"}` or
`{"code", "message"}` of a function, `{"refused"}` when the machine does not allow what was promised. Its second
argument is the number of the worker's process. Standard library only, and no more of it than the call needs, so that it
starts soon (`python -I -S`).
"""

import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NoReturn, TypeAlias

from asterism.workers.sandbox.errors import CallFailed
from asterism.workers.sandbox.order import LENGTH, Limits, Order

Function: TypeAlias = Callable[[Order], Any]

_EXEC_FAILED: Final = 127


def main() -> None:
    """Serve one order, and end."""
    report_to, worker = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(report_to, False)
    try:
        order = Order.decode(_read_exactly(LENGTH.unpack(_read_exactly(LENGTH.size))[0]))
        # Modules are not to be looked for once the files are gone.
        function = _find_function(order.function)
        if order.is_confined:
            from asterism.workers.sandbox.jail import enter_jail
            from asterism.workers.sandbox.kernel import Kernel

            enter_jail(Kernel(), order, worker)
        elif order.user is not None:
            user, group = order.user
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
        set_limits(order)
        os.chdir(order.home)
    except (OSError, ImportError, ValueError) as error:
        _report(report_to, {"refused": f"{type(error).__name__}: {error}"})
        os._exit(1)
    report = _run_program(order) if order.argv else _run_function(function, order)
    _report(report_to, report)
    os._exit(0)


def set_limits(order: Order) -> None:
    """Bounds that nothing can raise again. Those on processes count all of a user where it is not confined."""
    limits: Limits = order.limits
    bounds = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
    ]
    if order.is_confined:
        # The first process of the world counts too, and the one that waits for it outside where it is the same user's.
        bounds.append((resource.RLIMIT_NPROC, limits.processes + (2 if order.user is None else 1)))
    for number, most in bounds:
        hard = resource.getrlimit(number)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with suppress(ValueError):  # macOS has no bound on address space
            resource.setrlimit(number, (bound, bound))


def _run_program(order: Order) -> dict[str, Any]:
    """Run it as a child and wait. When this process ends, the kernel ends all others of its world."""
    child = os.fork()
    if child == 0:
        _become(order)
    while True:
        # The first process of a world inherits the orphans.
        ended, status = os.waitpid(-1, 0)
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return {"exit": code} if code >= 0 else {"signal": signal.Signals(-code).name}


def _become(order: Order) -> NoReturn:
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # Python ignores some, and a child would inherit that
    try:
        os.execvpe(order.argv[0], order.argv, order.environment)
    except (OSError, ValueError) as error:
        os.write(2, f"{order.argv[0]}: {error}\n".encode())
    os._exit(_EXEC_FAILED)


def _find_function(name: str) -> Function:
    """Imports only what this call needs: http.client and ssl take as long as everything else together."""
    match name:
        case "fetch":
            from asterism.workers.sandbox.fetching import fetch

            return fetch
        case "read" | "write" | "list" | "search":
            from asterism.workers.sandbox import files

            known: dict[str, Function] = {
                "read": files.read_file,
                "write": files.write_file,
                "list": files.list_files,
                "search": files.search_files,
            }
            return known[name]
        case _:
            return lambda order: look_around()


def _run_function(function: Function, order: Order) -> dict[str, Any]:
    try:
        report = {"value": function(order)}
        if len(json.dumps(report)) > order.limits.result_bytes:
            raise CallFailed("too_large", f"the result is larger than {order.limits.result_bytes} bytes")
        return report
    except CallFailed as failed:
        return {"code": failed.code, "message": failed.message}
    except MemoryError:
        return {"code": "out_of_memory", "message": f"more than {order.limits.memory_bytes} bytes"}
    except Exception as error:  # the supervisor of this call: whatever is wrong is an answer
        return {"code": "tool_error", "message": f"{type(error).__name__}: {error}"[:1000]}


def look_around() -> dict[str, Any]:
    """What this process can see and do, for whoever wants to know whether confinement holds."""
    found: dict[str, Any] = {
        "root": sorted(os.listdir("/")),
        "user": os.getuid(),
        "network": [name for _, name in socket.if_nameindex()],
        "pid": os.getpid(),
        "has_proc": os.path.exists("/proc/self/status"),
    }
    if found["has_proc"]:
        with open("/proc/self/status", encoding="ascii") as file:
            status = dict(line.split(":", 1) for line in file)
        found["capabilities"] = int(status["CapEff"], 16)
        found["no_new_privileges"] = status.get("NoNewPrivs", "").strip() == "1"
        found["is_filtered"] = status.get("Seccomp", "").strip() == "2"
    try:
        os.close(os.open("/written", os.O_CREAT | os.O_WRONLY))
        found["writes_root"] = True
    except OSError:
        found["writes_root"] = False
    return found


def _read_exactly(size: int) -> bytes:
    """From the descriptor itself: what is behind the order belongs to somebody else."""
    body = b""
    while len(body) < size:
        part = os.read(0, size - len(body))
        if not part:
            raise ValueError("the order ends in the middle")
        body += part
    return body


def _report(report_to: int, report: dict[str, Any]) -> None:
    text = json.dumps(report).encode()
    while text:
        text = text[os.write(report_to, text) :]


if __name__ == "__main__":
    main()
