"""The pending part of a graph as a plan file: what a person edits, written out, and read back as the edits it asks for.

The stars that neither run nor have ended stand in it, each with all its parents: those that run or have ended are named
in `after`, or in an input, and stay what they are. What the file says is compared with the graph that it was written
from, so that nothing is asked for where nothing was changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Discriminator, Field

from asterism.orchestrator.core.check import check_batch, check_new_name, check_spec
from asterism.orchestrator.core.constellation import PLAN_STAR, TaskConstellation
from asterism.orchestrator.core.edits import AddLine, AddStar, Edit, EditBatch
from asterism.orchestrator.core.errors import InvalidEdit, InvalidField
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.star import OutputOf, StarSpec, TaskStar
from asterism.orchestrator.core.values import Json, Path
from asterism.planner.condition_text import read_condition
from asterism.planner.document import Document, read_document
from asterism.planner.edits_json import line_to_json, star_to_json
from asterism.planner.fields import Fields, Name, WrongAt, validated
from asterism.planner.mapping import find_sample
from asterism.planner.pending_edits import Wanted, edits_between, is_pending
from asterism.planner.pending_maps import find_map
from asterism.planner.plan_file import StarList, StarMap, compile_stars, with_ids
from asterism.planner.tokens import BadText
from asterism.planner.yaml_text import yaml_lines

_NOTE: Final = "#! "
"""Begins a line that tells the reader something; `write_notes` puts new ones in place of old ones."""
_NAMED: Final = 40
"""Stars that have begun which the head names: the last ones, which are the ones that pending stars mostly need."""


class PendingDocument(Fields):
    """The file."""

    constellation: Name | None = None
    seq: Annotated[int, Field(ge=1)] | None = None
    """The record of the journal up to which the graph was known to whoever wrote it; without one it is meant for the
    graph as it stands."""
    stars: Annotated[
        StarList | StarMap,
        Discriminator(lambda value: "map" if isinstance(value, Mapping) else "list"),
    ]


def write_pending(constellation: TaskConstellation) -> str:
    """The file: its head, and every pending star in the order in which they were added."""
    lines = [*_head(constellation), f"constellation: {constellation.id}", f"seq: {constellation.seq}"]
    written = list(_written_stars(constellation))
    if not written:
        return "\n".join((*lines, "stars: {}", ""))
    lines.append("stars:")
    for star_id, fields in written:
        lines.append(f"  {star_id}:  # {constellation.stars[star_id].state}")
        lines.extend(yaml_lines(fields, 4))
    return "\n".join((*lines, ""))


def write_notes(text: str, notes: Sequence[str]) -> str:
    """The same text with these notes at its head in place of earlier ones."""
    kept = [line for line in text.split("\n") if not line.startswith(_NOTE)]
    return "\n".join((*(_NOTE + line for note in notes for line in note.splitlines()), *kept))


@dataclass(frozen=True, slots=True)
class PendingFile:
    """A file that has been read."""

    constellation: str | None
    seq: int | None
    _document: Document
    _stars: StarList | StarMap

    def place_of(self, star: str) -> str:
        """Where a star stands, in words for people; empty where it does not."""
        for path in self._places_of(star):
            if path in self._document.positions:
                return str(self._document.positions[path])
        return ""

    def edits_of(self, base: TaskConstellation) -> tuple[Edit, ...]:
        """What turns the pending part of `base` into what the file says; none where they are the same.

        Raises InvalidField, with line and column, where the file makes no sense, asks for what cannot be done to a
        star that is there, or where the core would refuse it whatever the workers offer.
        """
        try:
            return self._edits_of(base)
        except WrongAt as wrong:
            raise self._document.refusal(wrong.path, wrong.reason) from None

    def _edits_of(self, base: TaskConstellation) -> tuple[Edit, ...]:
        fields, places = with_ids(self._stars, has_plan_star=PLAN_STAR in base.stars)
        begun = {star_id for star_id, star in base.stars.items() if not is_pending(star)}
        wanted: dict[StarId, Wanted] = {}
        for star_id, compiled in compile_stars(fields, places, begun - fields.keys()).items():
            for edit in compiled.edits:
                match edit:
                    case AddStar(spec):
                        lines = {line.parent: line for line in edit.lines()}
                        wanted[spec.id] = Wanted(spec, lines, places[star_id])
                        if spec.id not in base.stars:
                            _check_new(spec, places[star_id])
                    case AddLine(line):
                        wanted[line.child].lines[line.parent] = line
                    case _:
                        raise AssertionError("a plan adds stars and lines")
        edits = edits_between(base, wanted)
        if edits:
            try:
                check_batch(base, EditBatch(edits), frozenset())
            except InvalidEdit as error:
                star = wanted.get(StarId(error.star))
                raise WrongAt(("stars",) if star is None else star.at, f"star {error.star}: {error.reason}") from None
        return edits

    def _places_of(self, star: str) -> Iterator[Path]:
        names = (star, star.removesuffix(".each"))
        if isinstance(self._stars, dict):
            yield from (("stars", name) for name in names)
        else:
            yield from (("stars", index) for index, listed in enumerate(self._stars) if listed.id in names)


def read_pending(text: str) -> PendingFile:
    """The file, which is YAML or JSON; raises InvalidField, with line and column where it is YAML."""
    document = read_document(text)
    value = document.value
    if value is None:
        raise InvalidField("document", "there is nothing in it; `stars: {}` is a file without stars")
    if isinstance(value, Mapping) and "stars" in value and value["stars"] is None:
        value = {**value, "stars": {}}
    try:
        read = validated(PendingDocument, value)
    except WrongAt as wrong:
        raise document.refusal(wrong.path, wrong.reason) from None
    return PendingFile(read.constellation, read.seq, document, read.stars)


def _check_new(spec: StarSpec, at: Path) -> None:
    """What the door of the orchestrator would refuse, and of a map what its first star would be refused for."""
    try:
        for each in (spec, find_sample(spec)):
            if each is not None:
                check_new_name(each.id)
                check_spec(each, frozenset())
    except InvalidEdit as error:
        raise WrongAt(at, error.reason) from None


def _head(constellation: TaskConstellation) -> Iterator[str]:
    yield f"# The pending part of {constellation.id} at revision {constellation.revision}."
    yield "# Change, add and remove stars and what they stand after; leave everything as it is to change nothing."
    yield "# A star under another id is another star. What runs or has ended is not here, and may be a parent."
    begun = [star for star in constellation.stars.values() if not is_pending(star)]
    if begun:
        named = ", ".join(f"{star.spec.id} {star.state}" for star in begun[-_NAMED:])
        yield f"# Runs or has ended: {f'{len(begun) - _NAMED} more, ' if len(begun) > _NAMED else ''}{named}"


def _written_stars(constellation: TaskConstellation) -> Iterator[tuple[StarId, Mapping[str, Json]]]:
    """The pending stars as a plan file has them; the two of a map that is still to be spread as one."""
    hidden: set[StarId] = set()
    maps: dict[StarId, Mapping[str, Json]] = {}
    for star_id, star in constellation.stars.items():
        found = find_map(constellation, star_id, written_parents) if is_pending(star) else None
        if found is not None:
            hidden.add(star_id)
            maps[found[0]] = found[1]
    for star_id, star in constellation.stars.items():
        if is_pending(star) and star_id not in hidden:
            yield star_id, maps.get(star_id) or _written_star(constellation, star)


def _written_star(constellation: TaskConstellation, star: TaskStar) -> Mapping[str, Json]:
    fields = dict(star_to_json(star.spec))
    del fields["id"]
    fields.pop("quorum", None)
    used = {source.star for source in star.spec.inputs.values() if isinstance(source, OutputOf)}
    first: dict[str, Json] = {name: fields.pop(name) for name in ("kind", "program", "title") if name in fields}
    parents = constellation.parents.get(star.spec.id, {})
    return {**first, **fields, **written_parents(parents, used, star.spec.quorum)}


def written_parents(parents: Mapping[StarId, TaskStarLine], used: set[StarId], quorum: int) -> Mapping[str, Json]:
    """`after` and `quorum` of a star; the results of `used` are its inputs, so that these need no mention."""
    after: list[Json] = []
    voters: list[Json] = []
    for parent, line in parents.items():
        match line.kind:
            case LineKind.SUCCESS if parent in used:
                pass
            case LineKind.SUCCESS:
                after.append(parent)
            case LineKind.COMPLETION | LineKind.STREAM:
                after.append({"star": parent, "on": line.kind.value})
            case LineKind.CONDITION:
                after.append({"star": parent, "when": _written_condition(line)})
            case LineKind.QUORUM:
                voters.append(parent)
            case LineKind.GUARD:
                pass  # of a rewrite that is under way: nothing that a person could say
    fields: dict[str, Json] = {"after": after} if after else {}
    if quorum:
        fields["quorum"] = {"at_least": quorum, "of": voters} if voters else quorum
    return fields


def _written_condition(line: TaskStarLine) -> Json:
    """As text where that means the same, else as fields."""
    fields = line_to_json(line)["condition"]
    text = str(line.condition)
    try:
        same = line_to_json(TaskStarLine(line.parent, line.child, line.kind, read_condition(text)))["condition"]
    except BadText:
        return fields
    return text if same == fields else fields
