"""What the text of one star has said so far, in the form of a plan file."""

from collections.abc import Mapping
from typing import Final

from asterism.orchestrator.core.ids import is_name
from asterism.orchestrator.core.values import Json, Path
from asterism.planner.stars import PlanKind
from asterism.planner.tokens import BadText, TokenKind
from asterism.planner.written_values import Parts, Reference, Words, Written, read_value

MAX_ARGUMENTS: Final = 64
"""Of one call, as many as a star may have inputs."""


class Draft:
    """Fields of a star, and where in its text each stands."""

    def __init__(self, kind: PlanKind, at: int) -> None:
        self.kind = kind
        self.work: Path = ("each",) if kind is PlanKind.MAP else ()
        """Where the fields of what runs stand: a map says them of each of its stars."""
        self.fields: dict[str, Json] = {}
        self.places: dict[Path, int] = {}
        self.put(("kind",), kind.value, at)

    def put(self, path: Path, value: Json, at: int) -> None:
        """Set a field; raises BadText when it is set already."""
        target = self.fields
        for step in path[:-1]:
            assert isinstance(step, str)  # only lists have other steps, and they are added to
            inner = target.setdefault(step, {})
            assert isinstance(inner, dict)
            target = inner
        last = path[-1]
        assert isinstance(last, str)
        if last in target:
            raise BadText(at, f"{last} is given twice")
        target[last] = value
        self.places[path] = at

    def add(self, path: Path, value: Json, at: int) -> None:
        """Add an item to the list that is a field."""
        target = self.fields
        for step in path[:-1]:
            assert isinstance(step, str)
            inner = target.setdefault(step, {})
            assert isinstance(inner, dict)
            target = inner
        last = path[-1]
        assert isinstance(last, str)
        items = target.setdefault(last, [])
        assert isinstance(items, list)
        self.places[(*path, len(items))] = at
        items.append(value)

    def parts(self, name: str, parts: Parts) -> Mapping[str, Json]:
        """A mapping with references as inputs `name.key`, which programs of ours put together again."""
        if self.runs_tool:
            raise BadText(parts.at, "a tool takes a reference as an argument of its own, and not inside another")
        unfit = next((key for key in parts.values if not is_name(f"{name}.{key}")), None)
        if unfit is not None:
            raise BadText(parts.at, f"the key {unfit[:40]!r} beside a reference is letters, digits, _ and - alone")
        return {f"{name}.{key}": self.input(value, parts.at) for key, value in parts.values.items()}

    @property
    def runs_tool(self) -> bool:
        """Whether a tool gets the arguments, which no program puts together again."""
        each = self.fields.get("each")
        kind = each.get("kind") if isinstance(each, dict) else self.fields["kind"]
        return kind == PlanKind.TOOL.value

    def input(self, value: Written, at: int) -> Json:
        """A value as an input of a plan file: what only looks like a reference stays data."""
        if isinstance(value, Parts):
            raise BadText(value.at, "a reference cannot stand here")
        if isinstance(value, Reference):
            return self._reference(value)
        if isinstance(value, dict) and any(key.startswith("$") for key in value):
            return {"$value": value}
        return value

    def _reference(self, of: Reference) -> Json:
        if of.name == "parents":
            if of.path:
                raise BadText(of.at, "parents has no parts: it gives every parent's outcome by its id")
            return {"$parents": True}
        if of.name in ("item", "index"):
            if self.kind is not PlanKind.MAP:
                raise BadText(of.at, f"{of.name} has a meaning in a map only; text is in quotes")
            if of.name == "index":
                return {"$index": True}
            return {"$item": True, "$path": list(of.path)} if of.path else {"$item": True}
        return {"$from": of.name, "$path": list(of.path)} if of.path else {"$from": of.name}


def read_arguments(words: Words, draft: Draft, under: Path) -> None:
    """`name=value, ...)`, the closing bracket included, into the mapping at `under`."""
    count = 0
    while not words.has_sign(")"):
        name = words.take()
        if name.kind not in (TokenKind.NAME, TokenKind.TEXT):
            raise BadText(name.at, f"an argument begins with its name, not with {name.shown}")
        if not words.next.is_sign("="):
            raise BadText(name.at, "each argument has a name: NAME=VALUE")
        words.take()
        at = words.next.at
        key = name.text if name.kind is TokenKind.NAME else str(name.value)
        value = read_value(words)
        if isinstance(value, Parts):
            for part, inner in draft.parts(key, value).items():
                draft.put((*under, part), inner, at)
        else:
            draft.put((*under, key), draft.input(value, at), at)
        count += 1
        if count > MAX_ARGUMENTS:
            raise BadText(name.at, f"a call has at most {MAX_ARGUMENTS} arguments")
        end_item(words)


def end_item(words: Words) -> None:
    """The comma behind an item of a call, which is missing before its closing bracket."""
    if not words.has_sign(",") and not words.next.is_sign(")"):
        raise BadText(words.next.at, f"a comma or the closing bracket is missing before {words.next.shown}")
