"""Leading and standing by, where several orchestrators share one store: PostgreSQL decides, by a lease."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from asterism.orchestrator.core.errors import EPOCH, Unreachable, WrongState
from asterism.orchestrator.core.lead import Lead, Led

log = structlog.get_logger(__name__)

RENEWALS: Final = 3
"""In the time of one lease: two of them may be lost."""
LOOK_S: Final = 1.0
"""How often one that stands by looks whether the leader has resigned; when its lease ends is known."""
PARTING_S: Final = 5.0
"""For the store's last answer to one that leaves: a store that hangs must not hold it up."""


class LeaseStore(Protocol):
    """What this needs of a store."""

    async def take_lead(self, leader: str, lease_s: float) -> Lead | Led:
        """Begin a new epoch if nobody leads."""
        ...

    async def renew_lead(self, epoch: int, lease_s: float) -> bool:
        """Let the lease begin anew; False where another leads."""
        ...

    async def resign_lead(self, epoch: int) -> None:
        """End the lease."""


class Leadership:
    """The right to lead, for as long as it is renewed. By our clock it ends before it does by the store's."""

    def __init__(
        self,
        store: LeaseStore,
        epoch: int,
        lease_s: float,
        until: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.epoch = epoch
        self._store = store
        self._lease_s = lease_s
        self._until = until
        self._monotonic = monotonic
        """What `until` is told by: a clock that goes on while this process is stopped."""

    def check(self) -> None:
        """Raise WrongState once the lease has ended: whatever this process believes may be old by now."""
        if self._monotonic() >= self._until:
            raise _lost(self.epoch, "its lease has ended")

    async def keep(self) -> None:
        """Renew the lease until it is lost: then WrongState. An unreachable store is asked again until the end."""
        while True:
            await asyncio.sleep(self._lease_s / RENEWALS)
            self.check()
            try:
                async with asyncio.timeout(self._until - self._monotonic()):
                    asked_at = self._monotonic()
                    if not await self._store.renew_lead(self.epoch, self._lease_s):
                        raise _lost(self.epoch, "another orchestrator leads")
                self._until = asked_at + self._lease_s
            except TimeoutError:
                raise _lost(self.epoch, "the store did not answer before the lease had ended") from None
            except Unreachable as error:
                log.warning("the lease was not renewed", reason=error.message)

    async def resign(self) -> None:
        """Let another lead at once; one that cannot be told so within PARTING_S finds the lease's end."""
        try:
            async with asyncio.timeout(PARTING_S):
                await self._store.resign_lead(self.epoch)
        except (TimeoutError, Unreachable) as error:
            reason = error.message if isinstance(error, Unreachable) else f"no answer within {PARTING_S:g} s"
            log.warning("the lease was not given back", reason=reason)


class Standby:
    """One that waits for its turn, and knows whom to ask meanwhile."""

    def __init__(
        self, store: LeaseStore, address: str, lease_s: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._address = address
        self._lease_s = lease_s
        self._monotonic = monotonic
        self.leader = ""
        """HOST:PORT of the one that leads, as far as is known."""

    async def wait(self, stop: asyncio.Event) -> Leadership | None:
        """Return once we lead, or with None once `stop` is set."""
        while not stop.is_set():
            asked_at = self._monotonic()
            pause_s = LOOK_S
            try:
                answer = await self._ask(stop)
                if answer is None:
                    return None
                if isinstance(answer, Lead):
                    self.leader = ""
                    until = asked_at + self._lease_s
                    leadership = Leadership(self._store, answer.epoch, self._lease_s, until, self._monotonic)
                    if not stop.is_set():
                        return leadership
                    await leadership.resign()
                    return None
                if answer.leader != self.leader:
                    log.info("standing by", leader=answer.leader)
                self.leader = answer.leader
                pause_s = min(LOOK_S, answer.ends_in_s)
            except Unreachable as error:
                log.warning("the store is out of reach", reason=error.message)
            try:
                async with asyncio.timeout(max(pause_s, 0.01)):
                    await stop.wait()
            except TimeoutError:
                pass
        return None

    async def _ask(self, stop: asyncio.Event) -> Lead | Led | None:
        """What the store says; None where `stop` is set and it says nothing for PARTING_S."""
        asking = asyncio.ensure_future(self._store.take_lead(self._address, self._lease_s))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((asking, stopping), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((asking,), timeout=PARTING_S)
            return asking.result() if asking.done() else None
        finally:
            asking.cancel()
            stopping.cancel()


def _lost(epoch: int, reason: str) -> WrongState:
    return WrongState(EPOCH, str(epoch), "over", reason)
