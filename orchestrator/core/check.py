"""Whether a batch of edits holds: checked whole against the graph, before any of it is applied."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, assert_never

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.edits import (
    AddLine,
    AddStar,
    CancelStar,
    EditBatch,
    RebindInputs,
    RemoveLine,
    RemoveStar,
    UpdateStar,
    count_edits,
    update_spec,
)
from asterism.orchestrator.core.errors import InvalidEdit, InvalidField, StaleRevision
from asterism.orchestrator.core.ids import StarId, is_name, is_replan_name, is_successor
from asterism.orchestrator.core.line import QUORUM, STREAM, SUCCESS, LineKind, TaskStarLine
from asterism.orchestrator.core.star import (
    OutputOf,
    ParentOutcomes,
    StarInput,
    StarSpec,
    StarState,
    Telling,
    Told,
)

MAX_EDITS: Final = 20_000
"""Edits in one batch, or in one record of a retry, which is as large as the graph; a larger plan comes as several."""
MAX_INPUTS: Final = 64
MAX_STREAMED: Final = 8
"""Inputs of one star from one parent that streams: each piece of its text goes to each of them."""
MAX_REQUIRES: Final = 32
MAX_PRIORITY: Final = 100
MAX_ATTEMPTS: Final = 100
MAX_MULTIPLIER: Final = 100
MAX_QUORUM: Final = 10_000
MAX_NEW_NAME: Final = 60
"""Longest name of a new star: its retries, `name~2` to `name~999`, must be names too."""


def check_batch(
    constellation: TaskConstellation,
    batch: EditBatch,
    known: frozenset[str],
    by: StarId | None = None,
    *,
    is_retry: bool = False,
) -> None:
    """Refuse what does not hold: InvalidEdit names the star and the reason, StaleRevision the stars that changed.

    `known` is every capability that the fleet offers, empty while there is no worker: what nobody offers cannot be
    asked for. `by` is the star whose attempt proposes the batch. Only a retry may add stars with the names of retries,
    and have more than MAX_EDITS.
    """
    base = batch.base_revision
    if base is not None and base > constellation.revision:
        raise InvalidField("base_revision", f"{base} has not been reached: the graph is at {constellation.revision}")
    if not batch.edits:
        raise InvalidField("edits", "a batch needs at least one edit")
    worth = count_edits(batch.edits)
    if worth > MAX_EDITS and not is_retry:
        raise InvalidField("edits", f"{worth} edits in one batch, with the parents of new stars; at most {MAX_EDITS}")
    draft = _Draft(constellation, known, by, is_retry=is_retry)
    for edit in batch.edits:
        # Most are new stars, and a graph has thousands of them.
        if isinstance(edit, AddStar):
            draft.add_star(edit)
        elif isinstance(edit, AddLine):
            draft.add_line(edit.line)
        else:
            draft.take(edit)
    if base is not None:
        changed = [
            star for star in draft.named if star in constellation.stars and constellation.stars[star].revision > base
        ]
        if changed:
            raise StaleRevision(base, constellation.revision, changed)
    draft.check_references()
    draft.check_acyclic()


class _Draft:
    """The graph as the batch would leave it: only what differs from the graph as it is."""

    def __init__(
        self, constellation: TaskConstellation, known: frozenset[str], by: StarId | None, *, is_retry: bool
    ) -> None:
        self._graph = constellation
        self._known = known
        self._by = by
        self._is_retry = is_retry
        self._added: dict[StarId, StarSpec] = {}
        self._removed: dict[StarId, None] = {}
        self._inputs: dict[StarId, Mapping[str, StarInput]] = {}
        self._parents: dict[StarId, dict[StarId, LineKind]] = {}
        self._new_children: dict[StarId, list[StarId]] = {}
        self._cut: set[tuple[StarId, StarId]] = set()
        self._lessened: dict[StarId, None] = {}
        """Stars that lose a parent."""
        self._heads: dict[StarId, bool] = {}
        """Children of new lines, and whether a cycle may have been closed there."""
        self._last: StarSpec | None = None
        """The new star that was checked last: most of a plan are like the one before."""
        self.named: dict[StarId, None] = {}
        """Of those that were there before."""

    def take(self, edit: RemoveStar | UpdateStar | RemoveLine | RebindInputs | CancelStar) -> None:
        """Check an edit of what is there against the draft so far, and add it."""
        match edit:
            case RemoveStar(star):
                self._remove_star(star)
            case UpdateStar(star):
                self._need_editable(star, "updated")
                spec = update_spec(self._spec(star), edit)
                check_spec(spec, self._known)
                if edit.retry is not None:
                    self._check_attempts_left(star, spec.retry.max_attempts)
            case RemoveLine(parent, child):
                self._need_editable(child, "given other parents")
                self.named[parent] = None
                if parent not in self._parents_of(child):
                    raise InvalidEdit(child, f"has no line from {parent}")
                if self._parents_of(child)[parent] is LineKind.GUARD:
                    raise InvalidEdit(child, f"waits for the rewrite {parent}: cancel that instead")
                del self._parents_of(child)[parent]
                self._cut.add((parent, child))
                self._lessened[child] = None
            case RebindInputs(star, inputs):
                self._need_editable(star, "given other inputs")
                self._inputs[star] = {**self._inputs_of(star), **inputs}
                _check_inputs(star, self._inputs[star])
                _check_told(star, inputs)
            case CancelStar(star):
                self._need(star)
                if star == self._by:
                    raise InvalidEdit(star, "cannot cancel itself; it may fail instead")
            case _:
                assert_never(edit)

    def add_star(self, edit: AddStar) -> None:
        """Check a new star and its lines against the draft so far, and add them."""
        spec = edit.spec
        if not self._is_retry:
            check_new_name(spec.id)
            if spec.reuses is not None:
                raise InvalidEdit(spec.id, "only a retry says whose result may stand for a star's")
        # A name is not free again in the batch that removes it: what the draft knows of the old star would stick to it.
        if spec.id in self._graph.stars or spec.id in self._added or spec.id in self._removed:
            raise InvalidEdit(spec.id, "there is a star of this name already")
        if len(self._graph.stars) + len(self._added) >= self._graph.budget.stars:
            reason = f"the request's budget of {self._graph.budget.stars} stars is used up"
            instead = ": name fewer stars to retry, or submit it anew with a larger budget" if self._is_retry else ""
            raise InvalidEdit(spec.id, reason + instead)
        if self._last is None or not _are_alike(spec, self._last):
            check_spec(spec, self._known)
            self._last = spec
        else:
            _check_name(spec.id)
            _check_inputs(spec.id, spec.inputs)
        _check_told(spec.id, spec.inputs)
        self._added[spec.id] = spec
        if edit.after:
            self._add_parents(spec.id, edit.after)

    def _add_parents(self, star: StarId, after: Sequence[StarId]) -> None:
        """What `add_line` does for each of them, of a star that was added just now and so has no children."""
        parents = self._parents[star] = dict.fromkeys(after, SUCCESS)
        if len(parents) < len(after):
            (twice, _), *_ = Counter(after).most_common(1)
            raise InvalidEdit(star, f"has a line from {twice} already")
        for parent in parents:
            if parent not in self._added:
                self._need(parent)
            children = self._new_children.get(parent)
            if children is None:
                self._new_children[parent] = [star]
            else:
                children.append(star)
        self._heads[star] = star in parents

    def _remove_star(self, star: StarId) -> None:
        self._need_editable(star, "removed")
        known = self._graph.stars.get(star)
        if known is not None and known.spec.asks_replan:
            raise InvalidEdit(star, "asks for a rewrite, and others wait for it: cancel it instead")
        if known is not None and any(attempt.holds_slot for attempt in known.attempts):
            raise InvalidEdit(star, "has an attempt that its worker has not stopped yet; remove it after that")
        for child in self._children_of(star):
            self._parents_of(child).pop(star, None)
            self._lessened[child] = None
        self._added.pop(star, None)
        self._removed[star] = None

    def _check_attempts_left(self, star: StarId, max_attempts: int) -> None:
        """A star that waits for its next attempt must keep one: nothing would say why it never came."""
        known = None if star in self._added else self._graph.stars[star]
        outcomes = [] if known is None else [attempt.outcome for attempt in known.attempts]
        used = sum(outcome.is_failure for outcome in outcomes if outcome is not None)
        if used >= max_attempts:
            raise InvalidEdit(star, f"has used {used} attempts already; max_attempts must be more, or cancel it")

    def add_line(self, line: TaskStarLine) -> None:
        """Check a new line against the draft so far, and add it."""
        parent, child = line.parent, line.child
        # Most join two new stars.
        if parent not in self._added:
            self._need(parent)
        if child not in self._added:
            self._need_editable(child, "given other parents")
        if line.kind is not SUCCESS or line.condition is not None:
            self._check_kind(line)
        parents = self._parents.get(child)
        if parents is None:
            parents = self._parents_of(child)
        if parent in parents:
            raise InvalidEdit(child, f"has a line from {parent} already")
        parents[parent] = line.kind
        if self._cut:
            self._cut.discard((parent, child))
        # The line of a cycle that comes last is one whose child has children already, or is its own.
        if child == parent or child in self._graph.children or child in self._new_children:
            self._heads[child] = True
        elif child not in self._heads:
            self._heads[child] = False
        children = self._new_children.get(parent)
        if children is None:
            self._new_children[parent] = [child]
        else:
            children.append(child)

    def _check_kind(self, line: TaskStarLine) -> None:
        parent, child = line.parent, line.child
        if (line.kind is LineKind.CONDITION) != (line.condition is not None):
            raise InvalidEdit(child, "a line has a condition exactly when its kind is condition")
        if line.condition is not None and (fault := line.condition.find_fault()) is not None:
            raise InvalidEdit(child, f"its line from {parent}: {fault}")
        if line.kind is QUORUM and not self._spec(child).quorum:
            raise InvalidEdit(child, "a line of kind quorum needs a star with a quorum")
        if line.kind is LineKind.GUARD:
            raise InvalidEdit(child, "lines of kind guard are kept for rewrites")
        if line.kind is STREAM and self._spec(child).is_decided_by_people:
            raise InvalidEdit(child, f"a person decides about what is whole: its line from {parent} cannot stream")

    def check_references(self) -> None:
        """Each input that takes a star's output must take it from a parent."""
        for star in {**self._added, **self._inputs, **self._parents}:
            if star in self._removed:
                continue
            spec = self._spec(star)
            inputs = self._inputs.get(star, spec.inputs)
            if not inputs and not spec.quorum:
                continue
            parents = self._parents_of(star)
            for name, source in inputs.items():
                if isinstance(source, ParentOutcomes) and STREAM in parents.values():
                    raise InvalidEdit(star, f"input {name} takes all parents, and one of them by a line that streams")
                if not isinstance(source, OutputOf):
                    continue
                if source.star not in parents:
                    raise InvalidEdit(star, f"input {name} refers to {source.star}, which is not a parent of it")
                if parents[source.star] is QUORUM:
                    reason = f"input {name} refers to {source.star}, which its quorum may do without: take all parents"
                    raise InvalidEdit(star, reason)
                if parents[source.star] is STREAM:
                    _check_streamed(star, inputs, source.star)
            # One that has begun may lose a parent that its quorum did without.
            if spec.quorum and not self._has_begun(star):
                self._check_quorum(star, parents)

    def _check_quorum(self, star: StarId, parents: Mapping[StarId, LineKind]) -> None:
        """Enough parents; those that ended without success do not count where some were taken away."""
        quorum = self._spec(star).quorum
        voters = [parent for parent, kind in parents.items() if kind is QUORUM]
        if len(voters) < quorum:
            raise InvalidEdit(star, f"its quorum is {quorum}, and it has {len(voters)} lines of kind quorum")
        if star in self._lessened:
            left = sum(not self._is_lost(parent) for parent in voters)
            if left < quorum:
                raise InvalidEdit(star, f"its quorum of {quorum} would be out of reach: {left} parents are left")

    def _is_lost(self, star: StarId) -> bool:
        known = self._graph.stars.get(star)
        return known is not None and known.state in (StarState.FAILED, StarState.CANCELLED)

    def check_acyclic(self) -> None:
        """A new cycle lies in what is reachable from the child of the new line that closed it.

        Its cost does not depend on the rest of the graph, and a plan whose stars follow their parents has no such line.
        """
        closing = [star for star, may_close in self._heads.items() if may_close]
        if closing and self._stuck(closing):
            # Again from all new lines, in their order: so the cycle is named by how the batch was written.
            cycle = self._find_cycle(self._stuck(list(self._heads)))
            raise InvalidEdit(cycle[0], f"a cycle: {' -> '.join((*cycle, cycle[0]))}")

    def _stuck(self, heads: Sequence[StarId]) -> Mapping[StarId, int]:
        """What is on a cycle or behind one, of what can be reached from `heads`: Kahn's algorithm on that alone."""
        reached: dict[StarId, int] = dict.fromkeys(heads, 0)
        pending = list(reached)
        while pending:
            for child in self._children_of(pending.pop()):
                if child not in reached:
                    reached[child] = 0
                    pending.append(child)
                reached[child] += 1
        free = [star for star, parents in reached.items() if parents == 0]
        while free:
            star = free.pop()
            del reached[star]
            for child in self._children_of(star):
                reached[child] -= 1
                if reached[child] == 0:
                    free.append(child)
        return reached

    def _find_cycle(self, stuck: Mapping[StarId, int]) -> list[StarId]:
        """One cycle, given stars each of which has a parent among them: walk towards the parents until one repeats."""
        walk: dict[StarId, None] = {}
        star = next(iter(stuck))
        while star not in walk:
            walk[star] = None
            star = next(parent for parent in self._parents_of(star) if parent in stuck)
        path = list(walk)
        return path[path.index(star) :][::-1]

    def _need(self, star: StarId) -> None:
        if star in self._added:
            return
        self.named[star] = None
        if star not in self._graph.stars or star in self._removed:
            raise InvalidEdit(star, f"there is no such star; there are {_some(self._graph.stars)}")

    def _need_editable(self, star: StarId, action: str) -> None:
        if star in self._added:
            return
        self._need(star)
        state = self._graph.stars[star].state
        if state is StarState.RUNNING or state.is_terminal:
            raise InvalidEdit(star, f"is {state.value} and cannot be {action} any more")

    def _spec(self, star: StarId) -> StarSpec:
        return self._added[star] if star in self._added else self._graph.stars[star].spec

    def _inputs_of(self, star: StarId) -> Mapping[str, StarInput]:
        found = self._inputs.get(star)
        return self._spec(star).inputs if found is None else found

    def _has_begun(self, star: StarId) -> bool:
        """Whether it runs or has ended."""
        known = None if star in self._added else self._graph.stars[star]
        return known is not None and (known.state is StarState.RUNNING or known.state.is_terminal)

    def _parents_of(self, star: StarId) -> dict[StarId, LineKind]:
        found = self._parents.get(star)
        if found is None:
            known = {} if star in self._added else self._graph.parents.get(star, {})
            found = self._parents[star] = {parent: line.kind for parent, line in known.items()}
        return found

    def _children_of(self, star: StarId) -> Iterator[StarId]:
        for child in self._graph.children.get(star, ()):
            if (star, child) not in self._cut and child not in self._removed:
                yield child
        for child in self._new_children.get(star, ()):
            if (star, child) not in self._cut and child not in self._removed:
                yield child


def check_new_name(star: StarId) -> None:
    """Refuse a name that a retry could not build upon, or that would be taken for a retry of another star."""
    if len(star) > MAX_NEW_NAME:
        raise InvalidEdit(star, f"a new star's name has at most {MAX_NEW_NAME} characters")
    if "~" in star and is_successor(star):
        raise InvalidEdit(star, "names that end in '~' and a number are kept for retries")
    if is_replan_name(star):
        raise InvalidEdit(star, "names like replan.1 are kept for rewrites")


def check_spec(spec: StarSpec, known: frozenset[str]) -> None:
    """Refuse a specification that is out of range, or that no worker ever known could meet."""
    _check_range(spec)
    _check_times(spec)
    _check_offered(spec, known)


def _are_alike(one: StarSpec, other: StarSpec) -> bool:
    """In all that `check_spec` looks at but names and inputs. Timeouts and policies that are equal but not shared count
    as others."""
    return (
        one.kind is other.kind
        and one.timeouts is other.timeouts
        and one.retry is other.retry
        and one.program == other.program
        and one.requires == other.requires
        and one.priority == other.priority
        and one.quorum == other.quorum
        and one.may_edit is other.may_edit
    )


def _check_name(star: StarId) -> None:
    if not is_name(star):
        reason = "a name has 1 to 64 letters, digits, '_', '.', '~' or '-', and begins with a letter or digit"
        raise InvalidEdit(star, reason)


def _check_range(spec: StarSpec) -> None:
    _check_name(spec.id)
    if not is_name(spec.program):
        raise InvalidEdit(spec.id, f"program {spec.program!r} is not a name")
    if abs(spec.priority) > MAX_PRIORITY:
        raise InvalidEdit(spec.id, f"priority {spec.priority} is outside -{MAX_PRIORITY} to {MAX_PRIORITY}")
    if len(spec.requires) > MAX_REQUIRES:
        raise InvalidEdit(spec.id, f"{len(spec.requires)} requirements; at most {MAX_REQUIRES}")
    if not 0 <= spec.quorum <= MAX_QUORUM:
        raise InvalidEdit(spec.id, f"quorum {spec.quorum} is outside 0 to {MAX_QUORUM}")
    if spec.is_decided_by_people and (spec.requires or spec.may_edit):
        raise InvalidEdit(spec.id, "an approval is decided by a person: it requires nothing, and edits nothing")
    _check_inputs(spec.id, spec.inputs)


def _check_offered(spec: StarSpec, known: frozenset[str]) -> None:
    if known and not spec.capabilities <= known:
        for capability in sorted(spec.capabilities - known):
            kind = capability.partition(":")[0]
            offered = sorted(name for name in known if name.partition(":")[0] == kind)
            raise InvalidEdit(spec.id, f"no worker knows {capability}; known are {_some(offered)}")


def _check_inputs(star: StarId, inputs: Mapping[str, StarInput]) -> None:
    if len(inputs) > MAX_INPUTS:
        raise InvalidEdit(star, f"{len(inputs)} inputs; at most {MAX_INPUTS}")
    for name in inputs:
        if not is_name(name):
            raise InvalidEdit(star, f"input {name!r} is not a name")


def _check_streamed(star: StarId, inputs: Mapping[str, StarInput], parent: StarId) -> None:
    taken = sum(isinstance(source, OutputOf) and source.star == parent for source in inputs.values())
    if taken > MAX_STREAMED:
        raise InvalidEdit(star, f"{taken} inputs stream from {parent}; at most {MAX_STREAMED}: take all of it as one")


def _check_told(star: StarId, inputs: Mapping[str, StarInput]) -> None:
    """What a rewrite is told takes time that grows with the graph and the fleet: no other star may ask for it."""
    for name, source in inputs.items():
        if isinstance(source, Told) and source.what is not Telling.REQUEST:
            raise InvalidEdit(star, f"input {name}: only a rewrite is told the {source.what.value}")


def _check_times(spec: StarSpec) -> None:
    timeouts, retry = spec.timeouts, spec.retry
    for name, limit_s in (
        ("schedule_to_start_s", timeouts.schedule_to_start_s),
        ("start_to_close_s", timeouts.start_to_close_s),
        ("heartbeat_s", timeouts.heartbeat_s),
    ):
        if limit_s is not None and not (math.isfinite(limit_s) and limit_s > 0):
            raise InvalidEdit(spec.id, f"{name} must be a positive number of seconds")
    if not 1 <= retry.max_attempts <= MAX_ATTEMPTS:
        raise InvalidEdit(spec.id, f"max_attempts must be 1 to {MAX_ATTEMPTS}")
    if not (math.isfinite(retry.backoff_s) and retry.backoff_s >= 0):
        raise InvalidEdit(spec.id, "backoff_s must be a number of seconds, 0 or more")
    if not 1 <= retry.multiplier <= MAX_MULTIPLIER:
        raise InvalidEdit(spec.id, f"multiplier must be 1 to {MAX_MULTIPLIER}")
    if not (math.isfinite(retry.max_backoff_s) and retry.max_backoff_s >= retry.backoff_s):
        raise InvalidEdit(spec.id, "max_backoff_s must not be less than backoff_s")
    if not 0 <= retry.jitter <= 1:
        raise InvalidEdit(spec.id, "jitter must be between 0 and 1")


def _some(names: "Mapping[StarId, object] | list[str]") -> str:
    """A list short enough for an error message."""
    listed = list(names)
    return (", ".join(listed[:12]) + (f" and {len(listed) - 12} more" if len(listed) > 12 else "")) or "none"
