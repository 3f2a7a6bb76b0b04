"""What each call about requests leads to: a request as its journal tells it, and how edits and retries are refused."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import grpc

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.edits import AddLine, AddStar, CancelStar, EditBatch, RemoveStar, UpdateStar
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.records import ConstellationRecord
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.snapshot import Summary
from asterism.orchestrator.core.star import StarState
from asterism.protocol.replay import replay
from asterism.protocol.v1 import client_pb2

INVALID: Final = grpc.StatusCode.INVALID_ARGUMENT
WRONG: Final = grpc.StatusCode.FAILED_PRECONDITION
MISSING: Final = grpc.StatusCode.NOT_FOUND
STALE: Final = grpc.StatusCode.ABORTED


@dataclass
class Known:
    """A request whose submission was answered."""

    id: ConstellationId
    owner: str
    asked: client_pb2.SubmitRequest
    history: list[ConstellationRecord] = field(default_factory=list)
    """All that the journal says of it."""
    folded: tuple[int, TaskConstellation] | None = None

    @property
    def graph(self) -> TaskConstellation:
        """What the history leads to; made anew where that has grown, so that what was before stays as it was."""
        if self.folded is None or self.folded[0] != len(self.history):
            self.folded = len(self.history), replay(self.id, self.history).constellation
        return self.folded[1]

    @property
    def row(self) -> Summary:
        """As a list shows it."""
        graph, asked = self.graph, self.asked
        return Summary(
            self.id,
            asked.request_id,
            self.owner,
            asked.request.name,
            asked.request.form,
            self.history[0].at,
            graph.state,
            graph.reason,
            graph.ended_at,
            graph.revision,
            len(graph.stars),
            sum(star.state.is_terminal for star in graph.stars.values()),
        )

    def after(self, seq: int) -> list[ConstellationRecord]:
        return [record for record in self.history if record.seq > seq]

    def had_ended(self, seq: int) -> bool:
        """Whether it had at that point of its journal."""
        upto = [record for record in self.history if record.seq <= seq]
        return bool(upto) and replay(self.id, upto).constellation.state.is_terminal


def refusal_of(graph: TaskConstellation, batch: EditBatch) -> grpc.StatusCode | None:
    """How a batch of the few edits that these stories draw is refused, if it is."""
    base = batch.base_revision
    if base is not None and base > graph.revision:
        return INVALID
    there, removed, named = set(graph.stars), set[StarId](), set[StarId]()
    for edit in batch.edits:
        match edit:
            case AddStar(spec, after):
                added = there - graph.stars.keys()
                if spec.id in there | removed or len(graph.stars) + len(added) >= graph.budget.stars:
                    return INVALID
                there.add(spec.id)
                named.update(after)
                if not there.issuperset(after):
                    return INVALID
            case AddLine(line):
                named.add(line.parent)
                if line.parent not in there:
                    return INVALID
            case UpdateStar(star) | RemoveStar(star):
                named.add(star)
                found = graph.stars.get(star)
                is_open = found is None or found.state in (StarState.WAITING, StarState.READY)
                if star not in there or not is_open:
                    return INVALID
                if isinstance(edit, RemoveStar):
                    there.remove(star)
                    removed.add(star)
            case CancelStar(star):
                named.add(star)
                if star not in there:
                    return INVALID
            case _:
                raise AssertionError(f"{edit} is none of these")
    is_stale = base is not None and any(graph.stars[star].revision > base for star in named if star in graph.stars)
    adds_nothing = graph.state.is_terminal and there <= graph.stars.keys()
    return STALE if is_stale else WRONG if adds_nothing else None


def retried(graph: TaskConstellation, stars: Sequence[StarId]) -> set[StarId] | grpc.StatusCode:
    """The stars that a retry adds, or how it is refused."""
    if stars:
        if not graph.state.is_terminal:
            return WRONG
        if any(star not in graph.stars for star in stars):
            return MISSING
        if any(next_of(star) in graph.stars for star in stars):
            return INVALID
        chosen = {*stars}
    else:
        if graph.state not in (ConstellationState.FAILED, ConstellationState.CANCELLED):
            return WRONG
        unsuccessful = {star for star, of in graph.stars.items() if of.state is not StarState.SUCCEEDED}
        chosen = {star for star in unsuccessful if next_of(star) not in graph.stars}
    below = list(chosen)
    for star in below:
        new = {child for child in graph.children.get(star, ()) if next_of(child) not in graph.stars} - chosen
        chosen |= new
        below += new
    if not chosen or len(graph.stars) + len(chosen) > graph.budget.stars:
        return INVALID
    return {next_of(star) for star in chosen}


def next_of(star: StarId) -> StarId:
    """The name of the star that runs in its place."""
    first, _, number = star.partition("~")
    return StarId(f"{first}~{int(number or 1) + 1}")
