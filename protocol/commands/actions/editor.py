"""A person's editor, and the file that they type in: it stays until what they typed has been applied."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import typer

from asterism.orchestrator.core.errors import InvalidField, Misconfigured
from asterism.protocol.commands.actions.running import exit_at_sigterm
from asterism.protocol.limits import MAX_ANSWER_BYTES

_VARIABLES: Final = ("VISUAL", "EDITOR")
_USUAL: Final = ("sensible-editor", "nano", "vi")
"""Tried in this order where nobody has said which."""
_SAVE_S: Final = 3.0
"""How long an editor may take to end after SIGTERM, in seconds."""


def editor_of(environment: Mapping[str, str]) -> list[str]:
    """The command that opens a file: $VISUAL, $EDITOR, or one that is usual; raises Misconfigured."""
    for name in _VARIABLES:
        words = environment.get(name, "").strip()
        if words:
            try:
                return shlex.split(words)
            except ValueError as error:
                raise Misconfigured(f"${name}", f"{words!r} is no command: {error}") from None
    for usual in _USUAL:
        found = shutil.which(usual)
        if found is not None:
            return [found]
    raise Misconfigured("$EDITOR", "name an editor there, such as nano, or give a file with --file")


def check_editor() -> None:
    """Raises Misconfigured where one would be opened that nobody has asked for, and nobody could see."""
    is_named = any(os.environ.get(name, "").strip() for name in _VARIABLES)
    if not is_named and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Misconfigured("$EDITOR", "there is no terminal to edit in; --show prints the file, --file takes it")


class Draft:
    """A text in a file of its own that a person edits."""

    def __init__(self, name: str, text: str) -> None:
        self._written = text
        self._was_cut_off = False
        """Whether the editor had to end before the person ended it: it may have kept more beside the file."""
        handle, path = tempfile.mkstemp(prefix=f"asterism-{name}-", suffix=".yaml")
        self.path = Path(path)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)

    def edit(self) -> None:
        """Open the editor and wait for its end; raises Misconfigured where it does not start or ends badly.

        SIGTERM ends the editor too, and then the command.
        """
        command = [*editor_of(os.environ), str(self.path)]
        try:
            process = subprocess.Popen(command)
        except OSError as error:
            raise Misconfigured("$EDITOR", f"cannot start {command[0]}: {error.strerror}") from error
        # Ctrl-C is the editor's while it runs.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with exit_at_sigterm():
                code = process.wait()
        except typer.Exit:
            self._was_cut_off = True
            _end(process)
            raise
        finally:
            signal.signal(signal.SIGINT, before)
        if code != 0:
            raise Misconfigured("$EDITOR", f"{command[0]} ended with code {code}; nothing was applied")

    def read(self) -> str:
        """What stands in it now; raises InvalidField where that is no text."""
        return read_text(str(self.path))

    def write(self, text: str) -> None:
        """Put another text in its place, whole or not at all."""
        beside = self.path.with_suffix(".new")
        beside.write_text(text, encoding="utf-8")
        beside.chmod(0o600)
        beside.replace(self.path)

    @property
    def is_worth_keeping(self) -> bool:
        """Whether a person typed something: the file is there and differs from what was first written to it."""
        try:
            return self.path.read_bytes() != self._written.encode() or self._was_cut_off
        except OSError:
            return False

    def discard(self) -> None:
        """Throw the file away."""
        self.path.unlink(missing_ok=True)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Has the editor save what it can and give the terminal back; one that does not end is left alone."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_SAVE_S)


def read_text(name: str) -> str:
    """The text of a file, or of standard input for `-`, no longer than a whole graph may be; raises InvalidField."""
    try:
        if name == "-":
            data = sys.stdin.buffer.read(MAX_ANSWER_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(MAX_ANSWER_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InvalidField("--file", f"cannot read {name}: {why}") from error
    if len(data) > MAX_ANSWER_BYTES:
        raise InvalidField("--file", f"{name} is longer than {MAX_ANSWER_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidField("--file", f"{name} is no UTF-8 text: byte {error.start}") from None
