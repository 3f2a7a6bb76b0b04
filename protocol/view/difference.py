"""What differs between two states of a graph: stars, their fields and their lines, in words and as JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.star import Constant, OutputOf, ParentOutcomes, StarInput, StarSpec, Told
from asterism.orchestrator.core.values import Json
from asterism.protocol.view.json_text import json_text
from asterism.protocol.view.wording import count, one_line

_SHOWN: Final = 72
"""Characters of a value that are shown."""
_BEFORE: Final = 20
"""Characters that are shown before the first that differs, where a value is longer than that."""


@dataclass(frozen=True, slots=True)
class Change:
    """A field of a star that is there before and after; None where it is not given."""

    name: str
    before: Json
    after: Json


@dataclass(frozen=True, slots=True)
class Changed:
    """A star that is there before and after."""

    star: StarId
    fields: tuple[Change, ...]
    gained: tuple[TaskStarLine, ...]
    """Lines that lead to it; one that changed is lost and gained."""
    lost: tuple[TaskStarLine, ...]


@dataclass(slots=True)
class Difference:
    """Of the graph alone: how far the stars are is no part of it."""

    added: dict[StarId, tuple[StarSpec, tuple[TaskStarLine, ...]]] = field(default_factory=dict)
    removed: list[StarId] = field(default_factory=list)
    changed: list[Changed] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def difference(before: TaskConstellation, after: TaskConstellation) -> Difference:
    """What was added, removed and changed on the way. Lines of a star that is added or removed count with it."""
    found = Difference(removed=[star for star in before.stars if star not in after.stars])
    for star, now in after.stars.items():
        lines = after.parents.get(star, {})
        known = before.stars.get(star)
        if known is None:
            found.added[star] = (now.spec, tuple(lines.values()))
            continue
        earlier = before.parents.get(star, {})
        changed = Changed(
            star,
            tuple(_changes(known.spec, now.spec)),
            tuple(line for parent, line in lines.items() if not _is_same(earlier.get(parent), line)),
            tuple(
                line
                for parent, line in earlier.items()
                if parent in after.stars and not _is_same(lines.get(parent), line)
            ),
        )
        if changed.fields or changed.gained or changed.lost:
            found.changed.append(changed)
    return found


def _is_same(one: TaskStarLine | None, other: TaskStarLine) -> bool:
    """By its words: in Python 1 and True, which a condition may compare with, are equal."""
    return one is not None and (one.kind, str(one.condition)) == (other.kind, str(other.condition))


def _changes(before: StarSpec, after: StarSpec) -> Iterator[Change]:
    one, other = _fields(before), _fields(after)
    for name in {**one, **other}:
        earlier, later = one.get(name), other.get(name)
        if json_text(earlier) != json_text(later) or (name in one) != (name in other):
            yield Change(name, earlier, later)


def _fields(spec: StarSpec) -> dict[str, Json]:
    """Every field, those of a policy and the inputs one by one."""
    fields: dict[str, Json] = {"kind": spec.kind.value, "program": spec.program, "title": spec.title}
    for name, value in spec.inputs.items():
        fields[f"inputs.{name}"] = _input(value)
    fields["requires"] = sorted(spec.requires)
    fields["priority"] = spec.priority
    for name in ("schedule_to_start_s", "start_to_close_s", "heartbeat_s"):
        fields[f"timeouts.{name}"] = getattr(spec.timeouts, name)
    for name in ("max_attempts", "backoff_s", "multiplier", "max_backoff_s", "jitter"):
        fields[f"retry.{name}"] = getattr(spec.retry, name)
    if spec.replan_when is not None:
        fields["replan_when"] = str(spec.replan_when)
    return {**fields, "may_edit": spec.may_edit, "is_idempotent": spec.is_idempotent, "quorum": spec.quorum}


def _input(value: StarInput) -> Json:
    """As a plan file has it."""
    match value:
        case Constant(plain) if isinstance(plain, Mapping) and any(key.startswith("$") for key in plain):
            return {"$value": plain}
        case Constant(plain):
            return plain
        case OutputOf(star, path):
            return {"$from": star, **({"$path": list(path)} if path else {})}
        case ParentOutcomes():
            return {"$parents": True}
        case Told(what):
            return {"$told": what.value}


def in_words(found: Difference) -> list[str]:
    """A line for each star that was added or removed, several for one that was changed."""
    lines = [f"- {star}" for star in found.removed]
    for star, (spec, parents) in found.added.items():
        behind = f", after {', '.join(_parent(line) for line in parents)}" if parents else ""
        title = f"  {one_line(spec.title, _SHOWN)}" if spec.title else ""
        lines.append(f"+ {star}: {spec.kind.value} {spec.program}{behind}{title}")
    for changed in found.changed:
        lines.append(f"~ {changed.star}")
        lines.extend(f"    {_change(change)}" for change in changed.fields)
        lines.extend(f"    no longer after {_parent(line)}" for line in changed.lost)
        lines.extend(f"    after {_parent(line)}" for line in changed.gained)
    return lines


def summary(found: Difference) -> str:
    """In one short line: `+1 star, -2 stars, 1 changed`."""
    parts = [
        *([f"+{count(len(found.added), 'star')}"] if found.added else []),
        *([f"-{count(len(found.removed), 'star')}"] if found.removed else []),
        *([f"{len(found.changed)} changed"] if found.changed else []),
    ]
    return ", ".join(parts) or "no difference"


def _change(change: Change) -> str:
    before, after = json_text(change.before), json_text(change.after)
    same = next((at for at, (one, other) in enumerate(zip(before, after, strict=False)) if one != other), 0)
    start = same - _BEFORE if max(len(before), len(after)) > _SHOWN and same > _BEFORE else 0
    shown = [one_line(("…" if start else "") + text[start:], _SHOWN) for text in (before, after)]
    return f"{change.name}: {shown[0]} -> {shown[1]}"


def _parent(line: TaskStarLine) -> str:
    if line.condition is not None:
        return f"{line.parent} if {one_line(str(line.condition), _SHOWN)}"
    words = {
        LineKind.COMPLETION: " (however it ends)",
        LineKind.STREAM: " (while it runs)",
        LineKind.QUORUM: " (quorum)",
    }
    return f"{line.parent}{words.get(line.kind, '')}"


def as_json(found: Difference) -> dict[str, Json]:
    """For programs; a line is named by its parent, since it leads to the star that it is listed under."""
    return {
        "added": [
            {"star": star, **_fields(spec), "after": _lines(lines)} for star, (spec, lines) in found.added.items()
        ],
        "removed": list(found.removed),
        "changed": [
            {
                "star": changed.star,
                "fields": [{"field": c.name, "before": c.before, "after": c.after} for c in changed.fields],
                "lines_added": _lines(changed.gained),
                "lines_removed": _lines(changed.lost),
            }
            for changed in found.changed
        ],
    }


def _lines(lines: tuple[TaskStarLine, ...]) -> list[Json]:
    return [
        {
            "parent": line.parent,
            "kind": line.kind.value,
            **({} if line.condition is None else {"condition": str(line.condition)}),
        }
        for line in lines
    ]
