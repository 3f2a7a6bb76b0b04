"""A graph as the program is told of it that rewrites it: a row a star, bounded, the most important ones first."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field

from asterism.agents.data import as_text, shortened
from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.star import Attempt, OutputOf, StarState, TaskStar
from asterism.orchestrator.core.values import Artifact, Json, Result, json_bytes
from asterism.planner.edits_json import star_to_json
from asterism.planner.fields import Fields, WrongAt, refusal, validated

MAX_BYTES: Final = 192 * 1024
"""Of all rows as JSON; an input of a star has at most 256 KiB."""
MAX_RESULT: Final = 1_500
"""Characters of one result; the view shows fewer, and more when it is asked."""
MAX_INPUT: Final = 400
"""Characters of one constant input."""
_MAX_ATTEMPTS: Final = 5
_MAX_MESSAGE: Final = 300
_MAX_FAILED_BYTES: Final = MAX_BYTES // 3
"""Of the rows of failed stars, which come first: of thousands that failed alike, the first ones tell enough."""
_LEAST_ROW: Final = 160
"""Characters that a result keeps where there are many."""


class Use(Fields):
    """An input that is a part of another star's result."""

    star: str
    path: list[str | int] = Field(default=[])


class Parent(Fields):
    """A line that leads to the star."""

    star: str
    on: str = "success"
    when: Any = None


class Row(Fields):
    """One star."""

    id: str
    kind: str
    program: str
    state: str
    after: list[Parent] = Field(default=[])
    uses: dict[str, Use] = Field(default={})
    inputs: dict[str, Any] = Field(default={})
    """The others, shortened."""
    more: dict[str, Any] = Field(default={})
    """What is not as it is by default: requirements, priority, time-outs, retries, title."""
    attempts: list[str] = Field(default=[])
    error: str = ""
    result: str = ""
    size: int = 0
    """Bytes of the whole result, where it is longer than what is shown."""

    @property
    def is_pending(self) -> bool:
        """Whether it may be edited."""
        return self.state in (StarState.WAITING, StarState.READY)


class Graph(Fields):
    """A graph at a revision. `left_out` counts the stars that have no row."""

    revision: int
    counts: dict[str, int]
    stars: list[Row]
    left_out: int = 0
    is_whole: bool = True
    """Whether every star that may be edited has a row."""


def read_graph(value: Json) -> Graph:
    """The input `graph` of the rewriting program; raises InvalidField."""
    try:
        return validated(Graph, value)
    except WrongAt as wrong:
        raise refusal(wrong, field="graph") from None


def describe(constellation: TaskConstellation) -> Json:
    """The input `graph`: what went wrong, then what is pending or runs in full, then the results that these need.

    What does not fit into MAX_BYTES is left out, of finished stars the oldest first.
    """
    needed = {
        parent
        for star_id, star in constellation.stars.items()
        if not star.state.is_terminal
        for parent in constellation.parents.get(star_id, ())
    }

    def importance(star: TaskStar) -> tuple[int, float]:
        if star.state is StarState.FAILED:
            return (0, star.finished_at or 0.0)
        if not star.state.is_terminal:
            return (1, 0.0)
        is_near = star.state is StarState.CANCELLED or star.spec.id in needed
        return (2 if is_near else 3, -(star.finished_at or 0.0))

    # Who asks for a rewrite, and what waits for it, is no part of what is to be rewritten.
    told = (star for star in constellation.stars.values() if not star.spec.asks_replan)
    ordered = sorted(told, key=importance)
    rows: list[Json] = []
    left: list[TaskStar] = []
    size = 0
    of_result = max(_LEAST_ROW, min(MAX_RESULT, MAX_BYTES // (2 * max(1, len(ordered)))))
    for star in ordered:
        most = _MAX_FAILED_BYTES if star.state is StarState.FAILED else MAX_BYTES
        row = {} if size > most else _row(constellation, star, of_result)
        bytes_of_row = len(json.dumps(row, ensure_ascii=False).encode())
        if row and size + bytes_of_row <= most:
            size += bytes_of_row
            rows.append(row)
        else:
            left.append(star)
    return {
        "revision": constellation.revision,
        "counts": dict(Counter(star.state.value for star in ordered)),
        "stars": rows,
        "left_out": len(left),
        "is_whole": all(star.state.is_terminal for star in left),
    }


def _row(constellation: TaskConstellation, star: TaskStar, of_result: int) -> Json:
    spec = star.spec
    row: dict[str, Json] = {
        "id": spec.id,
        "kind": spec.kind.value,
        "program": spec.program,
        "state": star.state.value,
    }
    if star.attempts and star.state is not StarState.SUCCEEDED:
        row["attempts"] = [_attempt(attempt) for attempt in star.attempts[-_MAX_ATTEMPTS:]]
    if star.error is not None:
        row["error"] = shortened(f"{star.error.code}: {as_text(star.error.message)}", _MAX_MESSAGE)
    if star.state is StarState.SUCCEEDED:
        row["result"], size = _result(star.result, of_result)
        if size:
            row["size"] = size
        return row
    lines = constellation.parents.get(spec.id, {}).values()
    row["after"] = [_parent(line) for line in lines if line.kind is not LineKind.GUARD]
    uses: dict[str, Json] = {
        name: {"star": source.star, "path": list(source.path)}
        for name, source in spec.inputs.items()
        if isinstance(source, OutputOf)
    }
    written = dict(star_to_json(spec))
    inputs = written.pop("inputs", {})
    assert isinstance(inputs, Mapping)
    shown: dict[str, Json] = {name: _shown(value) for name, value in inputs.items() if name not in uses}
    more = {key: value for key, value in written.items() if key not in ("id", "kind", "program")}
    given = {"uses": uses, "inputs": shown, "more": more}
    return {**row, **{key: value for key, value in given.items() if value}}


def _parent(line: TaskStarLine) -> Json:
    parent: dict[str, Json] = {"star": line.parent}
    if line.kind is not LineKind.SUCCESS:
        parent["on"] = line.kind.value
    if line.condition is not None:
        parent["when"] = str(line.condition)
    return parent


def _attempt(attempt: Attempt) -> str:
    outcome = "runs" if attempt.outcome is None else attempt.outcome.value
    reason = "" if attempt.error is None else f" {attempt.error.code}: {as_text(attempt.error.message)}"
    return shortened(f"{attempt.number} on {attempt.worker}: {outcome}{reason}", _MAX_MESSAGE)


def _shown(value: Json) -> Json:
    """A constant, or the beginning and end of its text where it is long."""
    if json_bytes(value) <= MAX_INPUT:
        return value
    return shortened(as_text(value), MAX_INPUT)


def _result(result: Result, most: int) -> tuple[str, int]:
    """A result's text within its bound, and its size in bytes where there is more of it."""
    if isinstance(result, Artifact):
        return "", result.size
    text = as_text(result)
    return shortened(text, most), len(text.encode()) if len(text) > most else 0
