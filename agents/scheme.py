"""How a model writes a fork and reads a join: what the marks are, how a thread is opened, what its parent gets."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

_NUMBER: Final = re.compile(r"\s*\d+\s*[:.)]\s*")


@dataclass(frozen=True, slots=True)
class Opening:
    """A thread that can be forked."""

    text: str
    """What the program writes in the thread's name: the thread goes on behind it."""
    content: str
    """What the thread is about: threads of equal content run once, anywhere in the tree, and share the result."""
    forks: bool = True
    """False: it stays in the list, and no thread is started for it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a block stands: in which piece of its text, from 0, and before which character of that piece."""

    piece: int
    character: int


@dataclass(frozen=True, slots=True)
class Body:
    """What a join shows of one thread."""

    opening: str
    text: str


class Scheme(Protocol):
    """The marks of one protocol in one model's words, and how its texts are put together. Plain values; no state.

    Texts are lists of pieces. A piece that a model decoded is never joined to another, so that an engine can find the
    token ids which it decoded.
    """

    @property
    def glue(self) -> str:
        """Goes between two pieces without white space there: a space for models whose tokens are words, else empty."""
        ...

    @property
    def block_opens(self) -> str:
        """Begins a block; a model that may not fork here may not write it."""
        ...

    @property
    def entry_opens(self) -> str: ...

    @property
    def entry_closes(self) -> str: ...

    @property
    def list_closes(self) -> str:
        """Ends the list: its writer waits for the threads."""
        ...

    @property
    def thread_closes(self) -> str:
        """With it a thread ends itself."""
        ...

    @property
    def reserved(self) -> tuple[str, ...]:
        """Marks that only the program writes; in a model's text they are forged. Each is a stop string everywhere."""
        ...

    @property
    def bannable(self) -> frozenset[str]:
        """The marks that are tokens of the model's vocabulary, so that an engine can keep it from choosing them."""
        ...

    @property
    def sequential_opens(self) -> str:
        """What the program writes where a model falls back to one text; may be empty."""
        ...

    def open(self, number: int, entry: str) -> Opening | None:
        """The thread of an entry, numbered from 1 in its block; None when the entry is malformed."""
        ...

    def list_entry(self, number: int, entry: str) -> str:
        """An entry as the program itself writes it into a list."""
        ...

    def whole_list(self, entries: Sequence[str]) -> str:
        """A closed list that the program writes in the model's place; empty where a join would take it out again."""
        ...

    def child_pieces(
        self, context: Sequence[str], opening: Opening, *, is_cut: bool
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What a thread shares with its siblings, and what comes behind it.

        `context` is all that its parent has, prompt and own text; `is_cut` when the list is not closed in it yet.
        """
        ...

    def joined(self, said: Sequence[str], block: Place, bodies: Sequence[Body], *, is_whole: bool) -> list[str]:
        """The parent's own text after the join; without what closes the join unless it `is_whole`."""
        ...

    def result(self, said: Sequence[str]) -> str:
        """What a thread's text gives its parent when its judge does not say it in short."""
        ...


def glued(pieces: Iterable[str], glue: str) -> tuple[str, ...]:
    """The pieces that are not empty, with `glue` between those that have no white space between them."""
    found: list[str] = []
    for piece in pieces:
        if not piece:
            continue
        if found and glue and not found[-1][-1].isspace() and not piece[0].isspace():
            found.append(glue)
        found.append(piece)
    return tuple(found)


def cut_at(pieces: Sequence[str], place: Place) -> list[str]:
    """The pieces before a place; a piece that it divides is cut."""
    before = [*pieces[: place.piece], pieces[place.piece][: place.character] if place.piece < len(pieces) else ""]
    return [piece for piece in before if piece]


def without_number(entry: str) -> str:
    """An entry without the number that a model wrote before it, its white space made plain."""
    return " ".join(_NUMBER.sub("", entry, count=1).split())
