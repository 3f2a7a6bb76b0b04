"""The program in processes of its own, for a user with an empty home."""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Shell:
    """A user with an empty home, and no settings from outside."""

    home: Path

    async def start(
        self, *arguments: str, has_input: bool = False, redirect: str = "", **variables: str
    ) -> asyncio.subprocess.Process:
        """`redirect` is what a shell makes of the streams, such as `>&-`."""
        # COLUMNS: a test runner may have a terminal of its own in mind.
        outside = {name for name in os.environ if name.startswith("ASTERISM_")} | {"COLUMNS"}
        kept = {name: value for name, value in os.environ.items() if name not in outside}
        home = {"HOME": str(self.home), "XDG_DATA_HOME": str(self.home / "data"), "XDG_CONFIG_HOME": str(self.home)}
        program = (sys.executable, "-m", "asterism.protocol.cli", *arguments)
        return await asyncio.create_subprocess_exec(
            *(("sh", "-c", f'exec "$@" {redirect}', "sh", *program) if redirect else program),
            cwd=self.home,
            env={**kept, **home, **variables},
            stdin=asyncio.subprocess.PIPE if has_input else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str, typed: str = "", redirect: str = "", **variables: str) -> Ended:
        """`typed` is what the user types, to its end."""
        return await ended(await self.start(*arguments, has_input=bool(typed), redirect=redirect, **variables), typed)


async def ended(process: asyncio.subprocess.Process, typed: str = "") -> Ended:
    out, err = await process.communicate(typed.encode() if typed else None)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())
