"""Placement: which ready star goes to which worker now, and what it is given."""

from heapq import heapify, heappop, heappush, heapreplace
from operator import attrgetter
from typing import Final

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.effects import Assign
from asterism.orchestrator.core.ending import end_constellation, finish_star
from asterism.orchestrator.core.ids import FencingToken
from asterism.orchestrator.core.inputs import Inputs, resolve_inputs
from asterism.orchestrator.core.records import AttemptLeased
from asterism.orchestrator.core.replan import is_pressing, on_pressure
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.reuse import find_reused
from asterism.orchestrator.core.star import StarError, StarState, TaskStar, program_capability
from asterism.orchestrator.core.state import ReadyStar, State, Worker
from asterism.orchestrator.core.streams import tell_written
from asterism.orchestrator.core.turn import Turn

_ID: Final = attrgetter("id")


def dispatch(turn: Turn) -> None:
    """Lease ready stars while there is a free slot that fits: highest priority first, then the longest ready."""
    if not turn.state.may_place:
        return
    places = _Places(turn.state)
    while (chosen := places.next()) is not None:
        entry, worker = chosen
        constellation = turn.state.constellations[entry.constellation]
        star = constellation.stars[entry.star]
        if constellation.attempts >= constellation.budget.attempts:
            reason = f"the budget of {constellation.budget.attempts} attempts is used up"
            end_constellation(turn, constellation, ConstellationState.FAILED, reason)
            continue
        inputs = resolve_inputs(turn.state, constellation, star)
        if isinstance(inputs, StarError):
            finish_star(turn, constellation, star, StarState.FAILED, error=inputs)
            continue
        if star.attempts:
            worker = places.untried(star, worker)
        if star.spec.reuses is not None or turn.state.results is not None:
            description = worker.describe(program_capability(star.spec.kind, star.spec.program))
            reused = find_reused(turn.state, constellation, star, description, inputs, turn.at)
            if reused is not None:
                finish_star(
                    turn,
                    constellation,
                    star,
                    StarState.SUCCEEDED,
                    result=reused.result,
                    version=description.version,
                    source=reused.source,
                )
                continue
        _lease(turn, constellation, star, worker, inputs)


class _Places:
    """The free slots of the fleet, while one step hands them out: they only become fewer meanwhile. What ends in a
    dispatch had no attempt, or keeps its slot until its worker has confirmed.

    A star costs the logarithms of the numbers of workers and of different needs, and a step looks at each worker once,
    and for each need at those that have a free slot.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        free = (worker for worker in state.workers.values() if worker.free_slots > 0 and worker.takes_stars)
        self._free = sorted(free, key=_ID)
        self._firsts: list[tuple[ReadyStar, frozenset[str]]] = []
        """A heap of the first star of each set of capabilities, while some worker may have a slot for it."""
        self._heaps: dict[frozenset[str], list[tuple[int, int, Worker]]] = {}
        """For each set of capabilities: how many slots each worker has free, negated, and its place in the order of
        ids. What it says may be too many by now."""

    def next(self) -> tuple[ReadyStar, Worker] | None:
        """The first star in order for which some worker has a free slot, and the worker with the most: the first by id
        among equals."""
        if self._state.may_place:
            self._state.may_place = False
            ready = ((self._state.first_ready(capabilities), capabilities) for capabilities in self._state.placeable())
            self._firsts = [(entry, capabilities) for entry, capabilities in ready if entry is not None]
            heapify(self._firsts)
        while self._free and self._free[-1].free_slots <= 0:
            self._free.pop()
        while self._free and self._firsts:
            noted, capabilities = self._firsts[0]
            worker = self._freest(capabilities)
            entry = None if worker is None else self._state.first_ready(capabilities)
            if worker is None or entry is None:
                heappop(self._firsts)
            elif entry is noted:
                return entry, worker
            else:
                heapreplace(self._firsts, (entry, capabilities))
        return None

    def _freest(self, capabilities: frozenset[str]) -> Worker | None:
        heap = self._heaps.get(capabilities)
        if heap is None:
            able = enumerate(worker for worker in self._free if capabilities <= worker.capabilities)
            heap = [(-worker.free_slots, place, worker) for place, worker in able if worker.free_slots > 0]
            heapify(heap)
            self._heaps[capabilities] = heap
        while heap:
            noted, place, worker = heap[0]
            free = worker.free_slots
            if free == -noted:
                return worker
            if free > 0:
                heapreplace(heap, (-free, place, worker))
            else:
                heappop(heap)
        return None

    def untried(self, star: TaskStar, freest: Worker) -> Worker:
        """In place of the worker with the most free slots the next that has not tried this star, if there is any."""
        tried = {attempt.worker for attempt in star.attempts}
        heap, passed = self._heaps[star.spec.capabilities], []
        while (worker := self._freest(star.spec.capabilities)) is not None and worker.id in tried:
            passed.append(heappop(heap))
        for entry in passed:
            heappush(heap, entry)
        return freest if worker is None else worker


def _lease(turn: Turn, constellation: TaskConstellation, star: TaskStar, worker: Worker, inputs: Inputs) -> None:
    spec = star.spec
    token = FencingToken(turn.state.last_fencing_token + 1)
    number = len(star.attempts) + 1
    turn.record(AttemptLeased(turn.seq, turn.at, constellation.id, spec.id, number, worker.id, token))
    if constellation.replan is not None:
        used, most = constellation.attempts, constellation.budget.attempts
        if is_pressing(used, used - 1, most):
            on_pressure(turn, constellation, f"{most} attempts")
    turn.effect(
        Assign(
            worker.id,
            constellation.id,
            spec.id,
            number,
            token,
            spec.kind,
            spec.program,
            inputs.values,
            _model(spec.requires) if spec.requires else None,
            constellation.revision,
            spec.may_edit,
            spec.timeouts.start_to_close_s,
            spec.timeouts.heartbeat_s,
            tuple(inputs.places),
            tuple(inputs.streams),
        )
    )
    if inputs.streams:
        tell_written(turn, constellation, star)


def _model(requires: frozenset[str]) -> str | None:
    return min((name.removeprefix("model:") for name in requires if name.startswith("model:")), default=None)
