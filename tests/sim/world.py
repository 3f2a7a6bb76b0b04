"""Plays one schedule: everybody's machines, what people do, what goes wrong, then calm, then the end of all."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, Final

import structlog

from tests.sim.auditor import Auditor
from tests.sim.disk import BlankStore, Disk
from tests.sim.invariants import Invariant, Violation
from tests.sim.limits import tight
from tests.sim.network import Network
from tests.sim.orchestrators import SimOrchestrator
from tests.sim.schedule import SPAN_S, Item, Schedule
from tests.sim.users import Users
from tests.sim.virtual import Stuck, run_virtually
from tests.sim.workers import SimWorker, Temper

CALM_S: Final = 240.0
"""By when, after the last fault, everything has ended: a star may take 3 attempts of 12 s, and follow others."""
LEAVING_S: Final = 30.0
"""By when everybody has left who was told to."""
TICK_S: Final = 0.5


class World:
    """One schedule, once."""

    def __init__(
        self,
        schedule: Schedule,
        store: BlankStore,
        *,
        loads: float = 0.3,
        crash: tuple[str, int] | None = None,
        stop: tuple[str, int, float] | None = None,
    ) -> None:
        """`crash`: a machine, and the number of the point at which its first process dies.

        `stop`: an orchestrator's machine, such a point, and for how many seconds its first process is paused there.
        """
        store.wipe()
        seed = str(schedule.seed)
        self.schedule = schedule
        self.auditor = Auditor(store, random.Random(f"audit {seed}"), loads)
        self.network = Network(random.Random(f"network {seed}"), self.auditor)
        self.disk = Disk(store, random.Random(f"disk {seed}"), self.auditor)
        addresses = ["one:1", "two:1"] if schedule.is_shared else ["one:1"]
        self.orchestrators = [
            SimOrchestrator(
                address,
                random.Random(f"{address} {seed}"),
                self.network,
                self.disk,
                self.auditor,
                is_shared=schedule.is_shared,
            )
            for address in addresses
        ]
        self.temper = Temper(schedule.failing, schedule.hanging, schedule.plan_size)
        joined = ",".join(addresses)
        self.workers = [
            SimWorker(f"w{number}", seed, self.network, joined, self.temper, self.auditor)
            for number in range(schedule.workers)
        ]
        self.users = Users(self.network, joined, self.auditor)
        self.machines: dict[str, SimOrchestrator | SimWorker] = {
            **{one.address: one for one in self.orchestrators},
            **{worker.name: worker for worker in self.workers},
        }
        if crash is not None:
            self.machines[crash[0]].first_dies_at = crash[1]
        for one in self.orchestrators:
            if stop is not None and one.address == stop[0]:
                one.first_stops_at = stop[1:]

    async def play(self) -> None:
        """Raises the first Violation."""
        story = asyncio.create_task(self._tell())
        stopping = asyncio.create_task(self.auditor.stop.wait())
        await asyncio.wait([story, stopping], return_when=asyncio.FIRST_COMPLETED)
        if self.auditor.violation is None:
            await story
        else:
            story.cancel()
            await asyncio.wait([story])
            story.cancelled() or story.exception()  # it has been noted
            raise self.auditor.violation

    async def _tell(self) -> None:
        async with asyncio.TaskGroup() as group:
            machines = [group.create_task(self._keep(machine)) for machine in self.machines.values()]
            ticking = group.create_task(self._tick())
            async with asyncio.TaskGroup() as users:
                self.users.work_in(users)
                for item in self.schedule.items:
                    await asyncio.sleep(max(0.0, item.at - asyncio.get_running_loop().time()))
                    self._happen(item, users)
                await asyncio.sleep(max(0.0, SPAN_S - asyncio.get_running_loop().time()))
                self._heal()
                await self._until(self._is_over, CALM_S, self._describe)
            await self.auditor.check_journal()
            await self._end(machines)
            ticking.cancel()
        self._check_leaks()

    async def _keep(self, machine: SimOrchestrator | SimWorker) -> None:
        error = await machine.run()
        if error is not None and self.auditor.violation is None:
            cause = _first(error)
            self.auditor.note(
                cause if isinstance(cause, Violation) else Violation(Invariant.ALIVE, f"{machine}: {cause!r}")
            )
            raise error

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.auditor.look()

    def _happen(self, item: Item, users: asyncio.TaskGroup) -> None:
        rng = random.Random(f"{self.schedule.seed}/{item.number}")
        deed = getattr(self, f"_{item.kind}", None)
        if deed is not None:
            deed(rng)
            return
        worker = rng.choice(self.workers).name
        name = worker if item.kind in ("drain", "label") else f"u{item.number}"
        work: Coroutine[Any, Any, None] = getattr(self.users, item.kind)(rng, name)
        users.create_task(work)

    # What goes wrong.

    def _kill_orchestrator(self, rng: random.Random) -> None:
        one = rng.choice(self.orchestrators)
        one.down_s = rng.choice([0.1, 1.0, 9.0])
        one.process.die()

    def _kill_at_point(self, rng: random.Random) -> None:
        one = rng.choice(self.orchestrators)
        one.process.dies_at = len(one.process.passed) + rng.randrange(12)

    def _restart_orchestrator(self, rng: random.Random) -> None:
        rng.choice(self.orchestrators).restart()

    def _kill_worker(self, rng: random.Random) -> None:
        one = rng.choice(self.workers)
        one.down_s = rng.choice([0.05, 1.0, 9.0])
        one.process.die()

    def _kill_worker_at_point(self, rng: random.Random) -> None:
        one = rng.choice(self.workers)
        one.process.dies_at = len(one.process.passed) + rng.randrange(10)

    def _restart_worker(self, rng: random.Random) -> None:
        rng.choice(self.workers).drain()

    def _pause_orchestrator(self, rng: random.Random) -> None:
        rng.choice(self.orchestrators).process.pause(rng.choice([0.5, 5.0, 9.0]))

    def _pause_at_point(self, rng: random.Random) -> None:
        for one in self.orchestrators:
            one.process.stops_at = (len(one.process.passed) + rng.randrange(12), rng.choice([5.0, 9.0]))

    def _pause_worker(self, rng: random.Random) -> None:
        rng.choice(self.workers).process.pause(rng.choice([0.5, 5.0, 9.0]))

    def _tear(self, rng: random.Random) -> None:
        machine, address = self._pair(rng)
        for call in self.network.between(machine, address):
            call.tear()

    def _partition(self, rng: random.Random) -> None:
        self.network.partition(*self._pair(rng), rng.choice([1.0, 4.0, 9.0, 20.0]))

    def _slow_network(self, rng: random.Random) -> None:
        self.network.slow_until = asyncio.get_running_loop().time() + rng.uniform(1.0, 5.0)

    def _stray_frames(self, rng: random.Random) -> None:
        self.network.strays_until = asyncio.get_running_loop().time() + rng.uniform(1.0, 6.0)

    def _lose_answers(self, rng: random.Random) -> None:
        self.network.loses_until = asyncio.get_running_loop().time() + rng.uniform(1.0, 6.0)

    def _slow_disk(self, rng: random.Random) -> None:
        self.disk.slow_until = asyncio.get_running_loop().time() + rng.uniform(1.0, 6.0)

    def _full_disk(self, rng: random.Random) -> None:
        self.disk.full_until = asyncio.get_running_loop().time() + rng.uniform(0.5, 4.0)

    def _false_alarm(self, rng: random.Random) -> None:
        self.disk.false_alarms += 1

    def _jump_clock(self, rng: random.Random) -> None:
        """The wall clock is set; a process looks at it when it starts."""
        one = rng.choice(self.orchestrators)
        one.skew_s += rng.choice([-30.0, -2.0, 2.0, 30.0])
        if rng.random() < 0.7:
            one.process.die()

    def _cut_off_leader(self, rng: random.Random) -> None:
        if self.schedule.is_shared:
            until = asyncio.get_running_loop().time() + rng.uniform(1.0, 9.0)
            self.disk.cut_off[rng.choice(self.orchestrators).address] = until

    def _jump_database_clock(self, rng: random.Random) -> None:
        """The clock of the database is set: a lease that it has given ends earlier by it than by the leader's own."""
        if self.schedule.is_shared:
            jump_s = rng.choice([-3.0, 3.0, 30.0])
            self.disk.clock_ahead_s += jump_s
            if jump_s > 0:
                self.auditor.leases_cut_at = asyncio.get_running_loop().time()

    def _forget(self, rng: random.Random) -> None:
        """The retention comes round, a few times, wherever somebody leads; who is paused there may lead no more."""
        age_s, times = rng.choice([0.0, 0.5, 3.0]), rng.choice([1, 10])
        stops = self.schedule.is_shared and rng.random() < 0.3
        for one in self.orchestrators:
            if one.life is not None:
                one.process.stops_before_forgetting_s = 9.0 if stops else None
                one.life.forget(age_s, times)

    def _pair(self, rng: random.Random) -> tuple[str, str]:
        machine = rng.choice([*(worker.name for worker in self.workers), "user"])
        return machine, rng.choice(self.orchestrators).address

    # How it ends.

    def _heal(self) -> None:
        for machine in self.machines.values():
            machine.process.resume()
        for one in self.orchestrators:
            if one.first_stops_at is None:
                one.process.stops_at = None
            one.process.stops_before_forgetting_s = None
        self.network.heal()
        self.disk.heal()
        for machine in self.machines.values():
            machine.process.dies_at = machine.first_dies_at if len(machine.lives) == 1 else None
        self.temper.failing = self.temper.hanging = 0.0

    def _is_over(self) -> bool:
        ledger = self.auditor.ledger
        return (
            len(self.users.submitted) == sum(item.kind == "submit" for item in self.schedule.items)
            and all(graph.state.is_terminal for graph in ledger.graphs.values())
            and not any(run.holds_slot for run in ledger.runs.values())
        )

    def _describe(self) -> str:
        for one in self.orchestrators:
            loop = None if one.life is None or one.process.is_dead else one.life.loop
            if loop is not None:
                waits = {c: dict(loop.machine.waiting_for(c)) for c in loop.machine.constellations}
                held = [run for run in self.auditor.ledger.runs.values() if run.holds_slot]
                return f"{waits}, held {held}"
        return "no orchestrator leads"

    async def _until(self, is_so: Any, limit_s: float, describe: Any) -> None:
        ends_at = asyncio.get_running_loop().time() + limit_s
        while not is_so():
            if asyncio.get_running_loop().time() > ends_at:
                self.auditor.fail(Invariant.ENDS, f"not within {limit_s:g} s: {describe()}")
            await asyncio.sleep(TICK_S)

    async def _end(self, machines: list["asyncio.Task[None]"]) -> None:
        """Workers leave in order, then the orchestrators."""
        for worker in self.workers:
            worker.retire()
        of_workers = machines[len(self.orchestrators) :]
        await self._until(lambda: all(task.done() for task in of_workers), LEAVING_S, lambda: "workers do not leave")
        members = self.auditor.ledger.members
        await self._until(
            lambda: all(member.has_left for member in members.values()), LEAVING_S, lambda: f"still there: {members}"
        )
        for one in self.orchestrators:
            one.retire()
        await self._until(lambda: all(task.done() for task in machines), LEAVING_S, lambda: "it does not leave")
        await self.auditor.check_recovery(None)
        await asyncio.sleep(5.0)

    def _check_leaks(self) -> None:
        if self.network.calls:
            self.auditor.fail(Invariant.LEAKS, f"open calls: {[call.path for call in self.network.calls]}")
        mine = 3  # this one, the one that plays, and the one that waits for a violation
        tasks = [task for task in asyncio.all_tasks() if not task.done()]
        if len(tasks) > mine:
            self.auditor.fail(Invariant.LEAKS, f"tasks: {tasks}")


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def play(
    schedule: Schedule,
    store: BlankStore,
    *,
    loads: float = 0.3,
    crash: tuple[str, int] | None = None,
    stop: tuple[str, int, float] | None = None,
) -> World:
    """Play a schedule to its end; `World` says what the rest is. Raises Violation."""
    before, logging = random.getstate(), structlog.get_config()
    random.seed(schedule.seed)  # the client's own backoff draws from there
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    world: list[World] = []

    async def main() -> None:
        world.append(World(schedule, store, loads=loads, crash=crash, stop=stop))
        await world[0].play()

    try:
        with tight(schedule.is_tight):
            run_virtually(main())
    except Stuck:
        raise Violation(Invariant.ENDS, "everybody waits for somebody, or nobody ever waits") from None
    finally:
        structlog.configure(**logging)
        random.setstate(before)
    return world[0]


def open_store() -> BlankStore:
    """A store for any number of schedules, one after the other."""
    store = BlankStore()
    run_virtually(store.open())
    return store
