"""Threads that leave the device: what is written into the graph for them, and read again by those who run them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from asterism.agents.asks import Json, ProgramContext
from asterism.agents.declaring import invalid, read_mapping, read_number, read_text, read_texts
from asterism.agents.reasoning import Leaving
from asterism.agents.scheme import Opening, Place
from asterism.agents.trimming import MAX_CHILDREN, json_size
from asterism.agents.trip import Rates, Trip, pays

CHILD_PROGRAM: Final = "reason.child"
JOIN_PROGRAM: Final = "reason.join"
MAX_TEXT: Final = 256 * 1024
_MAX_BASE: Final = 48
"""Characters of the parent star's name that its children's begin with: names of new stars have at most 60."""

MAX_EDITS_BYTES: Final = 512 * 1024
"""Of the edits as JSON: half of what a worker takes. Rivals name each other, so they grow with the threads' square."""
MAX_LEAVING_BYTES: Final = 64 * 1024
"""As JSON: a quarter of what a result may have, in which most of it stands two or three times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """What a request says about threads that may leave the device."""

    workers: int
    """That would take threads, this one among them."""
    tokens: int
    """Expected of a thread."""
    rates: Rates = field(default_factory=Rates)
    requires: tuple[str, ...] = ()
    """Capabilities of the workers that are meant, beyond the model."""
    then: tuple[str, ...] = ()
    """Stars that wait for the answer: the join star gets a line to each."""

    def is_worth_it(self, leaving: Leaving, slots: int) -> bool:
        """Whether these threads should become stars; a token of the prompt is taken for four characters."""
        characters = sum(map(len, (*leaving.context, *leaving.said)))
        return pays(
            Trip(
                threads=len(leaving.openings),
                tokens=self.tokens,
                prompt_tokens=characters // 4 + 1,
                slots=max(1, slots),
                workers=self.workers,
            ),
            self.rates,
        )


def can_travel(leaving: Leaving, edits: Sequence[Mapping[str, Json]]) -> bool:
    """Whether workers would take results and edits of this size; what they would not stays on the device."""
    is_bearable = len(leaving.openings) <= MAX_CHILDREN and json_size(leaving_to_json(leaving)) <= MAX_LEAVING_BYTES
    return is_bearable and json_size(edits) <= MAX_EDITS_BYTES


def read_away(away: Json, default_tokens: int) -> Away | None:
    """The input `away`; None where there is none. Raises `ProgramFailed`."""
    if away is None:
        return None
    given = read_mapping(away, "away")
    unknown = sorted(given.keys() - {"workers", "tokens", "rates", "requires", "then"})
    if unknown:
        raise invalid(f"away.{unknown[0]}", "is not known; there are workers, tokens, rates, requires, then")
    return Away(
        workers=read_number(given.get("workers"), "away.workers", 1, 10_000),
        tokens=read_number(given.get("tokens", default_tokens), "away.tokens", 1, 2**24),
        rates=_read_rates(given.get("rates", {})),
        requires=read_texts(given.get("requires", []), "away.requires", 256),
        then=read_texts(given.get("then", []), "away.then", 64),
    )


def _read_rates(rates: Json) -> Rates:
    values: dict[str, Any] = {}
    for name, value in read_mapping(rates, "away.rates").items():
        if name not in asdict(Rates()):
            raise invalid(f"away.rates.{name}", f"is not known; there are {', '.join(asdict(Rates()))}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
            raise invalid(f"away.rates.{name}", "must be a number from 0 to a billion")
        values[name] = float(value)
    rates_read = replace(Rates(), **values)
    if rates_read.prefill_tokens_per_s <= 0:
        raise invalid("away.rates.prefill_tokens_per_s", "must be above 0")
    return rates_read


def leaving_to_json(leaving: Leaving) -> dict[str, Json]:
    """As it stands in the parent's result."""
    return {
        "context": list(leaving.context),
        "said": list(leaving.said),
        "block": [leaving.block.piece, leaving.block.character],
        "threads": [
            {"opening": opening.text, "content": opening.content, "entry": entry}
            for opening, entry in zip(leaving.openings, leaving.entries, strict=True)
        ],
    }


def read_leaving(value: Json) -> Leaving:
    """The other way; raises `ProgramFailed`."""
    given = read_mapping(value, "leaving")
    said = read_texts(given.get("said"), "leaving.said", MAX_TEXT)
    block, threads = given.get("block"), given.get("threads")
    if not isinstance(block, list | tuple) or len(block) != 2 or not isinstance(threads, list | tuple):
        raise invalid("leaving", "must have a block of two numbers and a list of threads")
    if len(threads) > MAX_CHILDREN:
        raise invalid("leaving.threads", f"are {len(threads)}; at most {MAX_CHILDREN}")
    openings: list[Opening] = []
    entries: list[str] = []
    for index, thread in enumerate(threads):
        place = f"leaving.threads[{index}]"
        parts = read_mapping(thread, place)
        opening, content, entry = (
            read_text(parts.get(name), f"{place}.{name}", MAX_TEXT) for name in ("opening", "content", "entry")
        )
        openings.append(Opening(opening, content))
        entries.append(entry)
    return Leaving(
        context=read_texts(given.get("context"), "leaving.context", MAX_TEXT),
        said=said,
        block=Place(
            read_number(block[0], "leaving.block[0]", 0, len(said)),
            read_number(block[1], "leaving.block[1]", 0, MAX_TEXT),
        ),
        openings=tuple(openings),
        entries=tuple(entries),
    )


def child_names(star: str, count: int) -> tuple[str, ...]:
    """The stars of the threads of `star`, in the order of its list."""
    return tuple(f"{_base(star)}.t{number}" for number in range(1, count + 1))


def leaving_edits(
    leaving: Leaving, context: ProgramContext, declared: Json, away: Away, *, cancels: bool
) -> tuple[Mapping[str, Json], ...]:
    """A star for each thread, and the one that joins them, however they end.

    They take the parent's text from its result, so that it travels once. With `cancels` a child may edit: one that is
    verified cancels the others.
    """
    names = child_names(context.star, len(leaving.openings))
    join = f"{_base(context.star)}.join"
    requires = [*([f"model:{context.model}"] if context.model else []), *away.requires]
    from_parent: Json = {"$from": context.star, "$path": ["leaving"]}
    edits: list[Mapping[str, Json]] = []
    for number, (name, entry) in enumerate(zip(names, leaving.entries, strict=True), start=1):
        rivals = [other for other in names if other != name] if cancels else []
        inputs: dict[str, Json] = {
            "leaving": from_parent,
            "thread": number,
            "declared": {"$value": declared},
            "rivals": rivals,
        }
        star = _star(name, CHILD_PROGRAM, inputs, requires, f"thread {number}: {entry}")
        edits.append({"add_star": {**star, "may_edit": cancels}})
    inputs = {
        "leaving": from_parent,
        "accounting": {"$from": context.star, "$path": ["accounting"]},
        "declared": {"$value": declared},
        "stars": list(names),
        "outcomes": {"$parents": True},
    }
    edits.append({"add_star": _star(join, JOIN_PROGRAM, inputs, requires, f"join of {len(names)} threads")})
    edits.append(_line(context.star, join))
    for name in names:
        edits.append(_line(context.star, name))
        edits.append(_line(name, join, "completion"))
    edits.extend(_line(join, star, "completion") for star in away.then)
    return tuple(edits)


def _base(star: str) -> str:
    """Without a tilde, which is kept for retries."""
    return star.replace("~", ".")[:_MAX_BASE]


def _star(name: str, program: str, inputs: Mapping[str, Json], requires: Sequence[str], title: str) -> dict[str, Json]:
    short = title if len(title) <= 100 else f"{title[:99]}\u2026"
    return {
        "id": name,
        "kind": "reason",
        "program": program,
        "inputs": inputs,
        "requires": list(requires),
        # What went deeper is on the longest path to the answer.
        "priority": 1,
        "title": short,
    }


def _line(parent: str, child: str, kind: str = "success") -> Mapping[str, Json]:
    return {"add_line": {"parent": parent, "child": child, "kind": kind}}
