"""What must hold after every event, by name, and the one way to say that it does not."""

from enum import StrEnum


class Invariant(StrEnum):
    """Each is checked where its comment says."""

    TERMINAL = "a terminal state never changes"  # ledger
    ACCEPTED = "one accepted result a star, with the fence of its current lease"  # ledger
    PARENTS = "no lease before the parents allow it"  # ledger
    FENCES = "fences rise, and none on a worker is unknown to the store"  # ledger, auditor
    DURABLE = "nothing is dispatched or shown before its commit"  # auditor
    EPOCH = "a stale epoch commits nothing, and who led in it knows that it is over"  # auditor
    KEPT = "what was acknowledged survives, and its repetition changes nothing"  # auditor
    FORGOTTEN = "only what ended before the retention is forgotten"  # auditor
    ONCE = "a worker runs an attempt once, and not beyond its lease"  # auditor
    ACYCLIC = "the graph is acyclic"  # ledger
    STALE = "a stale edit is refused whole"  # auditor
    CANCELLED = "cancelled work never succeeds, and its worker is told"  # ledger, auditor
    LIMITS = "slots, limits, drains and attempts are respected"  # ledger
    TIMEOUT = "each timeout fires once, neither early nor late"  # ledger, auditor
    RECOVERY = "what is in memory equals a fresh recovery from the store"  # auditor
    JOURNAL = "the journal has no gap and replays to the tables"  # ledger, auditor
    WATCH = "a watcher sees each record once and in order"  # users
    ENDS = "after the last fault everything ends within a bound"  # world
    LEAKS = "no leaked lease, stream or task"  # world
    ALIVE = "no process ends by a fault of its own"  # processes


class Violation(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: Invariant, what: str) -> None:
        super().__init__(f"{invariant.name}: {invariant.value}: {what}")
        self.invariant = invariant
        self.what = what
