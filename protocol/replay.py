"""A constellation rebuilt from its journal by the core's own fold, and what it differs in from another one."""

import copy
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from enum import Enum
from typing import Final

from asterism.orchestrator.core.apply import apply
from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.edits import Edit
from asterism.orchestrator.core.errors import DataLoss
from asterism.orchestrator.core.ids import ConstellationId, WorkerId
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.records import AttemptLeased, ConstellationRecord, EditsApplied, RequestAccepted
from asterism.orchestrator.core.star import TaskStar
from asterism.orchestrator.core.state import State, Worker
from asterism.orchestrator.core.values import Artifact, Result
from asterism.protocol.view.json_text import json_text

_SHOWN: Final = 12
"""Hexadecimal digits of a hash that people are shown."""


@dataclass(slots=True)
class Replayed:
    """What the records of a journal lead to."""

    constellation: TaskConstellation
    records: int


def replay(constellation: ConstellationId, records: Iterable[ConstellationRecord]) -> Replayed:
    """The fold of one constellation's records, from its first on; raises DataLoss where they do not fit together."""
    state = State()
    count, seq = 0, 0
    for record in records:
        of = state.constellations.get(constellation)
        is_first = isinstance(record, RequestAccepted)
        if record.constellation != constellation or record.seq <= seq or (of is None) != is_first:
            raise _damaged(constellation, record, "does not follow the one before")
        if of is not None and isinstance(record, EditsApplied) and record.revision != of.revision + 1:
            raise _damaged(constellation, record, f"makes revision {record.revision} of {of.revision}")
        if isinstance(record, AttemptLeased):
            _know(state, record.worker)
        try:
            apply(state, record)
        except (LookupError, AttributeError) as error:
            raise _damaged(constellation, record, f"does not fit the graph: {error!r}") from error
        count, seq = count + 1, record.seq
    found = state.constellations.get(constellation)
    if found is None:
        raise DataLoss("journal", constellation, "it has no record")
    return Replayed(found, count)


def edited(constellation: TaskConstellation, edits: tuple[Edit, ...]) -> TaskConstellation:
    """A copy as the edits would leave it, if nothing else happens."""
    state = State()
    of = copy.deepcopy(constellation)
    for star in of.stars.values():
        for attempt in star.attempts:
            _know(state, attempt.worker)
    state.adopt(of, at=of.started_at)
    apply(state, EditsApplied(of.seq + 1, of.started_at, of.id, of.revision + 1, "", edits))
    return of


def _know(state: State, worker: WorkerId) -> None:
    """A worker's own records are no part of a request's journal; all that the fold asks is that it is known."""
    if worker not in state.workers:
        state.workers[worker] = Worker(worker, "", WorkerProfile(1))


def until_revision(records: Iterable[ConstellationRecord], revision: int) -> Iterator[ConstellationRecord]:
    """Those up to and with the edit that made the revision; 0 is the empty graph that a request begins with."""
    for record in records:
        yield record
        match record:
            case RequestAccepted() if revision == 0:
                return
            case EditsApplied(revision=made) if made >= revision:
                return
            case _:
                pass


def result_hash(result: Result) -> str:
    """The SHA-256 of a result's JSON text, which an artifact has as its name."""
    if isinstance(result, Artifact):
        return result.sha256
    return hashlib.sha256(json_text(result).encode()).hexdigest()


def differences(mine: TaskConstellation, theirs: TaskConstellation) -> Iterator[str]:
    """Each thing that differs, in words; none where the two are the same in all that a picture holds."""
    for field in fields(TaskConstellation):
        if field.name not in ("stars", "parents", "children"):
            yield from _differs(field.name, getattr(mine, field.name), getattr(theirs, field.name))
    for star_id in {**mine.stars, **theirs.stars}:
        one, other = mine.stars.get(star_id), theirs.stars.get(star_id)
        if one is None or other is None:
            yield f"star {star_id}: {_missing(one, other)}"
        else:
            yield from _star_differences(one, other)
    lines = [{(line.parent, line.child): line for line in of.lines()} for of in (mine, theirs)]
    for ends in {**lines[0], **lines[1]}:
        if lines[0].get(ends) != lines[1].get(ends):
            yield f"line {ends[0]} -> {ends[1]}: {_missing(lines[0].get(ends), lines[1].get(ends))}"


def _star_differences(one: TaskStar, other: TaskStar) -> Iterator[str]:
    name = f"star {one.spec.id}"
    yield from _differs(f"{name}: result", result_hash(one.result)[:_SHOWN], result_hash(other.result)[:_SHOWN])
    for field in fields(TaskStar):
        if field.name != "result":
            yield from _differs(f"{name}: {field.name}", getattr(one, field.name), getattr(other, field.name))


def _differs(name: str, mine: object, theirs: object) -> Iterator[str]:
    if mine != theirs:
        shown = [value.value if isinstance(value, Enum) else value for value in (mine, theirs)]
        yield f"{name}: {shown[0]} by the journal, {shown[1]} by the orchestrator"


def _missing(mine: object, theirs: object) -> str:
    if mine is None:
        return "not in the journal"
    return "not with the orchestrator" if theirs is None else f"{mine} by the journal, {theirs} by the orchestrator"


def _damaged(constellation: ConstellationId, record: ConstellationRecord, reason: str) -> DataLoss:
    return DataLoss("journal", constellation, f"record {record.seq}, {type(record).__name__}, {reason}")
