"""Which token ids an answer's text was made of: what the KV memory holds under them is found when the text comes back.

Tokenising the text of an answer may give other ids than were decoded, and a prefix is only shared id by id. It serves
for prompts too, which are then tokenised once. Pure.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

MAX_IDS: Final = 1 << 18
"""Token ids that are remembered, about 10 MB with their texts; the texts not used for longest are forgotten first."""


class AnswerMemo:
    """Texts, each with the ids that it had the last time."""

    def __init__(self, max_ids: int = MAX_IDS) -> None:
        self._max_ids = max_ids
        self._ids: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._size = 0

    def remember(self, text: str, ids: Sequence[int]) -> None:
        self._size += len(ids) - len(self._ids.pop(text, ()))
        self._ids[text] = tuple(ids)
        while self._size > self._max_ids:
            self._size -= len(self._ids.popitem(last=False)[1])

    def find(self, text: str) -> tuple[int, ...] | None:
        """The ids of a text; None for one that never came, or was forgotten."""
        ids = self._ids.get(text)
        if ids is not None:
            self._ids.move_to_end(text)
        return ids
