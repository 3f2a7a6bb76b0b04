"""When somebody is asked to rewrite a graph that is under way: a star is added that asks, and what it may save waits.

The star is made from the request's own rule (`TaskConstellation.replan`), at most `Budget.replans` times. Children that
a failure would skip are held by lines of kind GUARD until it has ended; everything else goes on being dispatched.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from asterism.orchestrator.core.check import check_spec
from asterism.orchestrator.core.condition import Condition
from asterism.orchestrator.core.constellation import BY_BUDGET, BY_POLICY, TaskConstellation
from asterism.orchestrator.core.edits import AddLine, AddStar, Edit, RebindInputs
from asterism.orchestrator.core.errors import WrongState
from asterism.orchestrator.core.events import ReplanRequested
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.records import EditsApplied
from asterism.orchestrator.core.retry import check_left
from asterism.orchestrator.core.star import Constant, StarInput, StarKind, StarSpec, StarState, TaskStar
from asterism.orchestrator.core.state import PRESSURE, Worker
from asterism.orchestrator.core.turn import Turn
from asterism.orchestrator.core.values import Artifact

WHY: Final = "why"
"""The input that says why a rewrite is asked for."""
MUST_EDIT: Final = "must_edit"
"""The input that is true where something has failed: a rewrite that succeeds has dealt with it, so one that has nothing
to change fails."""
_MAX_WHY: Final = 2_000
_MAX_NAMED: Final = 8


def replans_of(constellation: TaskConstellation) -> Iterator[TaskStar]:
    """The stars that were asked to rewrite the graph, in their order."""
    number = 1
    while (star := constellation.stars.get(replan_id(number))) is not None and star.spec.asks_replan:
        yield star
        number += 1


def replan_id(number: int) -> StarId:
    """`replan.1`, `replan.2`: a name that no plan may give."""
    return StarId(f"replan.{number}")


def is_held(constellation: TaskConstellation, child: StarId) -> bool:
    """Whether a rewrite is under way that may yet save the child."""
    # Few are asked for, and of a gather thousands of parents may fail.
    parents = constellation.parents[child]
    lines = (parents.get(star.spec.id) for star in replans_of(constellation) if not star.state.is_terminal)
    return any(line is not None and line.kind is LineKind.GUARD for line in lines)


def hold_for(turn: Turn, constellation: TaskConstellation, line: TaskStarLine) -> bool:
    """Hold the child of a new line whose parent has failed, while the rewrite that the failure led to is under way."""
    for star in replans_of(constellation):
        star_id = star.spec.id
        if star.state.is_terminal or star_id not in constellation.children[line.parent]:
            continue
        known = constellation.parents[line.child].get(star_id)
        if known is not None and known.kind is not LineKind.GUARD:
            continue  # It waits for the rewrite anyway, and has no hope after it.
        if known is None:
            if not _to_hold(constellation, (line.child,), star):
                continue
            _record(turn, constellation, [AddLine(TaskStarLine(star_id, line.child, LineKind.GUARD))], "")
        return True
    return False


def ask_replan(
    turn: Turn,
    constellation: TaskConstellation,
    why: str,
    *,
    cause: StarId | None = None,
    held: Sequence[StarId] = (),
    by: str = BY_POLICY,
) -> None:
    """Have the graph rewritten because of `why`, if somebody can be asked (any more).

    `cause` is the star that failed, `held` are those that wait for the rewrite. A rewrite that has not begun yet takes
    this on as well; one that runs has seen the graph, and another one follows it.
    """
    rule = constellation.replan
    if rule is None or constellation.state.is_terminal:
        return
    number = sum(1 for _ in replans_of(constellation))
    is_new = number == 0 or _has_begun(constellation.stars[replan_id(number)])
    if is_new:
        known = turn.state.known_capabilities()
        if number >= constellation.budget.replans or len(constellation.stars) >= constellation.budget.stars:
            return
        if replan_id(number + 1) in constellation.stars:
            return
        if known and not rule.capabilities <= known:
            return
    _ask(turn, constellation, rule, why, cause, held, by)


def on_wish(turn: Turn, constellation: TaskConstellation, event: ReplanRequested) -> None:
    """A person's wish is no matter of the budget of rewrites; it may bring back a request that has ended.

    Raises WrongState where nobody can be asked.
    """
    rule = constellation.replan or event.rule
    if rule is None:
        reason = "nobody rewrites it: no worker offers a model that plans (its label planner=NAME)"
        raise WrongState("request", constellation.id, constellation.state.value, reason)
    check_spec(rule, turn.state.known_capabilities())
    if constellation.state.is_terminal:
        check_left(constellation)
    if len(constellation.stars) >= constellation.budget.stars:
        reason = f"its budget of {constellation.budget.stars} stars is used up"
        raise WrongState("request", constellation.id, constellation.state.value, reason)
    number = sum(1 for _ in replans_of(constellation))
    taken = constellation.stars.get(replan_id(number + 1))
    if taken is not None:
        # From before these names were kept for rewrites.
        reason = f"its star {taken.spec.id} has the name that a rewrite would have"
        raise WrongState("request", constellation.id, constellation.state.value, reason)
    _ask(turn, constellation, rule, event.why, None, (), event.by)


def _has_begun(star: TaskStar) -> bool:
    return star.state.is_terminal or bool(star.attempts)


def _ask(
    turn: Turn,
    constellation: TaskConstellation,
    rule: StarSpec,
    why: str,
    cause: StarId | None,
    held: Sequence[StarId],
    by: str,
) -> None:
    asked = list(replans_of(constellation))
    last = asked[-1] if asked else None
    edits: list[Edit] = []
    if last is not None and not _has_begun(last):
        star_id = last.spec.id
        earlier = last.spec.inputs.get(WHY)
        if isinstance(earlier, Constant):
            given: dict[str, StarInput] = {WHY: Constant(_bounded(f"{earlier.value}\n{why}"))}
            if cause is not None:
                given[MUST_EDIT] = Constant(True)
            edits.append(RebindInputs(star_id, given))
    else:
        star_id = replan_id(len(asked) + 1)
        inputs = {**rule.inputs, WHY: Constant(_bounded(why)), MUST_EDIT: Constant(cause is not None)}
        edits.append(AddStar(replace(rule, id=star_id, inputs=inputs)))
        edits.extend(AddLine(TaskStarLine(of, star_id, LineKind.COMPLETION)) for of in _first(constellation))
    known_parents = constellation.parents.get(star_id, {})
    if cause is not None and cause not in known_parents:
        edits.append(AddLine(TaskStarLine(cause, star_id, LineKind.COMPLETION)))
    if last is not None and last.spec.id == star_id:
        held = _to_hold(constellation, held, last)
    edits.extend(AddLine(TaskStarLine(star_id, child, LineKind.GUARD)) for child in held)
    _record(turn, constellation, edits, why, by)


def waiting_children(constellation: TaskConstellation, star: StarId) -> list[StarId]:
    """The children of a star that have not begun."""
    children = (constellation.stars[child] for child in constellation.children.get(star, ()))
    return [child.spec.id for child in children if child.state in (StarState.WAITING, StarState.READY)]


def on_surprise(turn: Turn, constellation: TaskConstellation, star: TaskStar, surprise: Condition) -> None:
    """Ask where a result is as its star calls surprising. What lies in an artifact is not looked into here."""
    unread = surprise.looks_into_result and isinstance(star.result, Artifact)
    if constellation.replan is None or unread or not surprise.holds(constellation.outcome(star.spec.id)):
        return
    children = waiting_children(constellation, star.spec.id)
    ask_replan(turn, constellation, f"the result of {star.spec.id} is a surprise: {surprise}", held=children)


def on_departure(turn: Turn, worker: Worker) -> None:
    """A worker is gone for good: ask where stars wait for what only it offered."""
    known = turn.state.known_capabilities()
    gone = worker.capabilities - known
    if not gone or not known:
        return
    for constellation in list(turn.state.constellations.values()):
        if constellation.replan is None or constellation.state.is_terminal:
            continue
        stuck = [star_id for star_id, star in constellation.stars.items() if _is_stuck(star, gone)]
        if stuck:
            needed = frozenset[str]().union(*(constellation.stars[star_id].spec.capabilities for star_id in stuck))
            lacking = sorted(needed & gone)
            why = f"the worker {worker.id} has left, and nobody else offers {_some(lacking)}, which these need: "
            why += _some(stuck)
            if not _was_told(constellation, why, stuck):
                ask_replan(turn, constellation, why)


def _was_told(constellation: TaskConstellation, why: str, stuck: Sequence[StarId]) -> bool:
    """Whether a rewrite has looked at this since `stuck` ran last: after a restart departures are looked at again."""
    attempts = (attempt for star_id in stuck for attempt in constellation.stars[star_id].attempts[-1:])
    since = max((attempt.leased_at for attempt in attempts), default=0.0)
    for star in replans_of(constellation):
        told = star.spec.inputs.get(WHY)
        was_told = isinstance(told, Constant) and why in str(told.value)
        if was_told and (not _has_begun(star) or any(attempt.leased_at >= since for attempt in star.attempts)):
            return True
    return False


def _is_stuck(star: TaskStar, gone: frozenset[str]) -> bool:
    waits = not star.state.is_terminal and star.live_attempt is None and not star.spec.is_decided_by_people
    return waits and not star.spec.asks_replan and not gone.isdisjoint(star.spec.capabilities)


def on_pressure(turn: Turn, constellation: TaskConstellation, of: str) -> None:
    """Most of a budget is used: ask, once, for what gets by with the rest."""
    if not constellation.is_pressed:
        ask_replan(turn, constellation, f"{PRESSURE:.0%} of the budget of {of} are used", by=BY_BUDGET)


def is_pressing(used: int, before: int, budget: int) -> bool:
    """Whether the use of a budget has just passed PRESSURE."""
    mark = PRESSURE * budget
    return before < mark <= used


def _first(constellation: TaskConstellation) -> Iterator[StarId]:
    """What a new rewrite waits for: the plans and rewrites that are just being written."""
    for star_id, star in constellation.stars.items():
        if star.spec.kind is StarKind.PLAN and star.live_attempt is not None:
            yield star_id


def _to_hold(constellation: TaskConstellation, children: Sequence[StarId], replan: TaskStar) -> Sequence[StarId]:
    """Those to which no line from the rewrite leads yet, and to which one would close no cycle."""
    free = [child for child in children if replan.spec.id not in constellation.parents.get(child, {})]
    reached = set(free)
    pending = list(free)
    while pending:
        new = [below for below in constellation.children.get(pending.pop(), ()) if below not in reached]
        reached.update(new)
        pending.extend(new)
    if replan.spec.id not in reached:
        return free
    leading = {replan.spec.id}
    pending = [replan.spec.id]
    while pending:
        above = constellation.parents.get(pending.pop(), ())
        new = [parent for parent in above if parent in reached and parent not in leading]
        leading.update(new)
        pending.extend(new)
    return [child for child in free if child not in leading]


def _bounded(text: str) -> str:
    return text if len(text) <= _MAX_WHY else text[: _MAX_WHY - 3] + "..."


def _record(
    turn: Turn, constellation: TaskConstellation, edits: Sequence[Edit], reason: str, by: str = BY_POLICY
) -> None:
    turn.touch(constellation)
    turn.record(
        EditsApplied(
            turn.seq, turn.at, constellation.id, constellation.revision + 1, by, tuple(edits), _bounded(reason)
        )
    )


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _MAX_NAMED} more" if len(listed) > _MAX_NAMED else ""
    return ", ".join(listed[:_MAX_NAMED]) + more
