"""Plan files of what is pending, from the room that reads and writes them: it is found by name, as commands are."""

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Final, Protocol

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.edits import Edit
from asterism.orchestrator.core.errors import Misconfigured

_GROUP: Final = "asterism.plan_files"


class PlanFile(Protocol):
    """A file that has been read."""

    @property
    def constellation(self) -> str | None:
        """Whose it says it is."""

    @property
    def seq(self) -> int | None:
        """The record of the journal up to which its writer knew the graph."""

    def place_of(self, star: str) -> str:
        """Where a star stands, in words; empty where it does not."""

    def edits_of(self, base: TaskConstellation) -> tuple[Edit, ...]:
        """What turns the pending part of `base` into what the file says; raises InvalidField that says where."""


class PlanFiles(Protocol):
    """What is pending as a plan file, both ways."""

    def write_pending(self, constellation: TaskConstellation) -> str:
        """The file."""

    def write_notes(self, text: str, notes: Sequence[str]) -> str:
        """The same text with these notes at its head in place of earlier ones."""

    def read_pending(self, text: str) -> PlanFile:
        """The file as it is written; raises InvalidField that says where."""


def plan_files() -> PlanFiles:
    """Whoever reads and writes them; raises ModuleNotFoundError where what that takes is not installed."""
    for point in entry_points(group=_GROUP):
        found: PlanFiles = point.load()
        return found
    raise Misconfigured("the installation", f"nothing offers {_GROUP}; install asterism again")
