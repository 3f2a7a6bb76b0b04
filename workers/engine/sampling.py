"""Choosing the next tokens: greedy for a whole batch at once, otherwise row by row, each from its own request's seed.

A row passes, in this order: repetition, presence and frequency penalties; bans; the grammar; temperature; min_p; top_k;
top_p; the draw. Each works on what the one before left, probabilities anew over what is left, as in vLLM and in Hugging
Face's processors and warpers. Equally likely tokens count as ordered by their ids. All of it is float64, and no
operation ever sees two rows: a request draws the same tokens alone and in any batch.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Reals = NDArray[np.float64]
Ids = NDArray[np.intp]

BINS = 4096
"""Of the histogram in which the end of a nucleus is looked for."""

BINS_SPAN = 40.0
"""Nats below the likeliest token that the histogram resolves: what is less likely weighs under 5e-18 of it."""

SORTED_TOKENS = 1024
"""Up to this many candidates a sort is quicker than the histogram."""

PICK_BLOCK = 512
"""Weights that are added up before they are cumulated: at 150,000 weights 5 times quicker than cumulating them all."""


class Constraint(Protocol):
    """What a grammar is to the sampler; `grammar.Matcher` is one."""

    def allowed(self, tokens: int) -> NDArray[np.bool_]:
        """Which of the ids 0 to tokens - 1 may come next; none at a dead end."""
        ...

    def accept(self, token_id: int) -> None:
        """Goes on behind this token, which was allowed."""
        ...


@dataclass(frozen=True, slots=True)
class RowLogprobs:
    """Natural logarithms of the probabilities that the model's logits give, before penalties, bans and all the rest."""

    token_id: int
    logprob: float
    likeliest: tuple[tuple[int, float], ...]
    """Token ids, the likeliest first."""


@dataclass(slots=True)
class Chosen:
    """What `choose_tokens` gives: rows are numbers of rows of the logits."""

    token_ids: list[int]
    logprobs: dict[int, RowLogprobs] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    """Rows that no token is left for, and why: their token id means nothing, their requests have to end."""


class Sampler:
    """How one request chooses, and what it has said: its choices depend on nothing else.

    Counts and draws move on with every choice: a request that is computed again after a preemption keeps its sampler.
    """

    __slots__ = (
        "_counts",
        "_frequency_penalty",
        "_ids",
        "_places",
        "_presence_penalty",
        "_random",
        "_repetition_penalty",
        "banned_ids",
        "constraint",
        "is_plain",
        "logprobs",
        "min_p",
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
        self._repetition_penalty = repetition_penalty
        self._presence_penalty = presence_penalty
        self._frequency_penalty = frequency_penalty
        penalises = repetition_penalty != 1 or presence_penalty != 0 or frequency_penalty != 0
        self._places: dict[int, int] | None = {} if penalises else None
        """Where each id of prompt and answer stands in `_ids` and `_counts`; None where nothing is penalised."""
        self._ids: Ids = np.zeros(64, dtype=np.intp)
        self._counts: Reals = np.zeros(64)
        """How often the answer has each of `_ids`: 0 for what only the prompt has."""
        if repetition_penalty != 1:
            for token_id in prompt_ids:
                self._count(token_id, 0)
        self.is_plain = not (temperature or penalises or banned_ids or constraint) and logprobs is None
        """Whether the largest logit is all that it wants: nothing of the row is looked at, nothing remembered."""

    def draw(self) -> float:
        """The next number in [0, 1) of this request."""
        return self._random.random()

    def penalise(self, scores: Reals) -> None:
        """Changes the scores [vocab] of what prompt and answer have."""
        if not self._places:
            return
        ids, counts = self._ids[: len(self._places)], self._counts[: len(self._places)]
        values = scores[ids]
        if self._repetition_penalty != 1:
            values = np.where(values > 0, values / self._repetition_penalty, values * self._repetition_penalty)
        values -= self._presence_penalty * (counts > 0) + self._frequency_penalty * counts
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


def choose_tokens(logits: Tensor, samplers: Sequence[Sampler | None]) -> Chosen:
    """A token id for each row of `logits` [rows, vocab]; a row without a sampler is not wanted and gets any id.

    Each sampler has accepted its token afterwards.
    """
    others = [(row, sampler) for row, sampler in enumerate(samplers) if sampler is not None and not sampler.is_plain]
    chosen = Chosen([0] * len(samplers))
    if len(others) < len(samplers):
        # numpy's argmax of a row took 2 us at a vocabulary of 32,000, torch's 28 us; of equals both take the first.
        is_here = logits.device.type == "cpu"
        chosen.token_ids = (logits.numpy().argmax(axis=-1) if is_here else logits.argmax(dim=-1)).tolist()
    if not others:
        return chosen
    if len(others) < len(samplers):
        logits = logits[[row for row, _ in others]]
    for (row, sampler), values in zip(others, logits.cpu().numpy(), strict=True):
        token_id = _choose(values.astype(np.float64), sampler)
        if token_id is None:
            chosen.errors[row] = "no token is left that the grammar and the bans allow"
            continue
        chosen.token_ids[row] = token_id
        sampler.accept(token_id)
        if sampler.logprobs is not None:
            chosen.logprobs[row] = _logprobs(values.astype(np.float64), token_id, sampler.logprobs)
    return chosen


def _choose(scores: Reals, sampler: Sampler) -> int | None:
    """The token of one row, whose scores it changes; None when none is left."""
    sampler.penalise(scores)
    if len(sampler.banned_ids):
        scores[sampler.banned_ids] = -np.inf
    if sampler.constraint is not None:
        scores[~sampler.constraint.allowed(len(scores))] = -np.inf
    best = int(scores.argmax())
    if scores[best] == -np.inf:
        return None
    if sampler.temperature == 0:
        return best
    scores -= scores[best]
    with np.errstate(over="ignore"):  # at a temperature next to 0 all but the best become -inf, rightly
        scores /= sampler.temperature
    candidates = _likely(scores, sampler)
    if candidates is not None:
        scores = scores[candidates]
    weights = np.exp(scores)
    if sampler.top_p < 1:
        nucleus = _nucleus(scores, weights, sampler.top_p)
        weights = weights[nucleus]
        candidates = nucleus if candidates is None else candidates[nucleus]
    picked = _pick(weights, sampler.draw())
    return picked if candidates is None else int(candidates[picked])


def _likely(scores: Reals, sampler: Sampler) -> Ids | None:
    """Ids that min_p and top_k leave, ascending; None for all. `scores` are relative to the best one."""
    least = float(np.log(sampler.min_p)) if sampler.min_p else -np.inf
    takes_top = 0 < sampler.top_k < len(scores)
    if takes_top:
        # A selection, O(vocab): the order of the top does not matter, only where it ends.
        least = max(least, float(torch.from_numpy(scores).topk(sampler.top_k, sorted=False).values.min()))
    if least == -np.inf:
        return None
    ids = np.flatnonzero(scores >= least)
    if takes_top and len(ids) > sampler.top_k:
        # Equal scores where the top ends: the lowest ids belong to it.
        ids = ids[np.argsort(-scores[ids], kind="stable")[: sampler.top_k]]
        ids.sort()
    return ids


def _nucleus(scores: Reals, weights: Reals, top_p: float) -> Ids:
    """Places of the fewest weights that reach the share `top_p`, ascending (Holtzman et al. 2020, section 3.1)."""
    if len(scores) <= SORTED_TOKENS:
        order = np.argsort(-scores, kind="stable")
        cumulated = np.cumsum(weights[order])
        kept = order[: _first(cumulated, top_p * cumulated[-1]) + 1]
        kept.sort()
        return kept
    # A histogram over the scores says in which narrow range the nucleus ends; only that range is sorted.
    bins = np.minimum(scores * (-BINS / BINS_SPAN), BINS - 1).astype(np.intp)
    reached: Reals = np.cumsum(np.bincount(bins, weights=weights, minlength=BINS), dtype=np.float64)
    point = top_p * reached[-1]
    last = _first(reached, point)
    ending = np.flatnonzero(bins == last)
    ending = ending[np.argsort(-scores[ending], kind="stable")]
    before = reached[last - 1] if last else 0.0
    is_kept = bins < last
    is_kept[ending[: _first(before + np.cumsum(weights[ending]), point) + 1]] = True
    return np.flatnonzero(is_kept)


def _first(cumulated: Reals, point: float) -> int:
    """Where `cumulated` reaches `point`; rounding never leads behind the last place."""
    return min(int(np.searchsorted(cumulated, point)), len(cumulated) - 1)


def _pick(weights: Reals, draw: float) -> int:
    """Inverse-transform sampling: the place into whose share of the weights `draw` in [0, 1) falls."""
    blocks = np.cumsum(np.add.reduceat(weights, np.arange(0, len(weights), PICK_BLOCK)))
    point = draw * blocks[-1]
    block = min(int(np.searchsorted(blocks, point, side="right")), len(blocks) - 1)
    start = block * PICK_BLOCK
    cumulated = np.cumsum(weights[start : start + PICK_BLOCK])
    if block:
        cumulated += blocks[block - 1]
    picked = start + int(np.searchsorted(cumulated, point, side="right"))
    if picked < min(start + PICK_BLOCK, len(weights)):
        return picked
    # Rounding led behind the block: the last token up to there that can be drawn.
    return int(np.flatnonzero(weights[: start + PICK_BLOCK])[-1])


def _logprobs(scores: Reals, token_id: int, likeliest: int) -> RowLogprobs:
    best = scores.max()
    scores -= best + np.log(np.exp(scores - best).sum())
    ids: Ids = np.zeros(0, dtype=np.intp)
    if likeliest:
        count = min(likeliest, len(scores))
        ids = np.flatnonzero(scores >= float(torch.from_numpy(scores).topk(count, sorted=False).values.min()))
        ids = ids[np.argsort(-scores[ids], kind="stable")[:count]]
    return RowLogprobs(token_id, float(scores[token_id]), tuple((int(each), float(scores[each])) for each in ids))
