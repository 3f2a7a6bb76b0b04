"""Results that stand for others: of a finished star for the one that retries it, and of what is pure for its like.

What must be equal is the content key: kind, program and its version, requirements, and the inputs as they are given,
which are the parents' results. Names of stars are no part of it: a retry's parents have other names.
"""

import hashlib
import json
from collections.abc import Mapping

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.ids import StarId, first_of
from asterism.orchestrator.core.inputs import Inputs, resolve_inputs
from asterism.orchestrator.core.line import LineKind
from asterism.orchestrator.core.profile import Description, Effect
from asterism.orchestrator.core.results import Reused
from asterism.orchestrator.core.star import ParentOutcomes, StarError, StarSpec, StarState, TaskStar, Told
from asterism.orchestrator.core.state import State
from asterism.orchestrator.core.values import Artifact, Json


def content_key(spec: StarSpec, version: str, inputs: Inputs) -> bytes:
    """SHA-256 of all that the result may depend on."""
    values: dict[str, Json] = dict(inputs.values)
    for name, source in spec.inputs.items():
        outcomes = values[name]
        if isinstance(source, ParentOutcomes) and isinstance(outcomes, Mapping):
            # Pairs: of a star and its retry both may be parents, and neither may hide the other.
            values[name] = [[first_of(StarId(parent)), outcome] for parent, outcome in outcomes.items()]
    places = [
        [
            place.input,
            [first_of(StarId(step)) if isinstance(step, str) else step for step in place.at],
            place.artifact.sha256,
            list(place.path),
        ]
        for place in inputs.places
    ]
    whole = [spec.kind.value, spec.program, version, sorted(spec.requires), values, places]
    return hashlib.sha256(json.dumps(whole, sort_keys=True, separators=(",", ":"), default=dict).encode()).digest()


def find_reused(
    state: State, constellation: TaskConstellation, star: TaskStar, description: Description, inputs: Inputs, at: float
) -> Reused | None:
    """The result that the star would have, where it is known: from the star that it retries, or of its like."""
    spec = star.spec
    if not _is_closed(spec) or inputs.streams:
        return None
    if spec.reuses is not None:
        before = constellation.stars[spec.reuses]
        given = resolve_inputs(state, constellation, before)
        if (
            before.state is StarState.SUCCEEDED
            and not isinstance(given, StarError)
            and content_key(before.spec, before.version, given) == content_key(spec, description.version, inputs)
        ):
            return Reused(before.result, before.source or f"{constellation.id}/{spec.reuses}")
    if state.results is None or not _is_kept(description):
        return None
    return state.results.find(constellation.owner, content_key(spec, description.version, inputs), at=at)


def keep_result(state: State, constellation: TaskConstellation, star: TaskStar, description: Description) -> None:
    """Keep the result of what has just succeeded for its like, where that is wanted and allowed."""
    if state.results is None or not _is_kept(description) or not _is_closed(star.spec):
        return
    if isinstance(star.result, Artifact):
        return
    lines = constellation.parents.get(star.spec.id, {}).values()
    if any(line.kind is LineKind.STREAM for line in lines):
        return  # It may have ended before it had heard everything.
    inputs = resolve_inputs(state, constellation, star)
    if isinstance(inputs, StarError) or description.cache_s is None or star.finished_at is None:
        return
    reused = Reused(star.result, f"{constellation.id}/{star.spec.id}")
    key = content_key(star.spec, description.version, inputs)
    state.results.keep(constellation.owner, key, reused, until=star.finished_at + description.cache_s)


def _is_kept(description: Description) -> bool:
    return description.effect is Effect.PURE and description.cache_s is not None


def _is_closed(spec: StarSpec) -> bool:
    """Whether all that the star does is its result, and all that it knows its inputs."""
    return not (spec.may_edit or any(isinstance(source, Told) for source in spec.inputs.values()))
