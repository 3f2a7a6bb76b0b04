"""What can go wrong, as a caller sees it.

AsterismError
├── InvalidField      mend the named field and send it again
│   └── InvalidEdit   mend the edit of the named star; nothing of the batch was applied
├── StaleRevision     read the graph again, then edit against its revision
├── NotFound          the name is wrong, or not yours to see
├── AlreadyExists     take another name, or read what is there
├── DataLoss          what was stored is damaged; nothing but another copy helps
├── WrongState        the thing cannot do that now; its state says why
├── Overloaded        wait `retry_after_s`, then send again
├── Unauthenticated   present a valid credential
├── Forbidden         the credential's role may not do this
├── Unreachable       nobody answered at the address
├── NotLeading        ask the leader, or wait until there is one
└── Misconfigured     mend the named setting, then start again
"""

from collections.abc import Sequence
from typing import Final

EPOCH: Final = "orchestrator epoch"
"""Kind of the thing in a WrongState that says: another orchestrator leads."""


class AsterismError(Exception):
    """The root: catch it at a boundary to answer or to exit, never to go on."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidField(AsterismError):
    """A value from outside does not fit: `field` is its path, `reason` says what would."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class InvalidEdit(InvalidField):
    """One edit of a batch is refused, and with it the whole batch."""

    def __init__(self, star: str, reason: str) -> None:
        super().__init__(f"star {star}", reason)
        self.star = star


class StaleRevision(AsterismError):
    """The graph has changed since `base` in a place that the batch touches."""

    def __init__(self, base: int, current: int, stars: Sequence[str]) -> None:
        super().__init__(f"revision {base} is stale: it is {current} now and touched {', '.join(stars)}")
        self.base = base
        self.current = current
        self.stars = tuple(stars)


class NotFound(AsterismError):
    """There is no such thing, or none that the caller may see."""

    def __init__(self, kind: str, identifier: str, reason: str = "") -> None:
        super().__init__(f"no {kind} named {identifier!r}" + (f": {reason}" if reason else ""))
        self.kind = kind
        self.identifier = identifier


class AlreadyExists(AsterismError):
    """The name is taken by something else."""

    def __init__(self, kind: str, identifier: str, reason: str = "") -> None:
        super().__init__(f"{kind} {identifier!r} exists already" + (f": {reason}" if reason else ""))
        self.kind = kind
        self.identifier = identifier


class DataLoss(AsterismError):
    """What was stored cannot be had any more as it was: `reason` says what is there instead."""

    def __init__(self, kind: str, identifier: str, reason: str) -> None:
        super().__init__(f"{kind} {identifier!r} is damaged: {reason}")
        self.kind = kind
        self.identifier = identifier
        self.reason = reason


class WrongState(AsterismError):
    """The thing is in a state in which that cannot be done."""

    def __init__(self, kind: str, identifier: str, state: str, reason: str) -> None:
        super().__init__(f"{kind} {identifier!r} is {state}: {reason}")
        self.kind = kind
        self.identifier = identifier
        self.state = state
        self.reason = reason


class Overloaded(AsterismError):
    """Too much at once; `retry_after_s` is when to try again, in seconds."""

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(f"{reason}; try again in {retry_after_s:g} s")
        self.reason = reason
        self.retry_after_s = retry_after_s


class Unauthenticated(AsterismError):
    """No credential, or one that is unknown, ended or taken back."""


class Forbidden(AsterismError):
    """The credential is valid, and its role may not do this."""

    def __init__(self, role: str, action: str) -> None:
        super().__init__(f"a {role} may not {action}")
        self.role = role
        self.action = action


class Unreachable(AsterismError):
    """Nobody answered at `address`."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"cannot reach {address}: {reason}")
        self.address = address
        self.reason = reason


class NotLeading(AsterismError):
    """This orchestrator stands by: `leader` is the HOST:PORT of the one that leads; it may have ended by now."""

    def __init__(self, leader: str) -> None:
        super().__init__(f"this orchestrator stands by; {leader} leads" if leader else "no orchestrator leads yet")
        self.leader = leader


class Misconfigured(AsterismError):
    """A setting is wrong: `setting` is its name, `reason` what to write instead."""

    def __init__(self, setting: str, reason: str) -> None:
        super().__init__(f"setting {setting}: {reason}")
        self.setting = setting
        self.reason = reason
