"""Spawn and join, after Adaptive Parallel Reasoning (arXiv 2504.15466): each child begins with a context of its own.

    question <Spawn><Task> 1: ... </Task><Task> 2: ... </Task></Spawn>       what the parent writes
    <Result> ... </Result><Result> ... </Result> conclusion                  what it reads in its place, and goes on

The join takes the block out of the parent's text and puts the results there, so that contexts stay short. A parent
cannot write a result itself: the marks are banned where the engine can ban, and stop strings everywhere.
`running.reason` runs it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from asterism.agents.scheme import Body, Opening, Place, cut_at, glued, without_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawned:
    """Marks in the manner of the paper by default; another model's are another value of the same type."""

    block_opens: str = "<Spawn>"
    entry_opens: str = "<Task>"
    entry_closes: str = "</Task>"
    list_closes: str = "</Spawn>"
    thread_closes: str = "</Return>"
    result_opens: str = "<Result>"
    result_closes: str = "</Result>"
    returns: str = "<Return>"
    """What a child says behind the last of these is its result; without one, all that it says."""
    child_prompt: str = "{task}"
    """A child's context, written from its own line; `{number}` counts in the block from 1."""
    entry: str = "{entry_opens} {number}: {outline} {entry_closes}"
    """How the program writes an entry of its own into the list."""
    after_join: str = ""
    sequential_opens: str = ""
    glue: str = ""
    bannable: frozenset[str] = frozenset()

    @property
    def reserved(self) -> tuple[str, ...]:
        return (self.result_opens, self.result_closes)

    def open(self, number: int, entry: str) -> Opening | None:
        task = without_number(entry)
        if not task:
            return None
        return Opening(self.child_prompt.format(task=task, number=number), task)

    def list_entry(self, number: int, entry: str) -> str:
        return self.entry.format(
            entry_opens=self.entry_opens, number=number, outline=entry, entry_closes=self.entry_closes
        )

    def whole_list(self, entries: Sequence[str]) -> str:
        return ""

    def child_pieces(
        self, context: Sequence[str], opening: Opening, *, is_cut: bool
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return (), (opening.text,)

    def joined(self, said: Sequence[str], block: Place, bodies: Sequence[Body], *, is_whole: bool) -> list[str]:
        results = [piece for body in bodies for piece in (self.result_opens, body.text, self.result_closes)]
        return [piece for piece in (*cut_at(said, block), *results, self.after_join if is_whole else "") if piece]

    def result(self, said: Sequence[str]) -> str:
        text = "".join(glued(said, self.glue))
        return text.rpartition(self.returns)[2].strip() if self.returns else text
