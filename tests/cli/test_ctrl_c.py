"""Ctrl-C before a command has begun: the process ends without a word, and other programs keep their own way with it."""

import asyncio
import signal
import sys

import pytest

from tests.cli.shell import Shell

PLAIN = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
DISGUISED = """
import os, signal

class Field:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), signal.SIGINT)

class Owner:
    field = Field()
"""
"""Python makes a RuntimeError of what is raised there, as of many an exception in an import."""


@pytest.mark.parametrize("module", ["typer", "uuid"])
@pytest.mark.parametrize("code", [PLAIN, DISGUISED], ids=["plain", "disguised"])
async def test_ctrl_c_in_an_import_ends_without_a_word(shell: Shell, module: str, code: str) -> None:
    (shell.home / f"{module}.py").write_text(code)  # found in place of the real one
    result = await shell.run("submit", "hello")
    assert (result.code, result.out, result.err) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("handler", ["default_int_handler", "SIG_IGN"])
async def test_who_imports_or_calls_the_program_keeps_the_handler(shell: Shell, handler: str) -> None:
    code = (
        "import signal\n"
        f"signal.signal(signal.SIGINT, signal.{handler})\n"
        "from asterism.protocol.cli import main\n"
        f"print(signal.getsignal(signal.SIGINT) is signal.{handler})\n"
        "try:\n    main(['--version'])\n"
        f"finally:\n    print(signal.getsignal(signal.SIGINT) is signal.{handler})"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=shell.home, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert out.decode().splitlines()[::2] == ["True", "True"]
