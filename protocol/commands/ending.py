"""How a command ends: its exit code, and one clear line where something went wrong."""

import sys
from enum import IntEnum

from asterism.orchestrator.core.errors import (
    AlreadyExists,
    AsterismError,
    DataLoss,
    Forbidden,
    InvalidField,
    Misconfigured,
    NotFound,
    NotLeading,
    Overloaded,
    StaleRevision,
    Unauthenticated,
    Unreachable,
    WrongState,
)
from asterism.orchestrator.core.request import ConstellationState
from asterism.protocol.view.wording import one_line


class ExitCode(IntEnum):
    """What a script may rely on."""

    SUCCEEDED = 0
    FAILED = 1
    """The request failed or was cancelled, or what was asked cannot be done now."""
    USAGE = 2
    """The command line, the input or a setting must be mended."""
    UNREACHABLE = 3
    INTERRUPTED = 130
    """As a shell says it: 128 and the number of SIGINT."""

    @classmethod
    def of(cls, error: AsterismError) -> "ExitCode":
        """The code of an error: 2 where the caller must change something before it can work."""
        match error:
            case Unreachable() | NotLeading():
                return cls.UNREACHABLE
            case InvalidField() | NotFound() | AlreadyExists() | Unauthenticated() | Forbidden() | Misconfigured():
                return cls.USAGE
            case _:
                return cls.FAILED

    @classmethod
    def of_state(cls, state: ConstellationState) -> "ExitCode":
        """The code of a request that ended so (or has not)."""
        return cls.FAILED if state in (ConstellationState.FAILED, ConstellationState.CANCELLED) else cls.SUCCEEDED


def advice(error: AsterismError) -> str:
    """What to do next, in one line."""
    match error:
        case NotLeading():
            return "wait until one leads, or name all of them: --address HOST:PORT,HOST:PORT"
        case Unreachable():
            return (
                "start one with `asterism up`, or name another with --address or ASTERISM_ADDRESS; "
                "`asterism doctor` looks for the cause"
            )
        case Unauthenticated():
            return "give a credential with --token-file or ASTERISM_TOKEN; `asterism token create` makes one"
        case Forbidden():
            return "use a credential of another role: `asterism token create --role ...` on the orchestrator's machine"
        case NotFound():
            return "`asterism list` and `asterism workers` show the names that there are"
        case StaleRevision():
            return "read the graph again and send the edit against its revision"
        case Overloaded(retry_after_s=wait):
            return f"try again in {wait:g} s"
        case AlreadyExists():
            return "take another name"
        case WrongState():
            return "`asterism get` shows its state"
        case DataLoss():
            return "restore it from a copy, or run the star again: what is stored is not what was put there"
        case InvalidField():
            return "mend it and try again"
        case Misconfigured():
            return "mend the setting; `asterism config` shows where each value comes from"
        case _:
            return ""


def print_error(message: str, hint: str = "") -> None:
    """One line on stderr, and one that says what to do next. Words of another machine lose control characters."""
    sys.stderr.write(f"error: {one_line(message, 2000)}\n")
    if hint:
        sys.stderr.write(f"hint: {hint}\n")
