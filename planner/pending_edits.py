"""The edits that lead from a graph's pending stars to those that are wanted in their place."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.edits import (
    AddLine,
    AddStar,
    Edit,
    RebindInputs,
    RemoveLine,
    RemoveStar,
    UpdateStar,
)
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.star import StarSpec, StarState, TaskStar
from asterism.orchestrator.core.values import Json, Path
from asterism.planner.edits_json import line_to_json, star_to_json
from asterism.planner.fields import WrongAt, input_to_json

_FIXED: Final = ("kind", "program", "may_edit", "is_idempotent", "quorum", "replan_when")
"""Fields that no edit changes."""
_FREE: Final = ("priority", "requires", "timeouts", "retry", "title")
"""Those that `UpdateStar` does."""
_OTHER_ID: Final = "of a star that is there; give this one another id, so that it becomes another star"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A star that is to be there, pending."""

    spec: StarSpec
    lines: dict[StarId, TaskStarLine]
    """By parent."""
    at: Path
    """Where it is asked for."""


def edits_between(base: TaskConstellation, wanted: Mapping[StarId, Wanted]) -> tuple[Edit, ...]:
    """In an order that the core takes; raises WrongAt for what no edit does. Stars that run or have ended are left."""
    adds: list[Edit] = []
    changes: list[Edit] = []
    removed = {star_id for star_id, star in base.stars.items() if is_pending(star) and star_id not in wanted}
    for star_id, want in wanted.items():
        known = base.stars.get(star_id)
        if known is None:
            adds.append(AddStar(want.spec))
            changes.extend(AddLine(line) for line in want.lines.values())
            continue
        if is_pending(known):
            changes.extend((*_line_edits(base, star_id, want, removed), *_star_edits(known.spec, want)))
        elif _text(star_to_json(known.spec)) != _text(star_to_json(want.spec)) or any(
            _line_edits(base, star_id, want, removed)
        ):
            raise WrongAt(want.at, f"{star_id} is {known.state} and cannot be edited any more; take it out of the file")
    unlined = [edit for edit in changes if isinstance(edit, RemoveLine)]
    others = [edit for edit in changes if not isinstance(edit, RemoveLine)]
    return (*adds, *unlined, *(RemoveStar(star_id) for star_id in base.stars if star_id in removed), *others)


def is_pending(star: TaskStar) -> bool:
    """Whether it may be edited. Stars that ask for a rewrite are the policy's, and nobody's to edit."""
    return star.state in (StarState.WAITING, StarState.READY) and not star.spec.asks_replan


def _line_edits(base: TaskConstellation, star_id: StarId, want: Wanted, removed: set[StarId]) -> Iterator[Edit]:
    """Lines go with a star that is removed."""
    known = base.parents.get(star_id, {})
    for parent, line in known.items():
        if line.kind is LineKind.GUARD:
            continue  # it goes with the rewrite
        if parent not in removed and (parent not in want.lines or _differ(line, want.lines[parent])):
            yield RemoveLine(parent, star_id)
    for parent, line in want.lines.items():
        if parent not in known or _differ(known[parent], line):
            yield AddLine(line)


def _differ(one: TaskStarLine, other: TaskStarLine) -> bool:
    return _text(line_to_json(one)) != _text(line_to_json(other))


def _star_edits(known: StarSpec, want: Wanted) -> Iterator[Edit]:
    spec = want.spec
    now, then = star_to_json(known), star_to_json(spec)
    for field in _FIXED:
        if now.get(field) != then.get(field):
            raise WrongAt((*want.at, field), f"no edit changes the {field} {_OTHER_ID}")
    gone = next((name for name in known.inputs if name not in spec.inputs), None)
    if gone is not None:
        raise WrongAt((*want.at, "inputs"), f"no edit takes away an input, as {gone!r} is here, {_OTHER_ID}")
    changed = {field for field in _FREE if _of(now, field) != _of(then, field)}
    if changed:
        yield UpdateStar(
            spec.id,
            priority=spec.priority if "priority" in changed else None,
            requires=spec.requires if "requires" in changed else None,
            timeouts=spec.timeouts if "timeouts" in changed else None,
            retry=spec.retry if "retry" in changed else None,
            title=spec.title if "title" in changed else None,
        )
    inputs = {
        name: value
        for name, value in spec.inputs.items()
        if name not in known.inputs or _text(input_to_json(value)) != _text(input_to_json(known.inputs[name]))
    }
    if inputs:
        yield RebindInputs(spec.id, inputs)


def _of(fields: Mapping[str, Json], name: str) -> str:
    return _text(fields.get(name))


def _text(value: Json) -> str:
    """As text that differs where the values do: in Python 1, 1.0 and True are equal."""
    return json.dumps(value, sort_keys=True)
