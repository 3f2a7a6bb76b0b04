"""Edits as a model writes them that rewrites a graph: checked by a schema, then turned into the core's own edits.

`split` and `merge` are made of the others: their new stars take the lines of the old ones, and whoever used an old
star's result uses a new one's.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from asterism.orchestrator.core.constellation import PLAN_STAR
from asterism.orchestrator.core.edits import AddLine, AddStar, CancelStar, Edit, RebindInputs, RemoveLine, RemoveStar
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.star import OutputOf, StarInput
from asterism.orchestrator.core.values import Json, Path
from asterism.planner.compiling import compile_star
from asterism.planner.edits_json import edit_from_json
from asterism.planner.fields import Fields, Inputs, Name, WrongAt, inputs_from_json, line_kind, validated
from asterism.planner.graph_rows import Graph, Parent, Row
from asterism.planner.stars import AnyStar, PlanStar
from asterism.planner.when import When, to_condition

MAX_OPERATIONS: Final = 200
MAX_SHOW: Final = 64


class _Add(Fields):
    op: Literal["add"]
    star: AnyStar


class _Remove(Fields):
    op: Literal["remove"]
    star: Name


class _Cancel(Fields):
    op: Literal["cancel"]
    star: Name


class _Update(Fields):
    op: Literal["update"]
    star: Name
    priority: Any = None
    requires: Any = None
    timeouts: Any = None
    retry: Any = None
    title: Any = None


class _Rebind(Fields):
    op: Literal["rebind"]
    star: Name
    inputs: Inputs


class _Link(Fields):
    op: Literal["link"]
    parent: Name
    child: Name
    on: Annotated[LineKind | None, Field(strict=False)] = None
    when: When | None = None


class _Unlink(Fields):
    op: Literal["unlink"]
    parent: Name
    child: Name


class _Split(Fields):
    op: Literal["split"]
    star: Name
    into: Annotated[list[AnyStar], Field(min_length=1, max_length=64)]


class _Merge(Fields):
    op: Literal["merge"]
    stars: Annotated[list[Name], Field(min_length=1, max_length=64)]
    into: AnyStar


_Operation = _Add | _Remove | _Cancel | _Update | _Rebind | _Link | _Unlink | _Split | _Merge
_MODELS: Final[Mapping[str, type[Any]]] = {
    "add": _Add,
    "remove": _Remove,
    "cancel": _Cancel,
    "update": _Update,
    "rebind": _Rebind,
    "link": _Link,
    "unlink": _Unlink,
    "split": _Split,
    "merge": _Merge,
}

_TEXT: Final[Json] = {"type": "string"}
_STAR: Final[Json] = {
    "type": "object",
    "properties": {
        "id": _TEXT,
        "kind": {"enum": ["tool", "agent", "reason", "gather", "approval", "map"]},
        "program": _TEXT,
        "inputs": {"type": "object"},
        "after": {"type": "array"},
        "requires": {"type": "array", "items": _TEXT},
    },
    "required": ["id", "kind"],
}
SCHEMA: Final[Mapping[str, Json]] = {
    "type": "object",
    "properties": {
        "thought": _TEXT,
        "show": {"type": "array", "items": _TEXT, "maxItems": MAX_SHOW},
        "edits": {
            "type": "array",
            "maxItems": MAX_OPERATIONS,
            "items": {
                "anyOf": [
                    {
                        "type": "object",
                        "properties": {"op": {"const": "add"}, "star": _STAR},
                        "required": ["op", "star"],
                    },
                    {
                        "type": "object",
                        "properties": {
                            "op": {"enum": ["remove", "cancel", "update", "rebind"]},
                            "star": _TEXT,
                            "inputs": {"type": "object"},
                            "priority": {"type": "integer"},
                            "requires": {"type": "array", "items": _TEXT},
                            "timeouts": {"type": "object"},
                            "retry": {"type": "object"},
                            "title": _TEXT,
                        },
                        "required": ["op", "star"],
                    },
                    {
                        "type": "object",
                        "properties": {
                            "op": {"enum": ["link", "unlink"]},
                            "parent": _TEXT,
                            "child": _TEXT,
                            "on": {"enum": ["success", "completion", "stream"]},
                            "when": _TEXT,
                        },
                        "required": ["op", "parent", "child"],
                    },
                    {
                        "type": "object",
                        "properties": {
                            "op": {"const": "split"},
                            "star": _TEXT,
                            "into": {"type": "array", "items": _STAR, "minItems": 1},
                        },
                        "required": ["op", "star", "into"],
                    },
                    {
                        "type": "object",
                        "properties": {
                            "op": {"const": "merge"},
                            "stars": {"type": "array", "items": _TEXT, "minItems": 1},
                            "into": _STAR,
                        },
                        "required": ["op", "stars", "into"],
                    },
                ]
            },
        },
    },
    "required": ["thought", "edits"],
}
"""Of the whole answer. It is loose where a strict one would be long: what it lets pass is validated again."""


def compile_operations(operations: Sequence[Json], graph: Graph) -> tuple[Edit, ...]:
    """The edits that these operations are; raises WrongAt."""
    if len(operations) > MAX_OPERATIONS:
        raise WrongAt(("edits",), f"{len(operations)} edits; at most {MAX_OPERATIONS}")
    compiler = _Compiler(graph)
    for index, operation in enumerate(operations):
        compiler.take(_read(operation, ("edits", index)), ("edits", index))
    return tuple(compiler.edits)


def _read(operation: Json, at: Path) -> _Operation:
    op = operation.get("op") if isinstance(operation, Mapping) else None
    model = _MODELS.get(op) if isinstance(op, str) else None
    if model is None:
        raise WrongAt((*at, "op"), f"there is no such edit; there are {', '.join(_MODELS)}")
    read: _Operation = validated(model, operation, at=at)
    return read


class _Compiler:
    """The graph as far as the operations have changed it: lines, and who uses whose result."""

    def __init__(self, graph: Graph) -> None:
        self.edits: list[Edit] = []
        self._graph = graph
        self._rows: dict[str, Row] = {row.id: row for row in graph.stars}
        self._parents: dict[str, dict[str, Parent]] = {
            row.id: {parent.star: parent for parent in row.after} for row in graph.stars
        }
        self._uses: dict[str, dict[str, tuple[str, Path]]] = {
            row.id: {name: (use.star, tuple(use.path)) for name, use in row.uses.items()} for row in graph.stars
        }

    def take(self, operation: _Operation, at: Path) -> None:
        """Add the edits of one operation."""
        match operation:
            case _Add(star=star):
                self._add(star, (*at, "star"))
            case _Remove(star=name):
                self._remove(name)
            case _Cancel(star=name):
                self.edits.append(CancelStar(StarId(name)))
            case _Update():
                fields = operation.model_dump(exclude={"op"}, exclude_none=True)
                try:
                    self.edits.append(edit_from_json({"update_star": fields}))
                except WrongAt as wrong:
                    raise WrongAt((*at, *wrong.path[1:]), wrong.reason) from None
            case _Rebind(star=name, inputs=inputs):
                self._rebind(name, inputs_from_json(inputs, at=(*at, "inputs")))
            case _Link(parent=parent, child=child, on=on, when=when):
                condition = None if when is None else to_condition(when, at=(*at, "when"))
                kind = line_kind(on, has_condition=condition is not None, at=at)
                self._link(TaskStarLine(StarId(parent), StarId(child), kind, condition))
            case _Unlink(parent=parent, child=child):
                self._unlink(parent, child)
            case _Split(star=name, into=into):
                self._replace([name], into, at)
            case _Merge(stars=names, into=into):
                self._replace(names, [into], at)

    def _add(self, star: PlanStar, at: Path, lines: Iterable[TaskStarLine] = ()) -> StarId:
        """Add a star with its lines, and those of `lines` whose parents it does not name itself."""
        if star.id is None:
            raise WrongAt(at, "a new star needs an id")
        star_id = StarId(star.id)
        if star_id == PLAN_STAR or star_id in self._rows:
            raise WrongAt((*at, "id"), f"there is a star {star_id!r} already; take another id")
        compiled = compile_star(star_id, star, at=at)
        self.edits.extend(compiled.edits)
        # Of a map the star that expands it comes first, and waits in its place.
        head = next(edit.spec.id for edit in compiled.edits if isinstance(edit, AddStar))
        self._parents[star_id] = {}
        self._uses[star_id] = {}
        for line in lines:
            if line.parent not in compiled.parents:
                self.edits.append(AddLine(TaskStarLine(line.parent, head, line.kind, line.condition)))
        return star_id

    def _remove(self, name: str) -> None:
        self.edits.append(RemoveStar(StarId(name)))
        self._parents.pop(name, None)
        self._uses.pop(name, None)
        for parents in self._parents.values():
            parents.pop(name, None)

    def _link(self, line: TaskStarLine) -> None:
        self.edits.append(AddLine(line))
        when = None if line.condition is None else str(line.condition)
        self._parents.setdefault(line.child, {})[line.parent] = Parent(star=line.parent, on=line.kind.value, when=when)

    def _unlink(self, parent: str, child: str) -> None:
        self.edits.append(RemoveLine(StarId(parent), StarId(child)))
        self._parents.get(child, {}).pop(parent, None)

    def _rebind(self, name: str, inputs: Mapping[str, StarInput]) -> None:
        """Replace inputs; a star whose result is used becomes a parent."""
        for input_name, value in inputs.items():
            if isinstance(value, OutputOf):
                if value.star not in self._parents.get(name, {}):
                    self._link(TaskStarLine(value.star, StarId(name)))
                self._uses.setdefault(name, {})[input_name] = (value.star, value.path)
            else:
                self._uses.get(name, {}).pop(input_name, None)
        self.edits.append(RebindInputs(StarId(name), inputs))

    def _replace(self, old: Sequence[str], new: Sequence[PlanStar], at: Path) -> None:
        """Put `new` in the place of `old`: same parents, same children; the last one gives the result they use."""
        for index, name in enumerate(old):
            row = self._rows.get(name)
            if row is None or not row.is_pending or name not in self._parents:
                reason = f"{name!r} is no star that may be edited; it must be WAITING or READY"
                raise WrongAt((*at, "stars", index) if len(old) > 1 else at, reason)
        if not self._graph.is_whole:
            raise WrongAt(at, "the graph is too large to be shown whole: use add, rebind, link and remove")
        gone = set(old)
        above = {
            parent.star: parent for name in old for parent in self._parents[name].values() if parent.star not in gone
        }
        below = {
            child: parents[name]
            for name in old
            for child, parents in self._parents.items()
            if name in parents and child not in gone
        }
        added = [
            self._add(star, (*at, "into", index), [_line(parent, str(star.id)) for parent in above.values()])
            for index, star in enumerate(new)
        ]
        heir = added[-1]
        for child, line in below.items():
            for star_id in added:
                self._link(_line(line, child, instead=star_id))
            uses = self._uses.get(child, {}).items()
            moved = {name: OutputOf(heir, path) for name, (source, path) in uses if source in gone}
            if moved:
                self._rebind(child, moved)
        for name in old:
            self._remove(name)


def _line(parent: Parent, child: str, *, instead: str | None = None) -> TaskStarLine:
    """The line that a row tells of, to another child or from another parent."""
    condition = None if parent.when is None else to_condition(str(parent.when), at=())
    star = StarId(parent.star if instead is None else instead)
    return TaskStarLine(star, StarId(child), LineKind(parent.on), condition)
