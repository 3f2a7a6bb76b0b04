"""Mistakes put into the real code, each of which the simulation must notice: `python -m tests.sim.mutants`.

A mutant is a module with one piece of text replaced; it is given to the import system, so that no file is touched.
A piece that is not there exactly once is an error: then the code has changed and the mutant must follow it.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType
from typing import Final

HUNT_S: Final = 1800
"""Many times what 2,000 schedules take: a mutant that never ends is noticed too."""
ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutant:
    """One mistake."""

    name: str
    path: str
    """From the root of the repository."""
    old: str
    new: str

    @property
    def module(self) -> str:
        return "asterism." + self.path.removesuffix(".py").replace("/", ".")

    def source(self) -> str:
        """The module with the mistake. Raises ValueError where it no longer fits."""
        text = (ROOT / self.path).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"mutant {self.name!r}: {self.path} has its text {text.count(self.old)} times, not once")
        return text.replace(self.old, self.new)


LOOP, CORE, STORE = "orchestrator/loop.py", "orchestrator/core", "store"

MUTANTS: Final[Sequence[Mutant]] = (
    Mutant(
        "effects leave before the commit",
        LOOP,
        "        if batch.records:\n            await self._append(batch.records)\n",
        "        for stream, effects in batch.deliveries.items():\n            stream.put_all(effects)\n"
        "        batch.deliveries.clear()\n"
        "        if batch.records:\n            await self._append(batch.records)\n",
    ),
    Mutant(
        "clients are answered before the commit",
        LOOP,
        "        if batch.records:\n            await self._append(batch.records)\n",
        "        for answer in batch.answers:\n            answer()\n        batch.answers.clear()\n"
        "        if batch.records:\n            await self._append(batch.records)\n",
    ),
    Mutant(
        "watchers see records before the commit",
        LOOP,
        "        if batch.records:\n            await self._append(batch.records)\n",
        "        self._publish(batch.records)\n"
        "        if batch.records:\n            await self._append(batch.records)\n",
    ),
    Mutant(
        "a failed append is taken for a good one",
        LOOP,
        "            await self._append(batch.records)\n",
        "            try:\n                await self._append(batch.records)\n"
        "            except Exception:\n                pass\n",
    ),
    Mutant(
        "messages of a replaced stream still count",
        LOOP,
        "and self._streams.get(stream.worker) is not stream:",
        "and False:",
    ),
    Mutant(
        "a lost lease of the leader is not looked at",
        LOOP,
        "        if self._check_lead is not None:\n            self._check_lead()\n",
        "        pass\n",
    ),
    Mutant(
        "what waits is sent by whoever led before",
        "orchestrator/services/worker.py",
        "                # What waited while this process was stopped is another leader's business by now.\n"
        "                self._loop.check_lead()\n",
        "",
    ),
    Mutant(
        "what was missed is not heard first",
        LOOP,
        "if at - expected_at > MISSED_S and self._hearings < MAX_HEARINGS:",
        "if False:",
    ),
    Mutant(
        "children go on with what a failed attempt wrote",
        f"{CORE}/attempts.py",
        "    for heard_it in break_streams(turn, constellation, star):\n",
        "    for heard_it in list[TaskStar]():\n",
    ),
    Mutant(
        "a child hears the result of another star",
        f"{CORE}/streams.py",
        "        if isinstance(source, OutputOf) and source.star == parent:\n",
        "        if isinstance(source, OutputOf) and source.star != parent:\n",
    ),
    Mutant(
        "a star does not wait for a parent to begin anew",
        f"{CORE}/apply.py",
        "        child.unmet += 1\n        # One",
        "        # One",
    ),
    Mutant(
        "memory keeps what the store has forgotten",
        LOOP,
        "        self.machine.forget(gone)\n",
        "",
    ),
    Mutant(
        "what holds a slot is forgotten",
        f"{STORE}/forgetting.py",
        ", constellations.c.stopping == 0)",
        ")",
    ),
    Mutant(
        "the journal's counter falls with what is forgotten",
        f"{STORE}/forgetting.py",
        '    connection.execute(KEEP_SEQ, {"newest": connection.execute(NEWEST_SEQ).scalar_one() or 0})\n',
        "",
    ),
    Mutant(
        "a lost lead still forgets",
        f"{STORE}/forgetting.py",
        "    hold_epoch(connection, epoch)\n",
        "",
    ),
    Mutant(
        "edits that come again are decided again",
        f"{CORE}/attempts.py",
        "answers.get(event.proposal) if answers else None",
        "None",
    ),
    Mutant(
        "which edits an attempt asked for is not in the journal",
        f"{CORE}/attempts.py",
        "apply_batch(turn, constellation, batch, by, proposal=proposal)",
        "apply_batch(turn, constellation, batch, by)",
    ),
    Mutant(
        "a worker does not ask again on a new stream",
        "workers/session.py",
        "        self._unsent_proposals = dict.fromkeys(self._proposals)\n",
        "",
    ),
    Mutant(
        "no fence check",
        f"{CORE}/attempts.py",
        "    lease = turn.state.workers[worker].running.get(token)\n    if lease is None or lease.is_stopping:\n",
        "    lease = next(reversed(turn.state.workers[worker].running.values()), None)\n"
        "    if lease is None or lease.is_stopping:\n",
    ),
    Mutant(
        "a result counts after its attempt was stopped",
        f"{CORE}/attempts.py",
        "    if lease is None or lease.is_stopping:\n",
        "    if lease is None:\n",
    ),
    Mutant(
        "the fencing counter is not restored",
        f"{CORE}/state.py",
        "        state.last_fencing_token = snapshot.last_fencing_token\n",
        "        state.last_fencing_token = FencingToken(0)\n",
    ),
    Mutant(
        "the journal's counter is not restored",
        f"{CORE}/state.py",
        "        state.last_seq = snapshot.last_seq\n",
        "        state.last_seq = 0\n",
    ),
    Mutant(
        "held slots are forgotten at a restart",
        f"{CORE}/state.py",
        "                if not attempt.holds_slot:\n",
        "                if not attempt.holds_slot or attempt.outcome is not None:\n",
    ),
    Mutant(
        "backoffs are forgotten at a restart",
        f"{CORE}/state.py",
        "                self.enqueue(constellation.id, star, at)\n",
        "                self.enqueue_now(constellation.id, star)\n",
    ),
    Mutant(
        "an older epoch may append",
        f"{STORE}/writes.py",
        '    .where(orchestrator.c.id == 1, orchestrator.c.epoch == sa.bindparam("of_epoch"))\n',
        '    .where(orchestrator.c.id == 1, orchestrator.c.epoch >= sa.bindparam("of_epoch"))\n',
    ),
    Mutant(
        "the store does not keep the newest fence",
        f"{STORE}/writes.py",
        "lambda: hold_epoch(connection, epoch, changes.last_token)",
        "lambda: hold_epoch(connection, epoch)",
    ),
    Mutant(
        "a given-back slot is not stored",
        f"{STORE}/changes.py",
        "                self._of(record).stopping -= 1\n",
        "                self._of(record)\n",
    ),
    Mutant(
        "parents are not waited for",
        f"{CORE}/apply.py",
        "    if star.unmet > 0:\n        star.state = WAITING\n",
        "    if star.unmet > 1:\n        star.state = WAITING\n",
    ),
    Mutant(
        "conditions of lines are not looked at",
        f"{CORE}/ending.py",
        "    if line.condition is not None and line.condition.holds(constellation.outcome(line.parent)):\n"
        "        return None\n    return StarError",
        "    if line.condition is not None:\n        return None\n    return StarError",
    ),
    Mutant(
        "cycles are let in",
        f"{CORE}/check.py",
        "    draft.check_acyclic()\n",
        "",
    ),
    Mutant(
        "stale edits are let in",
        f"{CORE}/check.py",
        "        if changed:\n",
        "        if changed and False:\n",
    ),
    Mutant(
        "a refused batch leaves its first edit",
        f"{CORE}/attempts.py",
        "    except AsterismError as refusal:\n",
        "    except AsterismError as refusal:\n"
        "        if isinstance(batch.edits[0], AddStar) and batch.edits[0].spec.id not in constellation.stars:\n"
        "            apply_batch(turn, constellation, EditBatch(batch.edits[:1]), by)\n",
    ),
    Mutant(
        "running stars may be edited",
        f"{CORE}/check.py",
        "        if state is StarState.RUNNING or state.is_terminal:\n",
        "        if state.is_terminal:\n",
    ),
    Mutant(
        "nobody is told of a cancel",
        f"{CORE}/ending.py",
        "        if live is not None and not releases_slot:\n            turn.effect(",
        "        if live is None and not releases_slot:\n            turn.effect(",
    ),
    Mutant(
        "a cancel frees the slot at once",
        f"{CORE}/ending.py",
        "        releases_slot=star.live_attempt is None,\n",
        "        releases_slot=True,\n",
    ),
    Mutant(
        "one slot too many",
        f"{CORE}/state.py",
        "        return self.profile.slots - len(self.running)\n",
        "        return self.profile.slots + 1 - len(self.running)\n",
    ),
    Mutant(
        "a drained worker gets stars",
        f"{CORE}/state.py",
        "        return self.is_attached and not self.is_draining and not self.is_leaving\n",
        "        return self.is_attached and not self.is_leaving\n",
    ),
    Mutant(
        "one attempt too many",
        f"{CORE}/retry.py",
        "    if not retryable or failures >= star.spec.retry.max_attempts:\n",
        "    if not retryable or failures > star.spec.retry.max_attempts:\n",
    ),
    Mutant(
        "the budget of attempts is not looked at",
        f"{CORE}/dispatch.py",
        "        if constellation.attempts >= constellation.budget.attempts:\n",
        "        if constellation.attempts > constellation.budget.attempts:\n",
    ),
    Mutant(
        "a lease that ended is not noticed",
        f"{CORE}/deadlines.py",
        '        leave(turn, worker, "its lease ran out")\n',
        "        pass\n",
    ),
    Mutant(
        "what a worker says does not renew its lease",
        f"{CORE}/machine.py",
        "            case WorkerSaid():\n"
        "                renew(self._state.workers[event.worker], event.at, self._lease_s)\n",
        "            case WorkerSaid():\n",
    ),
    Mutant(
        "what a rewrite did not save runs",
        f"{CORE}/ending.py",
        "    if line.kind is LineKind.GUARD:\n        others",
        "    if line.kind is LineKind.GUARD:\n        return None\n        others",
    ),
    Mutant(
        "a backoff is not waited for",
        f"{CORE}/apply.py",
        "    star.retry_at = record.retry_at\n    star.state = WAITING",
        "    star.retry_at = None\n    star.state = WAITING",
    ),
    Mutant(
        "start_to_close is forgotten at a restart",
        f"{CORE}/state.py",
        "                if attempt.outcome is None:\n                    self.watch_attempt(",
        "                if attempt.outcome is None and not at:\n                    self.watch_attempt(",
    ),
    Mutant(
        "a worker that comes back may keep what it lost",
        f"{CORE}/fleet.py",
        "            if token not in held:\n",
        "            if token not in held and lease.is_stopping:\n",
    ),
    Mutant(
        "a repeated submit is a new request",
        "orchestrator/services/client.py",
        "        if earlier is not None:\n",
        "        if earlier is not None and self._checking.locked():\n",
    ),
    Mutant(
        "a watcher misses what comes between journal and presence",
        "orchestrator/services/watch.py",
        "        if on_disk.seq <= seq:\n",
        "        seq += 1\n        if on_disk.seq <= seq:\n",
    ),
    Mutant(
        "a worker forgets its reports when the stream breaks",
        "workers/session.py",
        "        self._unsent = dict.fromkeys(self._kept)\n",
        "        self._unsent = {}\n",
    ),
    Mutant(
        "a worker runs an assignment twice",
        "workers/session.py",
        "        if fencing_token in self._kept:\n            self._unsent[fencing_token] = None\n",
        "        if False:\n            self._unsent[fencing_token] = None\n",
    ),
    Mutant(
        "a worker goes on after its lease",
        "workers/link.py",
        "        self._work.stop_all()\n",
        "",
    ),
    Mutant(
        "a leader renews a lease that another has",
        "orchestrator/leading.py",
        '                        raise _lost(self.epoch, "another orchestrator leads")\n',
        "                        pass\n",
    ),
)


class _Loader(SourceFileLoader):
    """Gives the module with the mistake."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(mutant.module, str(ROOT / mutant.path))
        self._code = compile(mutant.source(), mutant.path, "exec")

    def get_code(self, fullname: str) -> CodeType:
        return self._code


class _Finder:
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._loader = _Loader(mutant)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != self._mutant.module:
            return None
        return spec_from_file_location(name, ROOT / self._mutant.path, loader=self._loader)


def hunt(mutant: Mutant, schedules: int) -> str | None:
    """How the mutant is noticed, or None. In a process that has loaded nothing of ours yet, and is of no use after."""
    sys.meta_path.insert(0, _Finder(mutant))
    from tests.sim.invariants import Violation
    from tests.sim.schedule import draw_schedule
    from tests.sim.world import open_store, play

    store = open_store()
    for seed in range(schedules):
        try:
            play(draw_schedule(seed), store)
        except Violation as violation:
            return f"{violation.invariant.name} after {seed + 1}: {violation.what[:100]}"
        except Exception as error:  # a mutant may break anything, and that is noticed as well
            return f"CRASH after {seed + 1}: {error!r}"[:140]
    return None


def main() -> int:
    """Prints how each mutant is noticed; ends with 1 where one is not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="the mutants, by name; all without any")
    parser.add_argument("--schedules", type=int, default=2000)
    parser.add_argument("--here", action="store_true", help="hunt the one named in this process")
    chosen = parser.parse_args()
    by_name = {mutant.name: mutant for mutant in MUTANTS}
    if chosen.here:
        noticed = hunt(by_name[chosen.names[0]], chosen.schedules)
        print(noticed or "NOT NOTICED")
        return 0 if noticed else 1
    survived = 0
    for name in chosen.names or by_name:
        by_name[name].source()
        options = ["--here", "--schedules", str(chosen.schedules), name]
        command = [sys.executable, "-m", "tests.sim.mutants", *options]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=HUNT_S)
        except subprocess.TimeoutExpired:
            print(f"{name:58} HANGS", flush=True)
            continue
        survived += run.returncode != 0
        print(f"{name:58} {run.stdout.strip() or run.stderr.strip()[-300:]}", flush=True)
    print(f"noticed {len(chosen.names or by_name) - survived} of {len(chosen.names or by_name)} mutants")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
