"""Watches everything that is committed, said and heard, and compares what is in memory with what is on disk."""

import asyncio
import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.edits import EditBatch
from asterism.orchestrator.core.errors import WrongState
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, WorkerId
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.core.records import (
    ConstellationEnded,
    EditsApplied,
    Record,
    WorkerDraining,
    WorkerJoined,
    WorkerLabelled,
    WorkerLeft,
)
from asterism.orchestrator.core.state import State, Worker
from asterism.orchestrator.counts import Counts
from asterism.orchestrator.loop import HEARING_S, MAX_HEARINGS, MISSED_S
from asterism.protocol.v1 import client_pb2, worker_pb2
from asterism.store.sql import SqlStore
from tests.core.picture import replayed
from tests.sim.clock import SimClock
from tests.sim.comparing import difference, marker_of, named_in, picture_of, touched_by
from tests.sim.invariants import Invariant, Violation
from tests.sim.ledger import Graph, Ledger
from tests.sim.network import Call, Host
from tests.sim.processes import Process

LEASE_S: Final = 6.0
"""Of a worker: several times what a message and a commit take on a bad day."""
LEADER_LEASE_S: Final = 4.0
LATE_S: Final = HEARING_S + MISSED_S + 0.1
"""How late the loop may look at what is due, after a time in which it did not run."""
PATIENCE_S: Final = 0.75
"""How long a worker on an open stream may go untold that it is to stop, by a leader that has nothing else to do: less
than the slowest tool that does not hang, since who has ended by itself need not be told."""
STOPPING_S: Final = 0.5
"""How long a worker may take to stop what it runs."""


@dataclass
class Leader:
    """What is known of a process that leads, or believes that it does."""

    process: Process
    machine: Machine
    clock: SimClock
    epoch: int
    since: float
    """By its own clock, as are the two times at the end."""
    check_lead: Callable[[], None] | None
    """Raises once it takes its lead to be over; None where nobody can take it."""
    counts: Counts
    has_left: bool = False
    """Whether its loop has come to an orderly end, after which it gives its lease back."""
    certain: dict[WorkerId, float] = field(default_factory=dict)
    """When a worker last said something that must have renewed its lease."""
    earlier: dict[WorkerId, float] = field(default_factory=dict)
    """When it had done so before that."""
    hearings: dict[WorkerId, tuple[int, int]] = field(default_factory=dict)
    """How often deadlines had waited for what was said, at those two times."""
    possible: dict[WorkerId, float] = field(default_factory=dict)
    """When it last said anything."""

    @property
    def believes_to_lead(self) -> bool:
        """Whether it would show and send what it has."""
        if self.check_lead is None or self.process.is_dead or self.has_left:
            return False
        try:
            self.check_lead()
        except WrongState:
            return False
        return True


@dataclass
class Asked:
    """An edit of a client, told from all others by a name in it."""

    batch: EditBatch
    applied: list[EditsApplied] = field(default_factory=list)


class Auditor:
    """The listener of the network and the witness of the disk. What it finds ends the schedule."""

    def __init__(self, store: SqlStore, rng: random.Random, loads: float) -> None:
        """`loads`: the share of commits after which all that is on disk is read back and compared."""
        self._store = store
        self.ledger = Ledger()
        self.leaders: dict[Process, Leader] = {}
        self.newest_epoch = 0
        self.violation: Violation | None = None
        self.stop: asyncio.Event = asyncio.Event()
        self.asked: dict[str, Asked] = {}
        self._forgot_before = 0.0
        """What is said of workers may be gone from before then."""
        self.commits = 0
        self._rng = rng
        self._loads = loads
        self._digest = hashlib.blake2b(digest_size=16)
        self._streams: dict[WorkerId, Call] = {}
        self._untold: dict[FencingToken, tuple[Call, float]] = {}
        self._greeted: dict[WorkerId, tuple[Call, float, list[FencingToken]]] = {}
        """Streams that wait for their welcome, since when, and what the worker said that it holds."""
        self.leases_cut_at = -LEADER_LEASE_S
        """When the clock of the database was last set forward: who led then may count on more time than it has."""
        self._started: set[FencingToken] = set()
        self._run: dict[Process, set[FencingToken]] = {}
        """What runs on workers."""
        self._offline_since: dict[Process, float] = {}
        """Of workers that know that they have no stream."""

    @property
    def digest(self) -> str:
        """Of all that was committed and said, in order and with its times."""
        return self._digest.hexdigest()

    def fail(self, invariant: Invariant, what: str) -> None:
        """Note it, and raise it where it happened."""
        self.note(Violation(invariant, what))
        raise Violation(invariant, what)

    def note(self, violation: Violation) -> None:
        """The first one counts."""
        if self.violation is None:
            self.violation = violation
            self.stop.set()

    # What lands on disk.

    def raised(self, epoch: int) -> None:
        if epoch != self.newest_epoch + 1:
            self.fail(Invariant.EPOCH, f"epoch {epoch} follows {self.newest_epoch}")
        self.newest_epoch = epoch
        self._look_at_who_led()

    async def committed(self, process: Process, records: Sequence[Record], epoch: int) -> None:
        self.commits += 1
        if epoch != self.newest_epoch:
            self.fail(Invariant.EPOCH, f"epoch {epoch} committed in {self.newest_epoch}: {records[0]}")
        leader = self.leaders[process]
        now = asyncio.get_running_loop().time()
        self.ledger.epoch, self.ledger.since = epoch, leader.since
        had_to_stop = set(self.ledger.must_stop)
        for record in records:
            self._digest.update(repr(record).encode())
            try:
                self.ledger.take(record)
            except Violation as violation:
                self.note(violation)
                raise
            except KeyError as missing:
                self.fail(Invariant.JOURNAL, f"{missing} is not there: {record}")
            if isinstance(record, EditsApplied):
                self._check_edit(self.ledger.graphs[record.constellation], record)
            if isinstance(record, WorkerLeft) and "lease ran out" in record.reason:
                heard_at = leader.certain.get(record.worker, leader.since)
                if heard_at == record.at:
                    # A process that goes on after a stop may read this after its look; but where it has missed a
                    # deadline by MISSED_S it has to listen first, unless it was stopped so often that it has already.
                    ended_at = leader.earlier.get(record.worker, leader.since) + LEASE_S
                    listened = leader.counts.hearings - leader.hearings.get(record.worker, (0, 0))[0]
                    may_end = record.at <= ended_at + MISSED_S or listened >= MAX_HEARINGS
                    heard_at = -LEASE_S if may_end else heard_at
                # What was heard while this was on its way to disk came too late.
                if heard_at <= record.at < heard_at + LEASE_S:
                    self.fail(Invariant.TIMEOUT, f"{record.worker} was heard at {heard_at}: {record}")
        try:
            self.ledger.settled(records)
        except Violation as violation:
            self.note(violation)
            raise
        for token, run in self.ledger.must_stop.items():
            stream = self._streams.get(run.worker)
            is_here = stream is not None and stream.host is not None and stream.host.process is process
            if token not in had_to_stop and stream is not None and is_here:
                self._untold[token] = (stream, now)
        if self._rng.random() < self._loads:
            await self.check_recovery(leader.machine)

    def forgot(self, gone: Sequence[ConstellationId], before: float, epoch: int) -> None:
        if epoch != self.newest_epoch:
            self.fail(Invariant.EPOCH, f"epoch {epoch} forgot {gone} in {self.newest_epoch}")
        for constellation in gone:
            if constellation in self.ledger.forgotten:
                continue  # Half of it had gone before, and the rest follows under whatever retention holds now.
            graph = self.ledger.graphs[constellation]
            held = [run for run in self.ledger.runs.values() if run.constellation == constellation and run.holds_slot]
            end = next((one for one in reversed(graph.journal) if isinstance(one, ConstellationEnded)), None)
            if not graph.state.is_terminal or held or end is None or end.at >= before:
                self.fail(Invariant.FORGOTTEN, f"{constellation} ended in {end}, holds {held}, and is gone at {before}")
        self._digest.update(repr(sorted(gone)).encode())
        self.ledger.forgotten.update(gone)
        self._forgot_before = max(self._forgot_before, before)

    def _check_edit(self, graph: Graph, record: EditsApplied) -> None:
        """Of a client's edit: it came once, and from one who knew what it touches."""
        asked = next((self.asked[name] for name in map(marker_of, record.edits) if name in self.asked), None)
        if asked is None:
            return
        asked.applied.append(record)
        if len(asked.applied) > 1:
            self.fail(Invariant.KEPT, f"an edit that was repeated was applied again: {record}")
        if record.edits != asked.batch.edits:
            self.fail(Invariant.STALE, f"not the whole batch was applied: {record}")
        base = asked.batch.base_revision
        for star in {name for edit in record.edits for name in named_in(edit)} if base is not None else ():
            # The ledger has taken the batch: what was edited before it stands in its earlier edits.
            earlier = (edits for revision, edits in graph.edits.items() if revision < record.revision)
            before = max((edits.revision for edits in earlier if star in touched_by(edits)), default=0)
            if before > (base or 0):
                self.fail(Invariant.STALE, f"{star} was edited at {before}, after base {base}: {record}")

    async def check_recovery(self, machine: Machine | None) -> None:
        """Memory, disk and journal say the same."""
        stored = await self._store.load()
        if stored.last_seq != len(self.ledger.records):
            self.fail(Invariant.JOURNAL, f"{stored.last_seq} records on disk, {len(self.ledger.records)} committed")
        newest = max(self.ledger.runs, default=0)
        if stored.last_fencing_token != newest:
            self.fail(Invariant.FENCES, f"recovery would go on from {stored.last_fencing_token}, not from {newest}")
        recovered = State.from_snapshot(stored, at=0.0, lease_s=LEASE_S)
        if machine is not None:
            self._compare(Invariant.RECOVERY, machine.constellations, machine.workers, recovered)

    async def check_journal(self) -> None:
        """The journal as it is on disk makes the tables."""
        journal = await self._store.read_whole_journal(after_seq=0, limit=1_000_000)
        seqs = {record.seq for record in journal}
        if journal != [record for record in self.ledger.records if record.seq in seqs]:
            self.fail(Invariant.JOURNAL, "the journal is not what was committed")
        for record in self.ledger.records:
            if record.seq not in seqs and not self._may_be_gone(record):
                self.fail(Invariant.JOURNAL, f"it is gone: {record}")
        whole = replayed(self.ledger.records)
        for constellation in self.ledger.forgotten:
            del whole.constellations[constellation]
        stored = State.from_snapshot(await self._store.load(), at=0.0, lease_s=LEASE_S)
        self._compare(Invariant.JOURNAL, whole.constellations, whole.workers, stored)
        for constellation, in_journal in whole.constellations.items():
            on_disk = await self._store.find_constellation(constellation)
            differs = "it is gone" if on_disk is None else difference(in_journal, on_disk)
            if differs:
                self.fail(Invariant.JOURNAL, f"{constellation}: {differs}")

    def _may_be_gone(self, record: Record) -> bool:
        if isinstance(record, WorkerJoined | WorkerLeft | WorkerDraining | WorkerLabelled):
            return record.at < self._forgot_before
        return record.constellation in self.ledger.forgotten

    def _compare(
        self,
        invariant: Invariant,
        constellations: Mapping[ConstellationId, TaskConstellation],
        workers: Mapping[WorkerId, Worker],
        stored: State,
    ) -> None:
        for constellation, on_disk in stored.constellations.items():
            here = constellations.get(constellation)
            differs = "it is not there" if here is None else difference(here, on_disk)
            if differs:
                self.fail(invariant, f"{constellation}: {differs}")
        alive = {one.id for one in constellations.values() if not one.state.is_terminal}
        if alive - stored.constellations.keys():
            self.fail(invariant, f"not on disk: {alive - stored.constellations.keys()}")
        if {name: picture_of(worker) for name, worker in workers.items()} != {
            name: picture_of(worker) for name, worker in stored.workers.items()
        }:
            self.fail(invariant, f"workers {list(map(picture_of, workers.values()))}")

    # What is said and heard.

    def heard(self, host: Host, call: Call, message: Any) -> None:
        if not isinstance(message, worker_pb2.WorkerFrame) or host.process.is_dead:
            return
        worker = WorkerId(call.caller.machine)
        leader = self.leaders.get(host.process)
        if leader is not None:
            now = leader.clock.now()
            leader.possible[worker] = now
            if message.HasField("hello"):
                self._greeted[worker] = (call, now, [FencingToken(token) for token in message.hello.held])
            elif self._streams.get(worker) is call and worker not in self._greeted:
                before = leader.hearings.get(worker, (0, 0))
                if leader.certain.get(worker) not in (None, now):
                    leader.earlier[worker] = leader.certain[worker]
                    before = before[1], before[1]
                leader.certain[worker] = now
                leader.hearings[worker] = before[0], leader.counts.hearings
        tokens = list(message.hello.held) if message.HasField("hello") else []
        for items in (message.progress, message.proposed, message.finished):
            tokens += [item.fencing_token for item in items]
        for token in tokens:
            run = self.ledger.runs.get(FencingToken(token))
            if run is None or run.worker != worker:
                self.fail(Invariant.FENCES, f"{worker} speaks of fence {token}, which the store does not know")
        batches = [(item.fencing_token, item.proposal, item.batch) for item in message.proposed]
        batches += [(item.fencing_token, 0, item.edits) for item in message.finished]
        for token, number, batch in batches:
            edits = sum(1 + len(edit.add_star.after) for edit in batch.edits)
            self.ledger.proposed.setdefault(FencingToken(token), set()).add((number, edits))
        for finished in message.finished:
            if finished.HasField("result_json"):
                self.ledger.reported.setdefault(FencingToken(finished.fencing_token), []).append(finished.result_json)

    def said(self, host: Host, call: Call, message: Any) -> None:
        now = asyncio.get_running_loop().time()
        self._digest.update(f"{now:.6f}{call.caller.machine}{type(message).__name__}".encode())
        match message:
            case worker_pb2.OrchestratorFrame():
                self._said_to_worker(self.leaders[host.process], call, message)
            case client_pb2.SubmitResponse():
                if ConstellationId(message.constellation) not in self.ledger.graphs:
                    self.fail(Invariant.DURABLE, f"{message.constellation} is answered and not on disk")
            case client_pb2.WatchResponse():
                newest = len(self.ledger.records)
                if any(record.seq > newest for record in message.records):
                    self.fail(Invariant.DURABLE, "a watcher is shown what is not on disk")
            case _:
                pass

    def _said_to_worker(self, leader: Leader, call: Call, frame: worker_pb2.OrchestratorFrame) -> None:
        worker = WorkerId(call.caller.machine)
        if frame.HasField("welcome"):
            self._welcomed(leader, call, worker)
        if frame.assignments and leader.epoch != self.newest_epoch and not self._may_not_know:
            self.fail(Invariant.EPOCH, f"the leader of epoch {leader.epoch} dispatches in {self.newest_epoch}")
        for assignment in frame.assignments:
            run = self.ledger.runs.get(FencingToken(assignment.fencing_token))
            if run is None:
                self.fail(Invariant.DURABLE, f"{assignment.star} is dispatched before its lease is on disk")
            elif (run.worker, run.constellation, run.star) != (worker, assignment.constellation, assignment.star):
                self.fail(Invariant.FENCES, f"fence {run.token} is of {run.star} on {run.worker}")
        for part in frame.inputs:
            token = FencingToken(part.fencing_token)
            if part.HasField("value_json") and not self.ledger.heard(token, part.input, json.loads(part.value_json)):
                self.fail(Invariant.DURABLE, f"fence {token} is told of {part.input} what is not on disk")
        for token in map(FencingToken, frame.acknowledged):
            if token in self.ledger.runs and self.ledger.runs[token].outcome is None:
                self.fail(Invariant.DURABLE, f"the report of fence {token} is acknowledged and not on disk")
        for answer in frame.edits_answers:
            run = self.ledger.runs.get(FencingToken(answer.fencing_token))
            if run is None:
                continue
            if answer.revision > self.ledger.graphs[run.constellation].revision:
                self.fail(Invariant.DURABLE, f"revision {answer.revision} is answered and not on disk")
            decided = run.answers.get(answer.proposal)
            if decided is not None and answer.is_accepted != isinstance(decided, EditsApplied):
                self.fail(Invariant.KEPT, f"fence {run.token} is told otherwise of its proposal {answer.proposal}")
        for stop in frame.stops:
            self._untold.pop(FencingToken(stop.fencing_token), None)

    def _welcomed(self, leader: Leader, call: Call, worker: WorkerId) -> None:
        self._streams[worker] = call
        greeting = self._greeted.get(worker)
        if greeting is None or greeting[0] is not call:
            return
        _, at, held = self._greeted.pop(worker)
        leader.certain[worker] = max(at, leader.certain.get(worker, at))
        for token in held:
            if token in self.ledger.must_stop:
                self._untold[token] = (call, asyncio.get_running_loop().time())

    # What workers do.

    def started(self, worker: Process, token: FencingToken) -> None:
        if token in self._started:
            self.fail(Invariant.ONCE, f"{worker.machine} runs fence {token} a second time")
        self._started.add(token)
        self._run.setdefault(worker, set()).add(token)

    def ended(self, worker: Process, token: FencingToken) -> None:
        self._run.get(worker, set()).discard(token)

    def went_offline(self, worker: Process) -> None:
        self._offline_since.setdefault(worker, asyncio.get_running_loop().time())

    def went_online(self, worker: Process) -> None:
        self._offline_since.pop(worker, None)

    # What time brings.

    def look(self) -> None:
        """To be called now and then: nothing that is due is late, and whoever is to stop was told."""
        now = asyncio.get_running_loop().time()
        self._look_at_who_led()
        for worker, offline_since in self._offline_since.items():
            is_awake = not worker.is_dead and not worker.is_paused
            if is_awake and now - offline_since > LEASE_S + STOPPING_S and self._run.get(worker):
                runs = sorted(self._run[worker])
                self.fail(Invariant.ONCE, f"{worker.machine} is offline since {offline_since:g}, and runs {runs}")
        leader = self._idle_leader()
        for token, (call, since) in list(self._untold.items()):
            has_ended = call.down.end is not None or call.up.end is not None
            was_replaced = self._streams.get(self.ledger.runs[token].worker) is not call
            of_other = call.host is None or leader is None or call.host.process is not leader.process
            is_over = (
                has_ended or was_replaced or token not in self.ledger.must_stop or (leader is not None and of_other)
            )
            if is_over:
                del self._untold[token]
            elif now - since > PATIENCE_S and leader is not None:
                run = self.ledger.runs[token]
                self.fail(Invariant.CANCELLED, f"{run.worker} was not told to stop {run.star} ({token})")
        # One that is about to look may have missed a time, and listens first.
        if leader is not None and (leader.clock.until is None or leader.clock.until > leader.clock.now() + HEARING_S):
            self._look_at_times(leader, leader.clock.now() - LATE_S)

    @property
    def _may_not_know(self) -> bool:
        """Whether a leader may lead on by its own clock after another one has begun to."""
        return asyncio.get_running_loop().time() <= self.leases_cut_at + LEADER_LEASE_S

    def _look_at_who_led(self) -> None:
        """By its own clock a lead ends before another one can begin."""
        for leader in self.leaders.values():
            if leader.epoch < self.newest_epoch and leader.believes_to_lead and not self._may_not_know:
                self.fail(Invariant.EPOCH, f"the leader of epoch {leader.epoch} leads on in {self.newest_epoch}")

    def _idle_leader(self) -> Leader | None:
        """The one that leads, if it waits for something to happen or for a time to come."""
        for leader in self.leaders.values():
            if (
                leader.epoch == self.newest_epoch
                and not leader.process.is_dead
                and not leader.process.is_paused
                and leader.clock.is_waiting
            ):
                return leader
        return None

    def _look_at_times(self, leader: Leader, at: float) -> None:
        for run in self.ledger.runs.values():
            if run.holds_slot and max(leader.possible.get(run.worker, 0.0), leader.since) + LEASE_S < at:
                self.fail(Invariant.TIMEOUT, f"the lease of {run.worker} is over, and {run.star} still its own")
            limit_s = run.spec.timeouts.start_to_close_s
            if run.outcome is None and limit_s is not None and max(run.leased_at + limit_s, leader.since) < at:
                self.fail(Invariant.TIMEOUT, f"{run.star} ({run.token}) runs for longer than {limit_s} s")
        for constellation, graph in self.ledger.graphs.items():
            limit_s = graph.budget.seconds
            is_due = limit_s is not None and max(graph.started_at + limit_s, leader.since) < at
            if is_due and not graph.state.is_terminal:
                self.fail(Invariant.TIMEOUT, f"{constellation} runs for longer than {limit_s} s")
