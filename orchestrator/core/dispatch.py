"""Placement: which ready star goes to which worker now, and what it is given."""

from dataclasses import dataclass, field
from typing import Final

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.effects import Assign, Place
from asterism.orchestrator.core.ending import end_constellation, finish_star
from asterism.orchestrator.core.ids import FencingToken
from asterism.orchestrator.core.records import AttemptLeased
from asterism.orchestrator.core.replan import is_pressing, on_pressure
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.star import (
    Constant,
    OutputOf,
    ParentOutcomes,
    StarError,
    StarState,
    TaskStar,
    Telling,
    Told,
)
from asterism.orchestrator.core.state import ReadyStar, State, Worker
from asterism.orchestrator.core.turn import Turn
from asterism.orchestrator.core.values import MISSING, Artifact, Json, Missing, find_at, json_bytes

MAX_INPUTS_BYTES: Final = 2 * 1024 * 1024
"""All inputs of one assignment, about: half of what a frame may carry. Artifacts do not travel in it."""
PLACE_BYTES: Final = 128
"""What a place to be filled takes there, its paths apart."""


@dataclass(slots=True)
class Inputs:
    """What a star is given: values, and the places in them that the worker fills from artifacts."""

    values: dict[str, Json] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)


def dispatch(turn: Turn) -> None:
    """Lease ready stars while there is a free slot that fits: highest priority first, then the longest ready."""
    while (chosen := _next_placement(turn)) is not None:
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
        _lease(turn, constellation, star, _pick(star, workers), inputs)


def _next_placement(turn: Turn) -> tuple[ReadyStar, list[Worker]] | None:
    """The first star in order for which some worker has a free slot, and those workers."""
    best: tuple[ReadyStar, list[Worker]] | None = None
    for capabilities in turn.state.placeable():
        entry = turn.state.first_ready(capabilities)
        if entry is None or (best is not None and best[0] < entry):
            continue
        workers = [worker for worker in turn.state.candidates(capabilities) if _free_slots(worker) > 0]
        if workers:
            best = entry, workers
    return best


def _pick(star: TaskStar, workers: list[Worker]) -> Worker:
    """The worker with the most free slots, the first by id among equals; one that has not tried this star if any."""
    if star.attempts:
        tried = {attempt.worker for attempt in star.attempts}
        workers = [worker for worker in workers if worker.id not in tried] or workers
    return workers[0] if len(workers) == 1 else max(workers, key=_free_slots)


def _free_slots(worker: Worker) -> int:
    return worker.profile.slots - len(worker.running)


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
        )
    )


def _model(requires: frozenset[str]) -> str | None:
    return min((name.removeprefix("model:") for name in requires if name.startswith("model:")), default=None)


def resolve_inputs(state: State, constellation: TaskConstellation, star: TaskStar) -> Inputs | StarError:
    """Every input as a value, or as a place for one. What a result contains is data: it is never looked into for
    references, and what lies in an artifact is not looked at here at all."""
    inputs = Inputs()
    size = 0
    for name, source in star.spec.inputs.items():
        match source:
            case Constant(value):
                inputs.values[name] = value
                continue
            case OutputOf(parent_id, path):
                parent = constellation.stars[parent_id]
                found = parent.result if parent.state is StarState.SUCCEEDED else MISSING
                if isinstance(found, Artifact):
                    inputs.places.append(Place(name, (), found, path))
                    size += json_bytes(path)
                    found = None
                elif not isinstance(found, Missing):
                    found = find_at(found, path)
                if isinstance(found, Missing):
                    where = "".join(f"[{step!r}]" for step in path)
                    return StarError("input_missing", f"input {name}: {parent_id}{where} has no value")
                inputs.values[name] = found
            case ParentOutcomes():
                parents = constellation.parents.get(star.spec.id, {})
                inputs.values[name] = {parent: constellation.outcome(parent) for parent in parents}
                for parent_id in parents:
                    result = constellation.stars[parent_id].result
                    if isinstance(result, Artifact):
                        inputs.places.append(Place(name, (parent_id, "result"), result, ()))
            case Told(what):
                inputs.values[name] = _tell(state, constellation, what)
        size += json_bytes(inputs.values[name])
        if size + PLACE_BYTES * len(inputs.places) > MAX_INPUTS_BYTES:
            return StarError("inputs_too_large", f"inputs of more than {MAX_INPUTS_BYTES} bytes; {name} went over")
    return inputs


def _tell(state: State, constellation: TaskConstellation, what: Telling) -> Json:
    if what is Telling.REQUEST:
        asked = constellation.request
        return {"form": asked.form, "text": asked.text, "name": asked.name, "options": asked.options}
    return state.tell(what, constellation, state.workers)


def needs_artifact(constellation: TaskConstellation, star: TaskStar, artifact: Artifact) -> bool:
    """Whether the star is given something of the artifact: whoever runs it may read it."""
    for source in star.spec.inputs.values():
        match source:
            case OutputOf(parent_id) if constellation.stars[parent_id].result == artifact:
                return True
            case ParentOutcomes():
                parents = constellation.parents.get(star.spec.id, {})
                if any(constellation.stars[parent].result == artifact for parent in parents):
                    return True
            case _:
                pass
    return False
