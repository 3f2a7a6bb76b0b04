"""Random graphs of which a part is pending, each with another one that an edit of that part could lead to."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hypothesis import strategies as st

from asterism.orchestrator.core.apply import apply
from asterism.orchestrator.core.constellation import PLAN_STAR, TaskConstellation
from asterism.orchestrator.core.edits import Edit
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.records import EditsApplied
from asterism.orchestrator.core.request import Budget, Request
from asterism.orchestrator.core.star import (
    Constant,
    OutputOf,
    ParentOutcomes,
    RetryPolicy,
    StarInput,
    StarKind,
    StarSpec,
    StarState,
    TaskStar,
)
from asterism.orchestrator.core.state import State
from asterism.planner.plan_file import plan_batches
from tests.strategies import (
    capability_sets,
    conditions,
    json_mappings,
    json_scalars,
    lines_of_text,
    paths,
    priorities,
    timeouts,
)

IDS: Final = tuple(StarId(name) for name in ("plan", "a", "b.c", "d~x", "1", "null", "g"))
"""In an order in which lines lead from earlier ones to later ones."""
NAMES: Final = ("x", "y", "true")
PENDING: Final = (StarState.WAITING, StarState.READY)
_PLACES: Final = ("begun", "kept", "changed", "removed", "added", "nowhere")
"""Where a star is: in both graphs, in one, or in none. Nobody adds a planning star."""
_FREE: Final = ("requires", "priority", "timeouts", "retry", "title")
_LOST: Final = (StarState.FAILED, StarState.CANCELLED)
_retries = st.builds(
    RetryPolicy, st.integers(1, 100), st.floats(0, 10), st.floats(1, 10), st.floats(10, 1e5), st.floats(0, 1)
)
_constants = st.builds(Constant, json_scalars | json_mappings)


@dataclass
class Pair:
    """A graph, and another that shares with it what runs or has ended."""

    base: TaskConstellation
    target: TaskConstellation


def empty(seq: int = 7) -> TaskConstellation:
    """A constellation without stars."""
    return TaskConstellation(ConstellationId("c1"), "r", "ann", Request("plan", "x"), Budget(), 0, 0, 3, seq=seq)


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    """Both hold by the core's rules."""
    base, target = empty(), empty()
    for star_id in IDS:
        place = draw(st.sampled_from(_PLACES[: 3 if star_id == PLAN_STAR else None]))
        lines: Mapping[StarId, TaskStarLine] = {}
        if place in ("begun", "kept", "changed", "removed"):
            state = draw(st.sampled_from([s for s in StarState if (s in PENDING) == (place != "begun")]))
            # What has begun has parents that have, too.
            among = [star for star in base.stars if place != "begun" or base.stars[star].state not in PENDING]
            quorum, lines = draw(_parents(base, star_id, among=among))
            inputs = draw(_inputs(lines))
            spec = draw(_specs(star_id, inputs, quorum))
            _add(base, TaskStar(spec, state, 1), lines)
            if place == "begun":
                _add(target, TaskStar(spec, state, 1), {p: line for p, line in lines.items() if p in target.stars})
            if place == "changed" or (place == "kept" and not lines.keys() <= target.stars.keys()):
                place = "changed"
                quorum, lines = draw(_parents(target, star_id, quorum))
                if quorum == spec.quorum:
                    inputs = {**draw(st.fixed_dictionaries(dict.fromkeys(inputs, _constants))), **draw(_inputs(lines))}
                    other = draw(_specs(star_id, inputs, quorum))
                    spec = replace(spec, **{name: getattr(other, name) for name in _FREE}, inputs=inputs)
                    _add(target, TaskStar(_mended(spec), state, 1), lines)
            elif place == "kept":
                _add(target, TaskStar(spec, state, 1), lines)
        elif place == "added":
            quorum, lines = draw(_parents(target, star_id))
            _add(target, TaskStar(draw(_specs(star_id, draw(_inputs(lines)), quorum)), StarState.WAITING, 1), lines)
    return Pair(base, target)


def _add(to: TaskConstellation, star: TaskStar, lines: Mapping[StarId, TaskStarLine]) -> None:
    to.stars[star.spec.id] = star
    to.unfinished += not star.state.is_terminal
    hears = not star.spec.is_decided_by_people and ParentOutcomes() not in star.spec.inputs.values()
    for line in lines.values():
        to.add_line(line if hears or line.kind is not LineKind.STREAM else replace(line, kind=LineKind.SUCCESS))


@st.composite
def _parents(
    draw: st.DrawFn,
    of: TaskConstellation,
    star_id: StarId,
    quorum: int | None = None,
    among: Sequence[StarId] | None = None,
) -> tuple[int, Mapping[StarId, TaskStarLine]]:
    """A quorum, the one that is given where it can be reached, and lines from some of the stars that are there."""
    stars = list(of.stars) if among is None else among
    voters = [star for star in stars if of.stars[star].state not in _LOST]
    wanted = draw(st.sampled_from([0, 0, 1, 2])) if quorum is None else quorum
    wanted = min(wanted, len(voters))
    voting = draw(st.permutations(voters))[: draw(st.integers(wanted, len(voters)))] if wanted else []
    lines = {parent: TaskStarLine(parent, star_id, LineKind.QUORUM) for parent in voting}
    for parent in stars:
        if parent not in lines and draw(st.booleans()):
            kinds = [LineKind.SUCCESS, LineKind.SUCCESS, LineKind.COMPLETION, LineKind.CONDITION, LineKind.STREAM]
            kind = draw(st.sampled_from(kinds))
            condition = draw(conditions) if kind is LineKind.CONDITION else None
            lines[parent] = TaskStarLine(parent, star_id, kind, condition)
    return wanted, lines


@st.composite
def _inputs(draw: st.DrawFn, lines: Mapping[StarId, TaskStarLine]) -> dict[str, StarInput]:
    parents = [parent for parent, line in lines.items() if line.kind is not LineKind.QUORUM]
    some: st.SearchStrategy[StarInput] = _constants | st.just(ParentOutcomes())
    if parents:
        some |= st.builds(OutputOf, st.sampled_from(parents), paths)
    return draw(st.dictionaries(st.sampled_from(NAMES), some, max_size=3))


def _specs(star_id: StarId, inputs: Mapping[str, StarInput], quorum: int) -> st.SearchStrategy[StarSpec]:
    return st.builds(
        StarSpec,
        st.just(star_id),
        st.sampled_from(StarKind),
        st.sampled_from(["answer", "t.u-v", "3"]),
        inputs=st.just(inputs),
        requires=capability_sets,
        priority=priorities,
        timeouts=timeouts,
        retry=_retries,
        may_edit=st.booleans(),
        title=lines_of_text,
        is_idempotent=st.none() | st.booleans(),
        quorum=st.just(quorum),
    ).map(_mended)


def _mended(spec: StarSpec) -> StarSpec:
    """An approval requires nothing and edits nothing."""
    return replace(spec, requires=frozenset(), may_edit=False) if spec.is_decided_by_people else spec


_PLAN: Final = """\
stars:
  fetch: {kind: tool, program: noop}
  old: {kind: tool, program: noop, after: [fetch]}
  each: {kind: map, over: {$from: fetch, $path: [items]}, after: [old],
         each: {kind: agent, program: answer, inputs: {task: Rate it., offer: {$item: true}, page: {$from: old}}}}
  report:
    kind: agent
    program: answer
    title: The report
    inputs: {task: "Write it up.\\nIn two lines.", rated: {$from: each}}
    after: [{star: old, when: result.ok == true}]
"""


def planned() -> TaskConstellation:
    """The stars of a plan: `fetch` runs, the rest is pending."""
    of = empty()
    for edits in plan_batches(_PLAN):
        of = edited(of, edits)
    of.stars[StarId("fetch")].state = StarState.RUNNING
    return of


def edited(base: TaskConstellation, edits: tuple[Edit, ...]) -> TaskConstellation:
    """The graph behind the edits, by the core's own fold."""
    state = State()
    of = copy.deepcopy(base)
    state.adopt(of, at=0.0)
    apply(state, EditsApplied(of.seq + 1, 1.0, of.id, of.revision + 1, "client:ann", edits))
    return of
