"""How a command ends: its exit code, and one clear line where something went wrong."""

import sys
from enum import IntEnum
from typing import Final

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
from asterism.orchestrator.core.ids import ConstellationId
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
            case Unreachable() | NotLeading() | OutOfSight():
                return cls.UNREACHABLE
            case InvalidField() | NotFound() | AlreadyExists() | Unauthenticated() | Forbidden() | Misconfigured():
                return cls.USAGE
            case _:
                return cls.FAILED

    @classmethod
    def of_state(cls, state: ConstellationState) -> "ExitCode":
        """The code of a request that ended so (or has not)."""
        return cls.FAILED if state in (ConstellationState.FAILED, ConstellationState.CANCELLED) else cls.SUCCEEDED


_OF_SERVER: Final = frozenset({"serve", "config", "token", "artifacts"})
"""Commands whose settings `asterism config` lists."""
_THERE: Final = {
    "constellation": "`asterism list` shows the requests that there are",
    "request": "`asterism list` shows the requests that there are",
    "star": "`asterism get ID` shows the stars that there are",
    "worker": "`asterism workers` shows the workers that there are",
    "credential": "`asterism token list` shows the credentials that there are",
}
"""Kind of what was not found -> where to look for its names."""
_CUT_AT_ONCE: Final = ("failed to connect", "Socket closed")
"""What gRPC says where a server with TLS is spoken to without (grpcio 1.85)."""
_LOOPBACK: Final = ("127.", "localhost:", "[::1]:")
"""How an address begins that is spoken to without TLS, unless a credential or a file of certificates asks for it."""


class NoRequestYet(NotFound):
    """The newest request is asked for, and there is none."""

    def __init__(self) -> None:
        super().__init__("constellation", "")
        self.message = "there is no request yet"


class OutOfSight(AsterismError):
    """Whoever orchestrates a request cannot be reached any more: the request is there, and may go on."""

    def __init__(self, constellation: ConstellationId, trouble: Unreachable | NotLeading) -> None:
        super().__init__(trouble.message)
        self.constellation = constellation


class NotCancelled(OutOfSight):
    """It was to be cancelled, and nobody has said that it is."""

    def __init__(self, constellation: ConstellationId, trouble: Unreachable | NotLeading) -> None:
        super().__init__(constellation, trouble)
        self.message = f"{constellation} was NOT cancelled: {trouble.message}"


def advice(error: AsterismError, command: str = "") -> str:
    """What to do next, in one line, for who has run `command`; nothing where the error itself says all of it."""
    match error:
        case OutOfSight(constellation=of):
            return (
                f"when it can be reached again, `asterism watch {of}` goes on and `asterism cancel {of}` ends it; "
                "`asterism doctor` looks for the cause"
            )
        case NotLeading():
            return f"wait until one leads, or name all of them: {_address_option(command)} HOST:PORT,HOST:PORT"
        case Unreachable():
            return _when_unreachable(error, command)
        case Unauthenticated():
            return "give a credential with --token-file or ASTERISM_TOKEN; `asterism token create` makes one"
        case Forbidden():
            return "use a credential of another role: `asterism token create --role ...` on the orchestrator's machine"
        case NoRequestYet():
            return "`asterism run` or `asterism submit` makes one"
        case NotFound():
            return _THERE.get(error.kind, "")
        case StaleRevision() if command == "edit":
            return "look again with `asterism edit ID --show`, and change what it prints"
        case StaleRevision():
            return "read the graph again and send the edit against its revision"
        case Overloaded(retry_after_s=wait):
            return f"try again in {wait:g} s"
        case AlreadyExists():
            return "take another name"
        case WrongState(kind="constellation" | "request" | "star"):
            return "`asterism get` shows its state"
        case DataLoss():
            return "restore it from a copy, or run the star again: what is stored is not what was put there"
        case InvalidField():
            return "mend it and try again"
        case Misconfigured(setting=setting):
            # A store that cannot be used may be in use, damaged, or on a full disk: the error says which.
            is_listed = command in _OF_SERVER and setting != "store"
            return "mend the setting; `asterism config` shows where each value comes from" if is_listed else ""
        case _:
            return ""


def _when_unreachable(error: Unreachable, command: str) -> str:
    if command in _OF_SERVER:
        return ""  # it is the database, of which the error says what is wrong
    if all(words in error.reason for words in _CUT_AT_ONCE) and error.address.startswith(_LOOPBACK):
        return (
            "whoever listens there may speak TLS, which on this machine is used for a credential with a fingerprint "
            "(`asterism token create --tls self-made`) or with ASTERISM_CA_FILE"
        )
    start = f"start one with `asterism up`, or name another with {_address_option(command)} or ASTERISM_ADDRESS"
    return start if command == "doctor" else f"{start}; `asterism doctor` looks for the cause"


def _address_option(command: str) -> str:
    return "--join" if command == "work" else "--address"


def print_error(message: str, hint: str = "") -> None:
    """One line on stderr, and one that says what to do next. Words of another machine lose control characters."""
    sys.stderr.write(f"error: {one_line(message, 2000)}\n")
    if hint:
        sys.stderr.write(f"hint: {hint}\n")
