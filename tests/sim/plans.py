"""A planner without sense: random edits over a handful of names, so that many clash, close a cycle or come too late."""

import random
from dataclasses import replace
from itertools import takewhile
from typing import Final

from asterism.orchestrator.core.condition import Comparison, Condition
from asterism.orchestrator.core.edits import (
    AddLine,
    AddStar,
    CancelStar,
    Edit,
    EditBatch,
    RebindInputs,
    RemoveLine,
    RemoveStar,
    UpdateStar,
)
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.star import (
    Constant,
    OutputOf,
    ParentOutcomes,
    RetryPolicy,
    StarInput,
    StarKind,
    StarSpec,
    Timeouts,
)

NAMES: Final = tuple(StarId(f"s{number}") for number in range(8))
PROGRAMS: Final = {StarKind.PLAN: ("plan",), StarKind.GATHER: ("gather",), StarKind.TOOL: ("quick", "slow", "label")}


def draw_spec(rng: random.Random, name: str) -> StarSpec:
    """A star as a planner might want it."""
    kind = rng.choices([StarKind.TOOL, StarKind.GATHER, StarKind.PLAN], [8, 2, 1])[0]
    return StarSpec(
        StarId(name),
        kind,
        rng.choice(PROGRAMS[kind]),
        inputs={"x": Constant(rng.randrange(9))},
        priority=rng.choice([0, 0, 0, 5, -5]),
        timeouts=Timeouts(
            schedule_to_start_s=rng.choice([None, None, None, 8.0]),
            start_to_close_s=rng.choice([3.0, 6.0, 12.0]),
            heartbeat_s=rng.choice([None, None, 2.0]),
        ),
        retry=RetryPolicy(rng.randint(1, 3), 0.4, max_backoff_s=2.0),
        may_edit=kind is not StarKind.TOOL and rng.random() < 0.6,
    )


def draw_line(rng: random.Random, parent: StarId, child: StarId) -> TaskStarLine:
    kinds = [LineKind.SUCCESS, LineKind.STREAM, LineKind.COMPLETION, LineKind.CONDITION]
    kind = rng.choices(kinds, [4, 2, 3, 2])[0]
    condition = Condition.of(("state",), Comparison.EQ, "SUCCEEDED") if kind is LineKind.CONDITION else None
    return TaskStarLine(parent, child, kind, condition)


def draw_plan(rng: random.Random, size: int) -> EditBatch:
    """A few new stars with lines between them, as a plan begins."""
    names = rng.sample(NAMES, min(size, len(NAMES)))
    edits: list[Edit] = []
    for place, name in enumerate(names):
        parents = [parent for parent in names[:place] if rng.random() < 0.5]
        spec = draw_spec(rng, name)
        source: StarInput = ParentOutcomes()
        if parents and rng.random() < 0.3:
            source = OutputOf(parents[0])
        lines = [draw_line(rng, parent, name) for parent in parents]
        if any(line.kind is LineKind.STREAM for line in lines):
            source = OutputOf(parents[0])
        if parents:
            spec = replace(spec, inputs={"x": source})
        plain = tuple(line.parent for line in takewhile(lambda line: line.kind is LineKind.SUCCESS, lines))
        edits.append(AddStar(spec, plain))
        edits.extend(AddLine(line) for line in lines[len(plain) :])
    return EditBatch(tuple(edits))


def draw_edits(rng: random.Random, *, marker: str | None = None) -> EditBatch:
    """Anything, mostly refused or harmless. `marker`: a name that only this batch adds."""
    edits = [_draw_edit(rng) for _ in range(rng.randint(1, 3))]
    if marker is not None:
        edits.append(AddStar(draw_spec(rng, marker)))
        if rng.random() < 0.5:
            edits.append(AddLine(draw_line(rng, rng.choice([*NAMES, StarId("plan")]), StarId(marker))))
    return EditBatch(tuple(edits))


def _draw_edit(rng: random.Random) -> Edit:
    one, other = rng.sample(NAMES, 2)
    match rng.randrange(9):
        case 0 | 1:
            return AddStar(draw_spec(rng, one))
        case 2 | 3:
            return AddLine(draw_line(rng, one, other))
        case 4:
            return RemoveLine(one, other)
        case 5:
            return RemoveStar(one)
        case 6:
            return UpdateStar(one, priority=rng.randint(-9, 9), retry=RetryPolicy(2, 0.2))
        case 7:
            return RebindInputs(one, {"x": Constant(rng.randrange(9))})
        case _:
            return CancelStar(one)
