"""A plan, tried on a graph of its own: what the core would refuse of it is found before anything runs."""

import json
from collections.abc import Iterable, Iterator
from typing import Final

from asterism.orchestrator.core.apply import apply
from asterism.orchestrator.core.check import check_batch
from asterism.orchestrator.core.constellation import BY_STAR, PLAN_STAR, TaskConstellation
from asterism.orchestrator.core.edits import AddStar, Edit, EditBatch
from asterism.orchestrator.core.errors import InvalidEdit
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.records import EditsApplied
from asterism.orchestrator.core.request import Budget, Request
from asterism.orchestrator.core.star import Constant, StarKind, StarSpec
from asterism.orchestrator.core.state import State
from asterism.orchestrator.core.values import MAX_VALUE_BYTES, Json
from asterism.planner.mapping import sample_edits

_NAME: Final = ConstellationId("rehearsal")
_ENDLESS: Final = Budget(stars=2**62, seconds=None)
"""What a request may cost is said when it is submitted."""
_LONGEST: Final = 6
"""Bytes of one character in a JSON text, as those that are escaped have."""
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class Rehearsal:
    """A graph that grows by a plan's batches as the orchestrator's will, behind the star that plans."""

    def __init__(self, known: frozenset[str] = frozenset(), others: Iterable[StarId] = ()) -> None:
        """`known` is what the workers offer, empty while there is none; `others` are stars that are there already."""
        self._known = known
        self._state = State()
        self._graph = TaskConstellation(_NAME, "", "", Request("", ""), _ENDLESS, 0.0, 0.0)
        self._state.adopt(self._graph, at=0.0)
        self._apply(tuple(AddStar(StarSpec(star, StarKind.PLAN, "plan")) for star in (PLAN_STAR, *others)))

    def take(self, edits: tuple[Edit, ...]) -> None:
        """Let the graph grow by a batch, if the core lets it; raises InvalidEdit.

        Of a map the first star that it will add is tried, too, which nothing is left of.
        """
        check_batch(self._graph, EditBatch(edits), self._known, by=PLAN_STAR)
        self._apply(edits)
        for edit in edits:
            if isinstance(edit, AddStar):
                _check_sizes(edit.spec)
                sample = sample_edits(edit.spec)
                if sample:
                    check_batch(self._graph, EditBatch(sample), self._known, by=edit.spec.id)

    def _apply(self, edits: tuple[Edit, ...]) -> None:
        seq, revision = self._state.last_seq + 1, self._graph.revision + 1
        apply(self._state, EditsApplied(seq, 0.0, _NAME, revision, f"{BY_STAR}{PLAN_STAR}", edits))


def rehearsed(batches: Iterable[tuple[Edit, ...]], known: frozenset[str]) -> Iterator[tuple[Edit, ...]]:
    """The same batches, each tried before it is given; raises InvalidEdit."""
    rehearsal = Rehearsal(known)
    for edits in batches:
        rehearsal.take(edits)
        yield edits


def _check_sizes(spec: StarSpec) -> None:
    """The wire carries no larger inputs."""
    for name, source in spec.inputs.items():
        if isinstance(source, Constant) and _is_too_large(source.value):
            raise InvalidEdit(spec.id, f"input {name} has more than {MAX_VALUE_BYTES} bytes as JSON")


def _is_too_large(value: Json) -> bool:
    """Whether its JSON text is; it is written out only where it might be."""
    match value:
        case None | bool() | int() | float():
            return False
        case str() if len(value) * _LONGEST < MAX_VALUE_BYTES:
            return False
        case _:
            return len(_ENCODER.encode(value).encode()) > MAX_VALUE_BYTES
