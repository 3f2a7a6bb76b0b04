"""The standard streams: usable from the start, and a fault of them known at the end."""

import codecs
import errno
import json
import os
import sys
from io import TextIOWrapper
from typing import Final

_HANDLER: Final = "asterism.as_json"


def prepare_streams() -> None:
    """Makes stdin, stdout and stderr what a command may rely on.

    For one that was closed (`>&-`) Python has None, and the next file or socket would get its number, so that words for
    people went there. It gets one that cannot be used, which fails as a closed one does when it is used. Only stderr
    swallows what is written: nobody can be told. What an encoding cannot show is escaped.
    """
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_WRONLY), encoding="utf-8")
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    codecs.register_error(_HANDLER, _escaped)
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors=_HANDLER)


def words_of(error: OSError) -> str:
    """An error of the system in one line, with what it is about."""
    reason = error.strerror or str(error)
    if error.filename is not None:
        return f"cannot use {os.fsdecode(error.filename)}: {reason}"
    return f"cannot write to standard output: {reason}" if _fails_again(error) else reason


def give_up_stdout() -> None:
    """What is left for it is dropped: at the end of the process Python would try again, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def is_broken_pipe(error: OSError) -> bool:
    """Whether the reader of what is written has left: that is no error, such as in `asterism list | head -1`."""
    return error.errno == errno.EPIPE


def _fails_again(error: OSError) -> bool:
    """Whether stdout is at fault: what could not be written waits in its buffer."""
    try:
        sys.stdout.flush()
    except OSError as again:
        return again.errno == error.errno
    return False


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """What an encoding lacks, as JSON escapes it: that reads back in JSON output, and can be read elsewhere."""
    assert isinstance(error, UnicodeEncodeError), "nothing is read with this handler"
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end
