"""Outlines and threads, after ThreadWeaver (arXiv 2512.07843): threads go on behind their parent's whole text.

    question <Parallel><Outlines><Outline> 1: ... </Outline><Outline> 2: ... </Outline></Outlines>
    <Thread> 1: ... </Thread><Thread> 2: ... </Thread></Parallel> conclusion

Siblings share one exact prefix. The join puts their texts behind the list in the order of the outlines, and the parent
decodes on. `running.reason` runs it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from asterism.agents.scheme import Body, Opening, Place, glued, without_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlined:
    """The marks of the paper by default; another model's are another value of the same type."""

    block_opens: str = "<Parallel>"
    list_opens: str = "<Outlines>"
    entry_opens: str = "<Outline>"
    entry_closes: str = "</Outline>"
    list_closes: str = "</Outlines>"
    thread_opens: str = "<Thread>"
    thread_closes: str = "</Thread>"
    block_closes: str = "</Parallel>"
    opening: str = "{thread_opens} {number}:"
    """How a thread is opened; `{outline}` is its entry without the number."""
    entry: str = "{entry_opens} {number}: {outline} {entry_closes}"
    """How the program writes an entry of its own into the list."""
    closes_block: bool = False
    """Whether the program writes `block_closes` after the threads; the paper's model does it itself."""
    after_join: str = ""
    """What else the program writes there, such as the opening of the answer."""
    sequential_opens: str = ""
    glue: str = ""
    bannable: frozenset[str] = frozenset()

    @property
    def reserved(self) -> tuple[str, ...]:
        return (self.thread_opens,)

    def open(self, number: int, entry: str) -> Opening | None:
        outline = without_number(entry)
        if not outline:
            return None
        text = self.opening.format(thread_opens=self.thread_opens, number=number, outline=outline)
        return Opening(text, outline)

    def list_entry(self, number: int, entry: str) -> str:
        return self.entry.format(
            entry_opens=self.entry_opens, number=number, outline=entry, entry_closes=self.entry_closes
        )

    def whole_list(self, entries: Sequence[str]) -> str:
        written = (self.list_entry(number, entry) for number, entry in enumerate(entries, start=1))
        return "".join(glued((self.block_opens, self.list_opens, *written, self.list_closes), self.glue))

    def child_pieces(
        self, context: Sequence[str], opening: Opening, *, is_cut: bool
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        shared = glued(context, self.glue)
        behind = (self.list_closes, opening.text) if is_cut else (opening.text,)
        return shared, glued((*shared, *behind), self.glue)[len(shared) :]

    def joined(self, said: Sequence[str], block: Place, bodies: Sequence[Body], *, is_whole: bool) -> list[str]:
        threads = [piece for body in bodies for piece in (body.opening, body.text, self.thread_closes)]
        closes = [self.block_closes if self.closes_block else "", self.after_join] if is_whole else []
        return [piece for piece in (*said, *threads, *closes) if piece]

    def result(self, said: Sequence[str]) -> str:
        return "".join(glued(said, self.glue))
