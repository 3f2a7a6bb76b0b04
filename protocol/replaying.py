"""A constellation rebuilt from its journal by the core's own fold, as it stood at any revision; and what differs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

from asterism.orchestrator.core.apply import apply
from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.errors import NotFound
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.records import AttemptLeased, ConstellationRecord, EditsApplied, RequestAccepted
from asterism.orchestrator.core.star import StarSpec, TaskStar
from asterism.orchestrator.core.state import State, Worker

_NOT_KEPT = frozenset({"ready_at"})
"""What an end, and not a record, decides: it is of use only while a star waits."""


def replay(records: Iterable[ConstellationRecord], revision: int | None = None) -> TaskConstellation:
    """The constellation after `records`, its journal from the first one on; or as the edit of `revision` left it.

    Raises NotFound for a revision that the records do not reach.
    """
    state = State()
    found: TaskConstellation | None = None
    for record in records:
        if isinstance(record, AttemptLeased) and record.worker not in state.workers:
            # A journal of one constellation says nothing of workers, and needs them only to be there.
            state.workers[record.worker] = Worker(record.worker, "", WorkerProfile(1))
        apply(state, record)
        if isinstance(record, RequestAccepted):
            found = state.constellations[record.constellation]
        if revision is not None and isinstance(record, EditsApplied) and record.revision == revision:
            break
    if found is None or (revision is not None and found.revision != revision):
        raise NotFound("revision", str(revision))
    return found


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same in two constellations."""

    where: str
    """`star NAME`, `line PARENT -> CHILD`, or a field of the whole."""
    what: str
    """`added`, `removed`, or a field."""
    before: str = ""
    after: str = ""

    def __str__(self) -> str:
        change = f": {self.before} -> {self.after}" if self.before or self.after else ""
        return f"{self.where} {self.what}{change}"


def differences(before: TaskConstellation, after: TaskConstellation) -> Iterator[Difference]:
    """What an edit can change: stars with their specifications, and lines; what was removed comes first."""
    for star_id in before.stars:
        if star_id not in after.stars:
            yield Difference(f"star {star_id}", "removed")
    for star_id, star in after.stars.items():
        if star_id not in before.stars:
            yield Difference(f"star {star_id}", "added", "", f"{star.spec.kind.value} {star.spec.program}")
        else:
            yield from _of_spec(star_id, before.stars[star_id].spec, star.spec)
    lines_before = {(line.parent, line.child): line for line in before.lines()}
    lines_after = {(line.parent, line.child): line for line in after.lines()}
    for ends, line in lines_before.items():
        if ends not in lines_after:
            yield Difference(f"line {line.parent} -> {line.child}", "removed")
    for ends, line in lines_after.items():
        known = lines_before.get(ends)
        where = f"line {line.parent} -> {line.child}"
        if known is None:
            yield Difference(where, "added", "", line.kind.value if line.condition is None else str(line.condition))
        elif known != line:
            yield Difference(where, "kind", known.kind.value, line.kind.value)


def _of_spec(star_id: StarId, before: StarSpec, after: StarSpec) -> Iterator[Difference]:
    for field in fields(StarSpec):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if old == new:
            continue
        if field.name != "inputs":
            yield Difference(f"star {star_id}", field.name, str(old), str(new))
            continue
        for name in [*before.inputs, *(name for name in after.inputs if name not in before.inputs)]:
            if before.inputs.get(name) != after.inputs.get(name):
                shown = (str(inputs[name]) if name in inputs else "none" for inputs in (before.inputs, after.inputs))
                yield Difference(f"star {star_id}", f"input {name}", *shown)


def divergences(replayed: TaskConstellation, told: TaskConstellation) -> Iterator[Difference]:
    """Where what an orchestrator tells of a constellation is not what its journal says: nothing, if all is well."""
    for field in fields(TaskConstellation):
        if field.name not in ("stars", "parents", "children"):
            old, new = getattr(replayed, field.name), getattr(told, field.name)
            if old != new:
                yield Difference(field.name, "differs", str(old), str(new))
    yield from differences(replayed, told)
    for star_id in replayed.stars.keys() & told.stars.keys():
        yield from _of_star(replayed.stars[star_id], told.stars[star_id])


def _of_star(replayed: TaskStar, told: TaskStar) -> Iterator[Difference]:
    for field in fields(TaskStar):
        if field.name == "spec" or field.name in _NOT_KEPT:
            continue
        old, new = getattr(replayed, field.name), getattr(told, field.name)
        if old != new:
            yield Difference(f"star {replayed.spec.id}", field.name, str(old), str(new))
