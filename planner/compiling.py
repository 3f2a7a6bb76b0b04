"""From a star of a plan to the core's edits: itself, its lines, and for a map the two stars that it becomes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice, takewhile

from asterism.orchestrator.core.edits import AddLine, AddStar, Edit
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.star import OutputOf, ParentOutcomes, StarKind, StarSpec
from asterism.orchestrator.core.values import Path
from asterism.planner.fields import WrongAt, line_kind
from asterism.planner.mapping import expander, gatherer, template_parents
from asterism.planner.stars import AfterFields, MapStar, PlanStar, QuorumFields, Related, WorkStar
from asterism.planner.when import to_condition


@dataclass(frozen=True, slots=True)
class Compiled:
    """A star's edits, and the stars of the plan that they name, each with the place where it is first named."""

    edits: tuple[Edit, ...]
    parents: Mapping[StarId, Path]


def compile_star(star_id: StarId, star: PlanStar, *, at: Path = ()) -> Compiled:
    """The edits that add it; raises WrongAt. Whether its parents exist is for the caller to say."""
    lines = _Lines(star_id, at)
    lines.take(star)
    if isinstance(star, MapStar):
        return _compile_map(star_id, star, lines, at)
    spec = star.spec(star_id, StarKind(star.kind), star.program, at=at, quorum=star.quorum_size)
    if isinstance(star, WorkStar) and star.replan_when is not None:
        spec = replace(spec, replan_when=to_condition(star.replan_when, at=(*at, "replan_when")))
    lines.take_inputs(spec, (*at, "inputs"))
    lines.check_streams(spec)
    return Compiled(lines.edits(spec), lines.places)


def _compile_map(star_id: StarId, star: MapStar, lines: "_Lines", at: Path) -> Compiled:
    lines.take_parent(StarId(star.over.star), (*at, "over"))
    for name, parent in template_parents(star, at=at).items():
        lines.take_parent(parent, (*at, "each", "inputs", name))
    expands = replace(expander(star_id, star), quorum=star.quorum_size)
    gathers = gatherer(star_id, star, at=at)
    of_gather = _Lines(star_id, at)
    of_gather.take_inputs(gathers, (*at, "gather", "inputs"))
    edits = (*lines.edits(expands), *of_gather.edits(gathers, expands.id))
    return Compiled(edits, {**of_gather.places, **lines.places})


class _Lines:
    """The lines that lead to one star, at most one from each parent."""

    def __init__(self, star: StarId, at: Path) -> None:
        self._star = star
        self._at = at
        self._lines: dict[StarId, TaskStarLine] = {}
        self.places: dict[StarId, Path] = {}

    def take(self, star: Related) -> None:
        """What is said in words: `after` and `quorum`."""
        for index, after in enumerate(star.after):
            here: Path = (*self._at, "after", index)
            self._add(_line(self._star, after, at=here), here)
        if isinstance(star.quorum, QuorumFields):
            for index, parent in enumerate(star.quorum.of):
                line = TaskStarLine(StarId(parent), self._star, LineKind.QUORUM)
                self._add(line, (*self._at, "quorum", "of", index))

    def take_inputs(self, spec: StarSpec, at: Path) -> None:
        """A line from each star whose result is an input, where there is none."""
        for name, value in spec.inputs.items():
            if isinstance(value, OutputOf):
                self.take_parent(value.star, (*at, name))

    def check_streams(self, spec: StarSpec) -> None:
        """Whether the star can do with parents that still write."""
        for parent, line in self._lines.items():
            if line.kind is not LineKind.STREAM:
                continue
            if spec.is_decided_by_people:
                raise WrongAt(self.places[parent], "a person decides about what is whole: the line cannot stream")
            if ParentOutcomes() in spec.inputs.values():
                reason = "an input takes the outcomes of all parents, and this one has none yet: the line cannot stream"
                raise WrongAt(self.places[parent], reason)

    def take_parent(self, parent: StarId, at: Path) -> None:
        """A line from a star whose result is needed."""
        if parent not in self._lines:
            self._add(TaskStarLine(parent, self._star), at)

    def _add(self, line: TaskStarLine, at: Path) -> None:
        if line.parent in self._lines:
            raise WrongAt(at, f"the parent {line.parent!r} is given twice")
        self._lines[line.parent] = line
        self.places[line.parent] = at

    def edits(self, spec: StarSpec, *first: StarId) -> tuple[Edit, ...]:
        """The star, or the one of its stars that stands in for it, and the lines to it; those from `first` come first.

        The plain ones that begin them come with the star. The others would change the order of its parents there.
        """
        plain = [line.parent for line in takewhile(lambda line: line.kind is LineKind.SUCCESS, self._lines.values())]
        others = islice(self._lines.values(), len(plain), None)
        lines = (AddLine(TaskStarLine(line.parent, spec.id, line.kind, line.condition)) for line in others)
        return (AddStar(spec, (*first, *plain)), *lines)


def _line(child: StarId, after: "str | AfterFields", *, at: Path) -> TaskStarLine:
    if isinstance(after, str):
        return TaskStarLine(StarId(after), child)
    condition = None if after.when is None else to_condition(after.when, at=(*at, "when"))
    on = None if after.on is None else LineKind(after.on)
    kind = line_kind(on, has_condition=condition is not None, at=at)
    return TaskStarLine(StarId(after.star), child, kind, condition)
