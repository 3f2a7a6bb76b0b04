"""Reads a plan while a model writes it: text goes in as it comes, and each star comes out with the line that ends it.

Lines that do not begin with `ID =` are no part of the plan: prose, fences of code, blank lines and comments are
skipped, wherever they stand. But one that calls for a star, `= KIND.NAME(`, by what is no id, or with marks around it,
is a bad line: it is given an id that a star may have. In the midst of a text such a call is left out, and said to be. A
star whose brackets are still open at the end of a line goes on in the
next ones, unless one of these begins a star. A bad line is told apart and harms no other: a star may name it, and waits
until it was mended.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Final, TypeAlias

from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.values import Path
from asterism.planner.compiling import Compiled, compile_star
from asterism.planner.document import Position, format_path
from asterism.planner.fields import WrongAt, validated
from asterism.planner.line_grammar import MAX_ID, OddHead, StarText, begins_star, find_id, find_odd_head, read_star
from asterism.planner.stars import OneStar, PlanStar
from asterism.planner.tokens import BadText

MAX_STARS: Final = 1_000
"""Of one text; a model that goes on beyond does not know its end."""
MAX_BAD: Final = 200
MAX_CHARACTERS: Final = 64 * 1024
"""Of one star's text."""
MAX_LINES: Final = 256
"""Of one star's text."""
_SHOWN: Final = 2_000
"""Characters of a bad line that are kept."""
_MARKS: Final = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|["'#]|[()\[\]{}]""")
_GOES_ON: Final = re.compile(r"[ \t]*\.[a-z_]+\(")


@dataclass(frozen=True, slots=True)
class GoodStar:
    """A star that was read, and what it becomes."""

    id: StarId
    compiled: Compiled
    at: Position
    text: str


@dataclass(frozen=True, slots=True)
class BadStar:
    """A star that could not be read."""

    id: StarId | None
    """None where no other star can be waiting for it, and so nothing needs to be mended."""
    at: Position
    reason: str
    text: str

    def __str__(self) -> str:
        return f"{self.at}: {self.reason}"


Found: TypeAlias = GoodStar | BadStar


class PushParser:
    """One plan, as it is written. `known` are the stars that the graph has already, which a line may name, too, and
    `programs` those that there are; `amend` may complete a star before it is compiled."""

    def __init__(
        self,
        known: frozenset[str] = frozenset(),
        programs: frozenset[str] = frozenset(),
        amend: Callable[[PlanStar], PlanStar] = lambda star: star,
    ) -> None:
        self._known = known
        self._programs = programs
        self._amend = amend
        self._order: dict[StarId, int] = {}
        """Number of each star that was seen, good or bad: each may name those before it alone, so there is no cycle."""
        self._texts: dict[StarId, str] = {}
        """Of good ones."""
        self._renamed: dict[str, StarId] = {}
        """What stars are to be called whose lines name them as no star may be."""
        self._bad = 0
        self._pieces: list[str] = []
        self._held = 0
        self._line = 0
        self._open: list[str] = []
        self._open_at = 0
        self._open_size = 0
        self._depth = 0
        self.skipped = 0
        """Lines that are no part of the plan."""

    @property
    def is_full(self) -> bool:
        """Whether nothing more is taken: what follows is skipped."""
        return len(self._order) >= MAX_STARS or self._bad >= MAX_BAD

    def feed(self, text: str) -> list[Found]:
        """The stars that end in this piece of text. Pieces may be cut anywhere, and the stars are the same."""
        found: list[Found] = []
        start = 0
        while (end := text.find("\n", start)) >= 0:
            self._hold(text[start:end])
            found.extend(self._take_line())
            start = end + 1
        self._hold(text[start:])
        return found

    def finish(self) -> list[Found]:
        """The stars that the end of the text ends."""
        found = list(self._take_line()) if self._pieces else []
        return [*found, *self._close()]

    def repair(self, bad: BadStar, text: str) -> Found:
        """Read one star again from a text that holds it alone, or first; what it may name has not changed."""
        lines = text.split("\n")
        at = next((index for index, line in enumerate(lines) if find_id(line) is not None), None)
        if at is None:
            odd = next((odd for line in lines if (odd := find_odd_head(line)) is not None), None)
            reason = "there is no star in the answer" if odd is None else odd.explain(str(bad.id))
            return BadStar(bad.id, bad.at, reason, _shown(text))
        end = at + 1
        depth = _depth(lines[at], 0)
        while depth > 0 and end < min(len(lines), at + MAX_LINES) and not begins_star(lines[end]):
            depth = _depth(lines[end], depth)
            end += 1
        star = "\n".join(lines[at:end])[:MAX_CHARACTERS]
        found = find_id(star)
        if bad.id is not None and found != bad.id:
            return BadStar(bad.id, bad.at, f"the star keeps its id {bad.id}, and is not {found}", _shown(star))
        if bad.id is not None:
            self._texts.pop(bad.id, None)  # it was read, and refused for another reason
        return self._read(star, at + 1)

    def _hold(self, piece: str) -> None:
        """Keep a piece of a line; of one that is too long only the beginning."""
        if piece and self._held <= MAX_CHARACTERS:
            self._pieces.append(piece)
            self._held += len(piece)

    def _take_line(self) -> Iterator[Found]:
        line = "".join(self._pieces).removesuffix("\r")
        self._pieces.clear()
        self._held = 0
        self._line += 1
        if self._open:
            too_much = self._open_size + len(line) > MAX_CHARACTERS or len(self._open) >= MAX_LINES
            if not too_much and not begins_star(line):
                self._go_on(line)
                if self._depth <= 0:
                    yield from self._close()
                return
            yield from self._close()
        odd = find_odd_head(line)
        if self.is_full or (odd is None and find_id(line) is None):
            self.skipped += 1
            if _GOES_ON.match(line):
                reason = "what is said of a star stands on the line where its call ends"
                yield self._bad_star(None, Position(self._line, 1), reason, line)
            return
        if odd is not None and not odd.begins_line:
            self.skipped += 1
            if not any(text in line for text in self._texts.values()):
                reason = "what stands in the midst of a text is no line of the plan"
                yield self._bad_star(None, Position(self._line, odd.at + 1), reason, line)
            return
        self._open_at = self._line
        # What stands before a call opens nothing.
        self._go_on(line, 0 if odd is None else odd.call)
        if self._depth <= 0 or len(line) > MAX_CHARACTERS:
            yield from self._close()

    def _go_on(self, line: str, start: int = 0) -> None:
        self._open.append(line)
        self._open_size += len(line) + 1
        self._depth = _depth(line[start:], self._depth)

    def _close(self) -> Iterator[Found]:
        if not self._open:
            return
        text = "\n".join(self._open)
        odd = find_odd_head(self._open[0])
        self._open.clear()
        self._open_size = self._depth = 0
        name = find_id(text) if odd is None else odd.written
        known = None if name is None else self._texts.get(StarId(name))
        if known is not None and (known == text or (odd is not None and known in text)):
            self.skipped += 1  # a model that repeats itself, or speaks of its plan, says nothing new
        elif odd is not None:
            yield self._read_odd(odd, text, self._open_at)
        else:
            yield self._read(text, self._open_at)

    def _read_odd(self, odd: OddHead, text: str, line: int) -> BadStar:
        """A line that calls for a star, under the id that the star is to have."""
        at = Position(line, odd.at + 1)
        star_id = StarId(odd.written) if odd.is_id else self._rename(odd)
        if star_id in self._texts or star_id in self._known:
            return self._bad_star(None, at, f"the id {star_id!r} is taken by another star", text)
        self._order.setdefault(star_id, len(self._order))
        return self._bad_star(star_id, at, odd.explain(star_id), text)

    def _rename(self, odd: OddHead) -> StarId:
        """What a star is to be called that cannot be called as it is; the same for the same."""
        if odd.written not in self._renamed:
            ids = (odd.like if n == 1 else f"{odd.like[: MAX_ID - 5]}_{n}" for n in count(1))
            self._renamed[odd.written] = next(
                StarId(name) for name in ids if StarId(name) not in self._order and find_id(f"{name}=") is not None
            )
        return self._renamed[odd.written]

    def _read(self, text: str, line: int) -> Found:
        name = find_id(text)
        assert name is not None  # it began a star
        star_id = StarId(name)
        if star_id in self._texts or star_id in self._known:
            reason = f"the id {star_id!r} is taken by another star"
            return self._bad_star(None, Position(line, 1), reason, text)
        self._order.setdefault(star_id, len(self._order))
        if len(text) > MAX_CHARACTERS:
            reason = f"a star has at most {MAX_CHARACTERS} characters"
            return self._bad_star(star_id, Position(line, 1), reason, text)
        try:
            compiled = self._compile(star_id, read_star(text, self._programs))
        except BadText as bad:
            return self._bad_star(star_id, _position(text, bad.at, line), bad.reason + self._say_renamed(text), text)
        self._texts[star_id] = text
        return GoodStar(star_id, compiled, Position(line, 1), text)

    def _say_renamed(self, text: str) -> str:
        """What the stars are called now that this text may speak of by other names."""
        return "".join(f"; {old[:80]} is called {new} now" for old, new in self._renamed.items() if old and old in text)

    def _compile(self, star_id: StarId, read: StarText) -> Compiled:
        """The edits of a star; raises BadText."""
        try:
            star = validated(OneStar, {"star": read.fields}, at=()).star
            compiled = compile_star(star_id, self._amend(star), at=("star",))
            for parent, place in compiled.parents.items():
                self._check_parent(star_id, parent, place)
        except WrongAt as wrong:
            path = wrong.path[1:] if wrong.path[:1] == ("star",) else wrong.path
            reason = f"{format_path(path)}: {wrong.reason}" if path else wrong.reason
            raise BadText(_find_place(read.places, path), reason) from None
        return compiled

    def _check_parent(self, star_id: StarId, parent: StarId, place: Path) -> None:
        if parent in self._known:
            return
        order = self._order.get(parent)
        if order is None:
            before = ", ".join([*self._order][:-1][-12:]) or "none"
            raise WrongAt(
                place, f"there is no star {parent!r} before this line; text stands in quotes; stars: {before}"
            )
        if order >= self._order[star_id]:
            raise WrongAt(place, f"a star may name stars before its own line, and {parent!r} is not")

    def _bad_star(self, star_id: StarId | None, at: Position, reason: str, text: str) -> BadStar:
        self._bad += 1
        return BadStar(star_id, at, reason, _shown(text))


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + " ..."


def _position(text: str, at: int, line: int) -> Position:
    before = text[:at]
    return Position(line + before.count("\n"), at - (before.rfind("\n") + 1) + 1)


def _find_place(places: Mapping[Path, int], path: Path) -> int:
    while path and path not in places:
        path = path[:-1]
    return places.get(path, 0)


def _depth(line: str, depth: int) -> int:
    """Brackets that are open behind the line; 0 where a text has no end, since none goes over several lines."""
    for mark in _MARKS.finditer(line):
        match mark.group():
            case "(" | "[" | "{":
                depth += 1
            case ")" | "]" | "}":
                depth -= 1
            case "#":
                return depth
            case '"' | "'":
                return 0
            case _:
                pass
    return depth
