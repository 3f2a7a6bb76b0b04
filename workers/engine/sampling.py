"""Choosing the next tokens: greedy for a whole batch at once, otherwise row by row, each from its own request's seed.

A row passes, in this order: repetition, presence and frequency penalties; bans; the grammar; temperature; min_p; top_k;
top_p; the draw. Each works on what the one before left, probabilities anew over what is left, as in vLLM and in Hugging
Face's processors and warpers. Equally likely tokens count as ordered by their ids. On the CPU all of it is float64, and
no operation ever sees two rows: a request draws the same tokens alone and in any batch. Logits on a GPU stay there,
where `device_sampling.py` does the same for all rows at once. `python -m tests.bench.sampling_rows` measures a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from asterism.workers.engine.device_sampling import choose_rows, logprobs_of
from asterism.workers.engine.errors import describe
from asterism.workers.engine.sampler import Ids, Mask, Reals, Sampler

BINS = 4096
"""Of the histogram in which the end of a nucleus is looked for."""

BINS_SPAN = 40.0
"""Nats below the likeliest token that the histogram resolves: what is less likely weighs under 5e-18 of it."""

SORTED_TOKENS = 1024
"""Up to this many candidates a sort is quicker than the histogram."""

PICK_BLOCK = 512
"""Weights that are added up before they are cumulated: at 150,000 weights 5 times quicker than cumulating them all."""


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
    """Rows that no token is left for, or whose choice failed, and why: their token id means nothing, their requests
    have to end."""


def choose_tokens(logits: Tensor, samplers: Sequence[Sampler | None]) -> Chosen:
    """A token id for each row of `logits` [rows, vocab]; a row without a sampler is not wanted and gets any id.

    Each sampler has accepted its token afterwards. An error in one row is that row's, and others do not feel it.
    """
    others = [(row, sampler) for row, sampler in enumerate(samplers) if sampler is not None and not sampler.is_plain]
    chosen = Chosen([0] * len(samplers))
    is_here = logits.device.type == "cpu"
    if len(others) < len(samplers):
        # numpy's argmax of a row took 2 us at a vocabulary of 32,000, torch's 28 us; of equals both take the first.
        chosen.token_ids = (logits.numpy().argmax(axis=-1) if is_here else logits.argmax(dim=-1)).tolist()
    masks = _ask_constraints(others, logits.shape[1], chosen.errors)
    if chosen.errors:
        others = [(row, sampler) for row, sampler in others if row not in chosen.errors]
    if not others:
        return chosen
    rows = logits if len(others) == len(samplers) else logits[[row for row, _ in others]]
    found: list[int | None] = []
    if not is_here:
        found = choose_rows(rows.clone(), [each for _, each in others], [masks.get(row) for row, _ in others])
    for place, (row, sampler) in enumerate(others):
        try:
            token_id = _choose(rows[place], sampler, masks.get(row)) if is_here else found[place]
            if token_id is None:
                chosen.errors[row] = "no token is left that the grammar and the bans allow"
                continue
            sampler.accept(token_id)
            if sampler.logprobs is not None:
                chosen.logprobs[row] = _logprobs(rows[place], token_id, sampler.logprobs)
            chosen.token_ids[row] = token_id
        except BaseException as error:
            # This row's request ends with it, and no other does. A panic of a library in Rust is no Exception.
            chosen.errors[row] = describe(error)
    return chosen


def _ask_constraints(others: Sequence[tuple[int, Sampler]], vocab: int, errors: dict[int, str]) -> dict[int, Mask]:
    """What grammars allow, by row. Before anything is chosen: on a GPU rows are chosen for together, and one that fails
    has to be known before any of them has drawn."""
    masks: dict[int, Mask] = {}
    for row, sampler in others:
        if sampler.constraint is not None:
            try:
                masks[row] = sampler.constraint.allowed(vocab)
            except BaseException as error:
                errors[row] = describe(error)
    return masks


def _choose(logits: Tensor, sampler: Sampler, allowed: Mask | None) -> int | None:
    """The token of one row on the CPU; None when none is left."""
    scores = logits.numpy().astype(np.float64)
    sampler.penalise(scores)
    if len(sampler.banned_ids):
        scores[sampler.banned_ids] = -np.inf
    if allowed is not None:
        scores[~allowed] = -np.inf
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


def _logprobs(logits: Tensor, token_id: int, likeliest: int) -> RowLogprobs:
    """Of one row. The likeliest are few, so a selection finds their end, and only they are sorted."""
    if logits.device.type != "cpu":
        return RowLogprobs(token_id, *logprobs_of(logits, token_id, likeliest))
    scores = logits.numpy().astype(np.float64)
    best = scores.max()
    scores -= best + np.log(np.exp(scores - best).sum())
    ids: Ids = np.zeros(0, dtype=np.intp)
    if likeliest:
        count = min(likeliest, len(scores))
        ids = np.flatnonzero(scores >= float(torch.from_numpy(scores).topk(count, sorted=False).values.min()))
        ids = ids[np.argsort(-scores[ids], kind="stable")[:count]]
    return RowLogprobs(token_id, float(scores[token_id]), tuple((int(each), float(scores[each])) for each in ids))
