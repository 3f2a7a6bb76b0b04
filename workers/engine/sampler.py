"""What one request asks of the choice of its tokens, and what it remembers of its answer for that."""

import random
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]
Ids = NDArray[np.intp]
Mask = NDArray[np.bool_]


class Constraint(Protocol):
    """What a grammar is to the sampler; `grammar.Matcher` is one."""

    def allowed(self, tokens: int) -> Mask:
        """Which of the ids 0 to tokens - 1 may come next; none at a dead end."""
        ...

    def accept(self, token_id: int) -> None:
        """Goes on behind this token, which was allowed."""
        ...


class Sampler:
    """How one request chooses, and what it has said: its choices depend on nothing else.

    Counts and draws move on with every choice: a request that is computed again after a preemption keeps its sampler.
    """

    __slots__ = (
        "_counts",
        "_ids",
        "_places",
        "_random",
        "banned_ids",
        "constraint",
        "frequency_penalty",
        "is_plain",
        "logprobs",
        "min_p",
        "presence_penalty",
        "repetition_penalty",
        "temperature",
        "top_k",
        "top_p",
    )

    def __init__(
        self,
        *,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logprobs: int | None = None,
        banned_ids: Sequence[int] = (),
        constraint: Constraint | None = None,
        seed: int = 0,
        prompt_ids: Iterable[int] = (),
    ) -> None:
        """The fields are those of `GenerationRequest`; `prompt_ids` counts for the repetition penalty alone."""
        self.temperature = temperature
        self.top_k = top_k
        self.top_p = top_p
        self.min_p = min_p
        self.logprobs = logprobs
        self.banned_ids = np.array(banned_ids, dtype=np.intp)
        self.constraint = constraint
        self._random = random.Random(seed)
        self.repetition_penalty = repetition_penalty
        self.presence_penalty = presence_penalty
        self.frequency_penalty = frequency_penalty
        penalises = repetition_penalty != 1 or presence_penalty != 0 or frequency_penalty != 0
        self._places: dict[int, int] | None = {} if penalises else None
        """Where each id of prompt and answer stands in `_ids` and `_counts`; None where nothing is penalised."""
        self._ids: Ids = np.zeros(64, dtype=np.intp)
        self._counts: Reals = np.zeros(64)
        """How often the answer has each of `_ids`: 0 for what only the prompt has."""
        if repetition_penalty != 1:
            # Made at once: one by one, 100,000 ids took 2.7 times as long, and the event loop waits for it.
            unique = list(dict.fromkeys(prompt_ids))
            self._places = {token_id: place for place, token_id in enumerate(unique)}
            self._ids = np.array([*unique, 0], dtype=np.intp)
            self._counts = np.zeros(len(self._ids))
        self.is_plain = not (temperature or penalises or banned_ids or constraint) and logprobs is None
        """Whether the largest logit is all that it wants: nothing of the row is looked at, nothing remembered."""

    def draw(self) -> float:
        """The next number in [0, 1) of this request."""
        return self._random.random()

    @property
    def seen(self) -> tuple[Ids, Reals]:
        """The ids that penalties are about, and how often the answer has each; nothing where there is no penalty."""
        size = len(self._places or ())
        return self._ids[:size], self._counts[:size]

    def penalise(self, scores: Reals) -> None:
        """Changes the scores [vocab] of what prompt and answer have."""
        ids, counts = self.seen
        if not len(ids):
            return
        values = scores[ids]
        if self.repetition_penalty != 1:
            values = np.where(values > 0, values / self.repetition_penalty, values * self.repetition_penalty)
        values -= self.presence_penalty * (counts > 0) + self.frequency_penalty * counts
        scores[ids] = values

    def accept(self, token_id: int) -> None:
        """Remembers a token as part of the answer."""
        if self.constraint is not None:
            self.constraint.accept(token_id)
        self._count(token_id, 1)

    def _count(self, token_id: int, times: int) -> None:
        if self._places is None:
            return
        place = self._places.setdefault(token_id, len(self._places))
        if place == len(self._ids):
            self._ids = np.concatenate((self._ids, np.zeros_like(self._ids)))
            self._counts = np.concatenate((self._counts, np.zeros_like(self._counts)))
        self._ids[place] = token_id
        self._counts[place] += times
