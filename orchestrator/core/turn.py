"""One step under way: each record is applied as it is decided, so that the next decision sees it."""

from asterism.orchestrator.core.apply import apply
from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.effects import Effect, Outcome
from asterism.orchestrator.core.ids import ConstellationId, FencingToken
from asterism.orchestrator.core.records import Record
from asterism.orchestrator.core.state import State


class Turn:
    """What a step has led to so far."""

    __slots__ = ("at", "chance", "outcome", "reported", "state", "touched")

    def __init__(self, state: State, at: float, chance: float) -> None:
        self.state = state
        self.at = at
        self.chance = chance
        self.outcome = Outcome([], [])
        self.touched: dict[ConstellationId, None] = {}
        """Constellations that may have come to their end."""
        self.reported: list[FencingToken] = []
        """Attempts whose worker is to hear that it was heard."""

    @property
    def seq(self) -> int:
        """The place of the next record."""
        return self.state.last_seq + 1

    def record(self, record: Record) -> None:
        """Decide it: from here on the state is as the record says."""
        apply(self.state, record)
        self.outcome.records.append(record)

    def effect(self, effect: Effect) -> None:
        """To be done after the append."""
        self.outcome.effects.append(effect)

    def touch(self, constellation: TaskConstellation) -> None:
        """Look at the end of this step whether it has ended."""
        self.touched[constellation.id] = None
