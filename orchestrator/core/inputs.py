"""What a star is given when it is dispatched: values, and places that are filled from artifacts."""

from dataclasses import dataclass, field
from typing import Final

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.effects import Place
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
from asterism.orchestrator.core.state import State
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
    streams: list[str] = field(default_factory=list)
    """Those that a parent is still writing: they have no value yet."""


_NO_INPUTS: Final = Inputs()


def resolve_inputs(state: State, constellation: TaskConstellation, star: TaskStar) -> Inputs | StarError:
    """Every input as a value, or as a place for one. What a result contains is data: it is never looked into for
    references, and what lies in an artifact is not looked at here at all."""
    if not star.spec.inputs:
        return _NO_INPUTS
    inputs = Inputs()
    size = 0
    for name, source in star.spec.inputs.items():
        match source:
            case Constant(value):
                inputs.values[name] = value
                continue
            case OutputOf(parent_id, path):
                parent = constellation.stars[parent_id]
                if parent.state is StarState.RUNNING:
                    inputs.streams.append(name)
                    continue
                found = parent.result if parent.state is StarState.SUCCEEDED else MISSING
                if isinstance(found, Artifact):
                    inputs.places.append(Place(name, (), found, path))
                    size += json_bytes(path)
                    found = None
                elif not isinstance(found, Missing):
                    found = find_at(found, path)
                if isinstance(found, Missing):
                    return missing_input(name, source)
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


def missing_input(name: str, source: OutputOf) -> StarError:
    """Why a star fails that is to be given what its parent's result does not have."""
    where = "".join(f"[{step!r}]" for step in source.path)
    return StarError("input_missing", f"input {name}: {source.star}{where} has no value")


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
