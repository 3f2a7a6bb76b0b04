"""A constellation as it stands now: its stars, its lines, and the counters that make readiness cheap."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from asterism.orchestrator.core.edits import AddStar
from asterism.orchestrator.core.ids import ConstellationId, StarId, successor
from asterism.orchestrator.core.line import QUORUM, STREAM, SUCCESS, TaskStarLine
from asterism.orchestrator.core.request import Budget, ConstellationState, Request
from asterism.orchestrator.core.star import SUCCEEDED, WAITING, StarKind, StarSpec, TaskStar
from asterism.orchestrator.core.values import Artifact, Json, Result

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Pause:
    """Who holds a constellation back, since when, and why."""

    by: str
    reason: str
    at: float


@dataclass(slots=True)
class TaskConstellation:
    """The DAG of one request. Only `core/apply.py` writes it."""

    id: ConstellationId
    request_id: str
    owner: str
    request: Request
    budget: Budget
    created_at: float
    started_at: float
    """Acceptance, or when an edit or a retry last brought it back from its end: its budget of seconds begins here."""
    revision: int = 0
    state: ConstellationState = ConstellationState.RUNNING
    reason: str = ""
    ended_at: float | None = None
    stars: dict[StarId, TaskStar] = field(default_factory=dict)
    """In the order in which they were added."""
    parents: dict[StarId, dict[StarId, TaskStarLine]] = field(default_factory=dict)
    """Child -> parent -> line; a star without parents has no entry."""
    children: dict[StarId, dict[StarId, TaskStarLine]] = field(default_factory=dict)
    """Parent -> child -> line; a star without children has no entry."""
    listeners: dict[StarId, dict[StarId, None]] = field(default_factory=dict)
    """Parent -> children by lines of kind STREAM; a star without such children has no entry."""
    unfinished: int = 0
    """Stars that are not terminal."""
    attempts: int = 0
    """Leased in all, for the budget."""
    tokens: int = 0
    """That models wrote for attempts which have ended, for the budget."""
    seq: int = 0
    """The last record that changed it."""
    pause: Pause | None = None
    """While it is set no star of it is dispatched; what runs goes on."""
    resumed_at: float | None = None
    """When a pause last ended: a wait for a slot that began before begins anew."""
    replan: StarSpec | None = None
    """What a star is made from that asks for a rewrite; None: nobody is asked."""
    is_pressed: bool = False
    """Whether a rewrite was asked for because most of a budget is used."""

    def lines(self) -> Iterator[TaskStarLine]:
        """Every line, grouped by child."""
        for of_child in self.parents.values():
            yield from of_child.values()

    def add_star(self, edit: AddStar, revision: int) -> None:
        """Add a star, and the lines that it comes with."""
        spec = edit.spec
        child = spec.id
        star = self.stars[child] = TaskStar(spec, WAITING, revision)
        self.unfinished += 1
        if edit.after:
            parents = self.parents[child] = {line.parent: line for line in edit.lines()}
            for parent, line in parents.items():
                if not self.stars[parent].state.is_terminal:
                    star.unmet += 1
                children = self.children.get(parent)
                if children is None:
                    self.children[parent] = {child: line}
                else:
                    children[child] = line

    def add_line(self, line: TaskStarLine) -> None:
        """Join two stars that are there; the child counts the parent as it stands now."""
        parent, child = line.parent, line.child
        parents = self.parents.get(child)
        if parents is None:
            self.parents[child] = {parent: line}
        else:
            parents[parent] = line
        children = self.children.get(parent)
        if children is None:
            self.children[parent] = {child: line}
        else:
            children[child] = line
        if line.kind is SUCCESS:
            # Nearly all are, and to count one is just this.
            if not self.stars[parent].state.is_terminal:
                self.stars[child].unmet += 1
            return
        if line.kind is STREAM:
            self.listeners.setdefault(parent, {})[child] = None
        self._count(line, 1)

    def remove_line(self, parent: StarId, child: StarId) -> None:
        """Part them again."""
        line = self.parents[child][parent]
        self._count(line, -1)
        _part(self.parents, child, parent)
        _part(self.children, parent, child)
        if line.kind is STREAM:
            _part(self.listeners, parent, child)

    def _count(self, line: TaskStarLine, by: int) -> None:
        parent, child = self.stars[line.parent], self.stars[line.child]
        if line.kind is not QUORUM:
            if not line.is_met(parent.state):
                child.unmet += by
        elif parent.state is SUCCEEDED:
            child.quorum_spare += by
            child.meet_quorum(by)
        elif not parent.state.is_terminal:
            child.quorum_spare += by

    def was_retried(self, star: StarId) -> bool:
        """Whether another star has taken its place."""
        return successor(star) in self.stars

    def outcome(self, star: StarId) -> Mapping[str, Json]:
        """What a terminal star's children may look at: `{state, result, error}`.

        An artifact cannot be looked into here: its result is None, and whoever needs it must ask for it apart.
        """
        of = self.stars[star]
        return {
            "state": of.state.value,
            "result": None if isinstance(of.result, Artifact) else of.result,
            "error": None if of.error is None else {"code": of.error.code, "message": of.error.message},
        }

    def answer(self) -> Mapping[str, Result]:
        """The results of the succeeded stars that nothing depends on, without plan stars and what was retried."""
        return {
            star_id: star.result
            for star_id, star in self.stars.items()
            if star.state is SUCCEEDED
            and star.spec.kind is not StarKind.PLAN
            and star_id not in self.children
            and not self.was_retried(star_id)
        }


def _part(index: dict[StarId, dict[StarId, _T]], one: StarId, other: StarId) -> None:
    del index[one][other]
    if not index[one]:
        del index[one]


BY_STAR: Final = "star:"
"""Before the id of the star whose attempt made an edit."""
BY_POLICY: Final = "policy"
"""Who made an edit that nobody asked for."""
BY_BUDGET: Final = "policy:budget"
"""The same, because most of a budget is used."""
PLAN_STAR = StarId("plan")
"""The id of the star that every constellation begins with."""
