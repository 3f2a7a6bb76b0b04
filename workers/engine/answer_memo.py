"""Which token ids texts were made of. Pure.

Tokenising the text of an answer may give other ids than were decoded, and a prefix is only shared id by id: so what the
KV memory holds of an answer is found again only under the ids that it decoded. They count behind the very prompt that
was answered and nowhere else: there they are worth something, and elsewhere a text would mean other ids for having
been said before.
"""

import hashlib
from array import array
from collections import Counter, OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

MAX_IDS: Final = 1 << 18
"""Token ids that are remembered, about 10 MB with their texts; the texts not used for longest are forgotten first."""

Ids = tuple[int, ...]
Key = TypeVar("Key", bound=Hashable)
PromptKey = tuple[int, bytes]
"""A prompt's tokens: how many, and the first 16 bytes of their BLAKE2b."""


def prompt_key(prompt_ids: Sequence[int]) -> PromptKey:
    return len(prompt_ids), hashlib.blake2b(array("q", prompt_ids).tobytes(), digest_size=16).digest()


class IdMemo(Generic[Key]):
    """Token ids by key, up to MAX_IDS of them."""

    def __init__(self, max_ids: int = MAX_IDS) -> None:
        self._max_ids = max_ids
        self._ids: OrderedDict[Key, Ids] = OrderedDict()
        self._size = 0

    def remember(self, key: Key, ids: Sequence[int]) -> list[Key]:
        """Gives the keys that were forgotten for it."""
        self._size += len(ids) - len(self._ids.pop(key, ()))
        self._ids[key] = tuple(ids)
        forgotten: list[Key] = []
        while self._size > self._max_ids:
            old, lost = self._ids.popitem(last=False)
            self._size -= len(lost)
            forgotten.append(old)
        return forgotten

    def find(self, key: Key) -> Ids | None:
        """None for a key that never came, or was forgotten."""
        ids = self._ids.get(key)
        if ids is not None:
            self._ids.move_to_end(key)
        return ids

    def __contains__(self, key: Key) -> bool:
        return key in self._ids


@dataclass(frozen=True, slots=True)
class Decoded:
    """An answer's text, the ids that it decoded, and the prompt that it continued."""

    prompt: PromptKey
    text: str
    ids: Sequence[int]


class AnswerMemo:
    """The ids of answers, each by its prompt and its text."""

    def __init__(self, max_ids: int = MAX_IDS) -> None:
        self._answers: IdMemo[tuple[str, PromptKey]] = IdMemo(max_ids)
        self._places: Counter[tuple[str, int]] = Counter()
        """Answers by text and tokens of their prompt: most segments are no answers, and no key is made for them."""
        self._texts: Counter[str] = Counter()

    def remember(self, decoded: Decoded) -> None:
        key = (decoded.text, decoded.prompt)
        if key not in self._answers:
            self._texts[decoded.text] += 1
            self._places[decoded.text, decoded.prompt[0]] += 1
        for text, prompt in self._answers.remember(key, decoded.ids):
            _take_off(self._texts, text)
            _take_off(self._places, (text, prompt[0]))

    def knows(self, text: str) -> bool:
        """Whether some prompt was answered with this text."""
        return text in self._texts

    def find(self, prompt_ids: Sequence[int], text: str) -> Ids | None:
        """The ids of the answer with this text to this prompt, of the last one if there were several."""
        if (text, len(prompt_ids)) not in self._places:
            return None
        return self._answers.find((text, prompt_key(prompt_ids)))


def _take_off(counts: "Counter[Key]", key: Key) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
