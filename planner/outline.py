"""The stars that a plan makes, as a tree for people and as JSON for programs."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from asterism.orchestrator.core.edits import AddStar, Edit, added_lines
from asterism.orchestrator.core.errors import InvalidEdit, InvalidField
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.star import StarSpec
from asterism.orchestrator.core.values import Json
from asterism.planner.edits_json import line_to_json, star_to_json
from asterism.planner.mapping import find_sample
from asterism.planner.plan_file import plan_batches
from asterism.planner.push_parser import BadStar, PushParser
from asterism.planner.rehearsal import Rehearsal

_DEEPEST: Final = 30
"""Indentation ends there: a chain of thousands has no more room to the right."""


@dataclass(slots=True)
class Outlined:
    """A star, and the lines that lead to it."""

    spec: StarSpec
    lines: list[TaskStarLine] = field(default_factory=list)


def read_plan(text: str, *, is_lines: bool) -> Mapping[StarId, Outlined]:
    """The stars of a plan in an order in which parents come first; raises InvalidField for the first thing wrong."""
    stars: dict[StarId, Outlined] = {}
    batches = _edits_of_lines(text) if is_lines else plan_batches(text)
    for edits in batches:
        for edit in edits:
            if isinstance(edit, AddStar):
                stars[edit.spec.id] = Outlined(edit.spec)
        for line in added_lines(edits):
            stars[line.child].lines.append(line)
    return stars


def _edits_of_lines(text: str) -> Iterable[tuple[Edit, ...]]:
    parser = PushParser()
    found = [*parser.feed(text), *parser.finish()]
    if not found:
        raise InvalidField("text", "there is no star in it; write one a line: ID = KIND.NAME(ARGUMENT=VALUE, ...)")
    rehearsal = Rehearsal()
    for star in found:
        if isinstance(star, BadStar):
            raise InvalidField(str(star.at), star.reason)
        try:
            rehearsal.take(star.compiled.edits)
        except InvalidEdit as error:
            raise InvalidField(str(star.at), error.message) from None
        yield star.compiled.edits


def as_json(stars: Mapping[StarId, Outlined]) -> str:
    """`{"stars": [...]}`, each as in an edit, with the lines that lead to it."""
    listed: Json = [
        {**star_to_json(star.spec), "lines": [line_to_json(line) for line in star.lines]} for star in stars.values()
    ]
    return json.dumps({"stars": listed}, ensure_ascii=False, indent=2) + "\n"


def as_tree(stars: Mapping[StarId, Outlined]) -> str:
    """Each star once, below its last parent; the others stand behind it. Without recursion."""
    children: dict[StarId, list[StarId]] = {star_id: [] for star_id in stars}
    roots: list[StarId] = []
    for star_id, star in stars.items():
        if star.lines:
            children[star.lines[-1].parent].append(star_id)
        else:
            roots.append(star_id)
    rows: list[str] = []
    pending = [(star_id, 0) for star_id in reversed(roots)]
    while pending:
        star_id, depth = pending.pop()
        rows.append(_row(stars[star_id], depth))
        pending.extend((child, depth + 1) for child in reversed(children[star_id]))
    count = "1 star" if len(stars) == 1 else f"{len(stars)} stars"
    return "\n".join((f"{count}: the plan can be submitted", *rows)) + "\n"


def _row(star: Outlined, depth: int) -> str:
    spec = star.spec
    text = f"{'  ' * min(depth, _DEEPEST)}{spec.id}  {spec.kind.value} {spec.program}"
    sample = find_sample(spec)
    if sample is not None:
        text += f", one {sample.kind.value} {sample.program} for each item"
    if spec.requires:
        text += f"  [{', '.join(sorted(spec.requires))}]"
    if spec.quorum:
        text += f"  {spec.quorum} of"
    notable = star.lines if len(star.lines) > 1 else [line for line in star.lines if line.kind is not LineKind.SUCCESS]
    if notable:
        text += f"  after {', '.join(_shown(line) for line in notable)}"
    return text


def _shown(line: TaskStarLine) -> str:
    if line.condition is not None:
        return f"{line.parent} if {line.condition}"
    ends: Mapping[LineKind, str] = {
        LineKind.COMPLETION: " (however it ends)",
        LineKind.STREAM: " (while it runs)",
        LineKind.QUORUM: " (quorum)",
    }
    return f"{line.parent}{ends.get(line.kind, '')}"
