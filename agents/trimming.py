"""What a result of reasoning threads may carry: longer texts and lists are cut at declared limits, and named.

A result has at most 256 KiB of JSON, and the star that joins threads from elsewhere is handed all their results at
once, 2 MiB in all: so that `MAX_CHILDREN` of them always fit, beside all that their parent brings.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from asterism.agents.asks import Json

MAX_CHILDREN: Final = 64
"""Threads of one list that may leave the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """Most bytes of JSON that each part of a result takes."""

    body: int = 12 * 1024
    """What a join shows of a thread that ran elsewhere."""
    answer: int = 1024
    text: int
    tail: int
    threads: int
    chosen: int


BY_ANSWER: Final = Carried(text=80 * 1024, tail=40 * 1024, threads=40 * 1024, chosen=8 * 1024)
"""Of `reason.text` and `reason.join`: with 64 KiB for threads that leave, 232 of the 256 KiB."""
BY_CHILD: Final = Carried(text=2 * 1024, tail=2 * 1024, threads=2 * 1024, chosen=512)
"""Of `reason.child`: 20 KiB with the accounting, so that 64 have 1.25 MiB."""


def trimmed(value: Mapping[str, Json], carried: Carried) -> dict[str, Json]:
    """The value with each part within its bytes: the beginnings are kept, and `truncated` names what was cut."""
    kept: dict[str, Json] = dict(value)
    most = {
        "body": carried.body,
        "answer": carried.answer,
        "text": carried.text,
        "tail": carried.tail,
        "threads": carried.threads,
        "chosen": carried.chosen,
    }
    cut: list[str] = []
    for name in value.keys() & most.keys():
        part = value[name]
        if isinstance(part, str):
            kept[name] = cut_text(part, most[name])
        elif isinstance(part, list | tuple):
            kept[name] = _cut_list(part, most[name])
        if kept[name] != part:
            cut.append(name)
    return {**kept, "truncated": sorted(cut)}


def json_size(value: Json) -> int:
    """Bytes of `value` as JSON, spaces between its parts included."""
    return len(json.dumps(value, ensure_ascii=False, default=dict).encode("utf-8", "surrogatepass"))


def cut_text(text: str, most: int) -> str:
    """The longest beginning that takes at most so many bytes of JSON, at least 2, the quotation marks included."""
    if json_size(text) <= most:
        return text
    fits, too_long = 0, min(len(text), most)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if json_size(text[:middle]) <= most:
            fits = middle
        else:
            too_long = middle
    return text[:fits]


def _cut_list(parts: Sequence[Json], most: int) -> Sequence[Json]:
    size = 2
    for index, part in enumerate(parts):
        size += json_size(part) + (2 if index else 0)
        if size > most:
            return parts[:index]
    return parts
