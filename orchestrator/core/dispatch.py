"""Placement: which ready star goes to which worker now, and what it is given."""

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

_FREE_SLOTS: Final = attrgetter("free_slots")


def dispatch(turn: Turn) -> None:
    """Lease ready stars while there is a free slot that fits: highest priority first, then the longest ready."""
    while (chosen := _next_placement(turn.state)) is not None:
        entry, workers = chosen
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
        worker = _pick(star, workers)
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


def _next_placement(state: State) -> tuple[ReadyStar, list[Worker]] | None:
    """The first star in order for which some worker has a free slot, and those workers."""
    best: tuple[ReadyStar, list[Worker]] | None = None
    for capabilities in state.placeable():
        workers = [worker for worker in state.candidates(capabilities) if worker.free_slots > 0]
        entry = state.first_ready(capabilities) if workers else None
        if entry is not None and (best is None or entry < best[0]):
            best = entry, workers
    return best


def _pick(star: TaskStar, workers: list[Worker]) -> Worker:
    """The worker with the most free slots, the first by id among equals; one that has not tried this star if any."""
    if star.attempts:
        tried = {attempt.worker for attempt in star.attempts}
        workers = [worker for worker in workers if worker.id not in tried] or workers
    return workers[0] if len(workers) == 1 else max(workers, key=_FREE_SLOTS)


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
