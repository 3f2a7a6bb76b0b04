"""Plans from Python: a small builder that reads like the graph, and gives the text of a plan file.

    plan = Plan()
    page = plan.tool("page", "http.get", url="https://example.org/offers.json")
    rated = plan.map("rated", over=page["items"], kind="agent", program="answer", task="Rate it.", offer=item["price"])
    check = plan.approval("check", shows=rated)
    plan.agent("report", "answer", task="Write it up.", rated=rated, after=[when(check, "result.approved")])
    client.submit(Request("plan", plan.to_json()))

A star is a reference to its result, and `star["key"][0]` to a part of it; all else is data, whatever it looks like.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.values import Json
from asterism.planner.plan_file import plan_batches


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a star's result, or (`star` None) of the item of a map."""

    star: str | None
    path: tuple[str | int, ...] = ()

    def __getitem__(self, step: str | int) -> "Part":
        return Part(self.star, (*self.path, step))

    def __iter__(self) -> "Iterable[Part]":
        # Else Python would count through `__getitem__` for ever.
        raise TypeError("what a star gives is not known yet: map over it")

    def to_input(self) -> Json:
        """As a plan file writes it."""
        key: dict[str, Json] = {"$item": True} if self.star is None else {"$from": self.star}
        return {**key, "$path": list(self.path)} if self.path else key


@dataclass(frozen=True, slots=True)
class _Word:
    """An input of a name of its own."""

    value: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class _Line:
    fields: Mapping[str, Json]


item: Final = Part(None)
"""In a map: the item."""
index: Final = _Word({"$index": True})
"""In a map: the number of the item, from 0."""
parents: Final = _Word({"$parents": True})
"""The outcome of every parent."""
After: TypeAlias = Part | _Line


def when(star: Part, condition: str) -> After:
    """Run if the condition holds of the star's outcome."""
    return _Line({"star": _name(star), "when": condition})


def ended(star: Part) -> After:
    """Run after the star, however it ended."""
    return _Line({"star": _name(star), "on": "completion"})


def stream(star: Part) -> After:
    """Begin while the star runs, and hear what it writes; its result is given at its end."""
    return _Line({"star": _name(star), "on": "stream"})


class Plan:
    """The stars of one request. Settings of a star that are no inputs (`requires`, `timeouts`, `retry`, `priority`,
    `title`, `may_edit`) come in `settings`."""

    def __init__(self) -> None:
        self._stars: dict[str, Json] = {}

    def star(
        self,
        star: str,
        kind: str,
        program: str | None = None,
        *,
        after: Iterable[After] = (),
        quorum: tuple[int, Iterable[Part]] | None = None,
        settings: Mapping[str, Json] | None = None,
        **inputs: Any,
    ) -> Part:
        """Add a star of any kind; raises InvalidField for an id that is taken."""
        fields: dict[str, Json] = {"kind": kind, "inputs": {name: _input(value) for name, value in inputs.items()}}
        if program is not None:
            fields["program"] = program
        return self._add(star, {**fields, **(settings or {})}, after, quorum)

    def tool(self, star: str, tool: str, **more: Any) -> Part:
        """Add a star that runs a tool."""
        return self.star(star, "tool", tool, **more)

    def agent(self, star: str, program: str, **more: Any) -> Part:
        """Add a star in which a model does a task."""
        return self.star(star, "agent", program, **more)

    def gather(self, star: str, program: str = "gather", **more: Any) -> Part:
        """Add a star that joins results."""
        return self.star(star, "gather", program, **more)

    def approval(self, star: str, **more: Any) -> Part:
        """Add a star that a person decides about."""
        return self.star(star, "approval", **more)

    def map(
        self,
        star: str,
        *,
        over: Part,
        kind: str,
        program: str,
        max_items: int | None = None,
        keep_failures: bool = False,
        after: Iterable[After] = (),
        settings: Mapping[str, Json] | None = None,
        **inputs: Any,
    ) -> Part:
        """Add one star for each item of a list; `settings` are those of each."""
        taken: Json = {name: _input(value) for name, value in inputs.items()}
        each: Json = {"kind": kind, "program": program, "inputs": taken, **(settings or {})}
        fields: dict[str, Json] = {"kind": "map", "over": over.to_input(), "each": each}
        if max_items is not None:
            fields["max_items"] = max_items
        if keep_failures:
            fields["on"] = "completion"
        return self._add(star, fields, after, None)

    def to_json(self) -> str:
        """The plan file; raises InvalidField for what does not fit, as `asterism plan check` does."""
        text = json.dumps({"stars": self._stars}, ensure_ascii=False, indent=2)
        for _ in plan_batches(text):
            pass
        return text

    def _add(
        self,
        star: str,
        fields: dict[str, Json],
        after: Iterable[After],
        quorum: tuple[int, Iterable[Part]] | None,
    ) -> Part:
        if star in self._stars:
            raise InvalidField(f"stars.{star}", "the id is taken by another star")
        lines: list[Json] = [line.fields if isinstance(line, _Line) else _name(line) for line in after]
        if lines:
            fields["after"] = lines
        if quorum is not None:
            fields["quorum"] = {"at_least": quorum[0], "of": [_name(parent) for parent in quorum[1]]}
        self._stars[star] = fields
        return Part(star)


def _name(star: Part) -> str:
    if star.star is None or star.path:
        raise InvalidField("after", "a star is named here, and not a part of its result")
    return star.star


def _input(value: Any) -> Json:
    match value:
        case Part():
            return value.to_input()
        case _Word():
            return value.value
        case Mapping() if any(isinstance(key, str) and key.startswith("$") for key in value):
            return {"$value": value}
        case _:
            plain: Json = value
            return plain
