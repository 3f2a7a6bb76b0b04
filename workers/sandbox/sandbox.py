"""The tools that touch this machine, each call in a process of its own; what the settings do not allow is not there."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, cast

from asterism.agents.asks import Effect, Json, ToolDescription, ToolError, ToolOutcome, ToolResult
from asterism.workers.sandbox.calls import Ended, run_order
from asterism.workers.sandbox.confinement import Confinement, system_paths
from asterism.workers.sandbox.declared import PROGRAM_TOOLS, describe
from asterism.workers.sandbox.order import SCRATCH, WORKSPACE, Order
from asterism.workers.sandbox.workspaces import Workspace, make_workspace, remove_workspace
from asterism.workers.tool_settings import ToolSettings

_FUNCTIONS: Final = {
    "file.read": "read",
    "file.write": "write",
    "file.list": "list",
    "file.search": "search",
    "http.get": "fetch",
}
_SHOWN: Final = 800
"""Characters of a failed program's last words that go into the error."""
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


class Sandbox:
    """A provider of tools, at most `at_once` calls of them at a time.

    Each attempt of a star has a working folder of its own, from its first call to its end, so that a program finds what
    its earlier calls have written. It is not the constellation's: its stars run on different machines, and a retry that
    finds half of what a lost attempt wrote, or a sibling that writes beside it, would give another result each time.
    What stars hand over are results.
    """

    def __init__(self, settings: ToolSettings, confinement: Confinement, *, at_once: int) -> None:
        self._settings = settings
        self._confinement = confinement
        self._limits = settings.limits.limits()
        self._free = asyncio.Semaphore(at_once)
        self._workspaces: dict[str, Workspace] = {}
        self._making = asyncio.Lock()
        is_harmless = confinement.is_confined and not settings.network and not settings.write
        effect = Effect.IDEMPOTENT if is_harmless else Effect.NONE
        self.descriptions: tuple[ToolDescription, ...] = tuple(
            describe(name, program_effect=effect, note=_note(name, settings)) for name in sorted(set(settings.enable))
        )

    async def call(self, name: str, arguments: Mapping[str, Json], attempt: str) -> ToolOutcome:
        """Run a tool in the attempt's working folder."""
        async with self._free:
            try:
                async with self._making:  # a program may begin with two calls at once
                    folder, size = await asyncio.to_thread(self._workspace, attempt)
                if size > self._limits.workspace_bytes:
                    most = self._limits.workspace_bytes
                    return ToolError("workspace_full", f"the working folder holds {size} bytes; at most {most}")
                order, given = await asyncio.to_thread(self._order, name, arguments, folder)
                ended = await run_order(order, given)
            except TimeoutError:
                return ToolError("tool_timed_out", f"not finished within {self._limits.time_s:g} s", may_repeat=True)
            except PermissionError as error:
                return ToolError("not_allowed", str(error)[:1000])
            except OSError as error:
                return ToolError("tool_unavailable", f"no process for it: {error}"[:1000], may_repeat=True)
        return self._outcome(ended, must_succeed=bool(arguments.get("check", True)))

    def folder_of(self, attempt: str) -> str | None:
        """The working folder of an attempt, outside; None before its first call."""
        workspace = self._workspaces.get(attempt)
        return None if workspace is None else workspace.folder

    async def forget(self, attempt: str) -> None:
        """Remove the working folder of an attempt."""
        workspace = self._workspaces.pop(attempt, None)
        if workspace is not None:
            await asyncio.shield(asyncio.to_thread(remove_workspace, workspace))

    async def close(self) -> None:
        """Remove every working folder."""
        for attempt in list(self._workspaces):
            await self.forget(attempt)

    def _workspace(self, attempt: str) -> tuple[str, int]:
        """The folder, made at the first call, and how many bytes are in it."""
        workspace = self._workspaces.get(attempt)
        if workspace is not None:
            return workspace.folder, _size_of(workspace.folder)
        made = make_workspace(self._settings.workspaces, self._confinement.user)
        self._workspaces[attempt] = made
        return made.folder, 0

    def _order(self, name: str, arguments: Mapping[str, Json], folder: str) -> tuple[Order, bytes]:
        settings, is_confined = self._settings, self._confinement.is_confined
        has_network = name == "http.get" or (settings.network and name in PROGRAM_TOOLS)
        home = WORKSPACE if is_confined else folder
        argv, given = self._program(name, cast("dict[str, Any]", arguments))
        return Order(
            limits=self._limits,
            workspace=folder,
            argv=argv,
            function=_FUNCTIONS.get(name, ""),
            arguments={} if argv else dict(arguments),
            is_confined=is_confined,
            has_network=has_network,
            user=self._confinement.user,
            system=system_paths(has_network=has_network),
            read=settings.read,
            write=settings.write,
            hosts=settings.hosts,
            environment={
                "PATH": _PATH,
                "HOME": home,
                "TMPDIR": SCRATCH if is_confined else home,
                "LANG": "C.UTF-8",
            },
        ), given

    def _program(self, name: str, arguments: Mapping[str, Any]) -> tuple[tuple[str, ...], bytes]:
        """What is run, and its input. Raises PermissionError for a command that is not allowed."""
        match name:
            case "shell":
                return ("/bin/sh", "-c", arguments["command"]), arguments.get("stdin", "").encode()
            case "command":
                argv = tuple(arguments["argv"])
                if argv[0] not in self._settings.commands:
                    there = ", ".join(self._settings.commands)
                    raise PermissionError(f"{argv[0][:100]!r} is not among the commands that are allowed: {there}")
                return argv, arguments.get("stdin", "").encode()
            case "python":
                code = arguments["code"]
                if "data" in arguments:
                    code = f"import json; data = json.loads({json.dumps(arguments['data'])!r})\n{code}"
                return (str(self._settings.python or sys.executable), "-I", "-"), code.encode()
            case _:
                return (), b""

    def _outcome(self, ended: Ended, *, must_succeed: bool) -> ToolOutcome:
        match ended.report:
            case {"value": value}:
                return ToolResult(value)
            case {"code": code, "message": message}:
                return ToolError(str(code), str(message))
            case {"exit": int(code)}:
                if code and must_succeed:
                    return ToolError("exit_code", _with_last_words(f"exit code {code}", ended))
                texts: dict[str, Json] = {
                    "stdout": ended.stdout.decode(errors="replace"),
                    "stderr": ended.stderr.decode(errors="replace"),
                }
                return ToolResult({"exit_code": code, **texts, "is_whole": ended.is_whole})
            case {"signal": str(name)}:
                return ToolError("killed", _with_last_words(f"ended by {name}{self._reason(name)}", ended))
            case {"refused": reason}:
                return ToolError("not_confined", f"this machine does not confine it: {reason}"[:1000])
            case _:
                return ToolError("tool_crashed", _with_last_words("its process ended without a word", ended))

    def _reason(self, name: str) -> str:
        limits = self._limits
        return {
            "SIGXCPU": f": more than {limits.cpu_s} s of CPU time",
            "SIGKILL": f": perhaps for more than {limits.cpu_s} s of CPU time",
            "SIGXFSZ": f": a file of more than {limits.file_bytes} bytes",
        }.get(name, "")


def _note(name: str, settings: ToolSettings) -> str:
    """What whoever plans must know of this machine's settings."""
    if name == "command":
        return f": {', '.join(settings.commands)}"
    if name == "http.get":
        return f": {', '.join(settings.hosts)}"
    folders = ", ".join((*settings.read, *settings.write))
    return f"; beside its working folder it sees {folders}" if folders else ""


def _with_last_words(what: str, ended: Ended) -> str:
    words = (ended.stderr or ended.stdout).decode(errors="replace").strip()[-_SHOWN:]
    return f"{what}: {words}" if words else what


def _size_of(folder: str) -> int:
    """Bytes in all files below, links not followed."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(path, name)).st_size
    return total
