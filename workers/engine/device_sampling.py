"""Choosing on the device that the logits are on, for all rows at once: only chosen ids come back.

The steps are those of `sampling.py`, in float32 up to the weights, which are summed in float64. A row sent to the CPU
would be 0.6 MB at a vocabulary of 150,000. Draws under top_k and top_p fall in the order of likelihood, others in that
of the ids; equally likely tokens at the end of top_k count in any order.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from asterism.workers.engine.sampler import Mask, Sampler

SELECTED_TOKENS: Final = 1024
"""Up to this top_k the top is selected; else rows are sorted."""

TINY: Final = torch.finfo(torch.float32).tiny


@torch.inference_mode()
def choose_rows(logits: Tensor, samplers: Sequence[Sampler], masks: Sequence[Mask | None]) -> list[int | None]:
    """A token id for each row of `logits` [rows, vocab], which it changes; None where no token is left.

    `masks` are what each row's grammar allows, of [vocab].
    """
    _penalise(logits, samplers)
    _forbid(logits, samplers, masks)
    best, chosen = logits.max(dim=-1)
    drawn = [row for row, sampler in enumerate(samplers) if sampler.temperature > 0]
    if drawn:
        wanted = [samplers[row] for row in drawn]
        # Next to 0 a temperature may be none in float32; the least that there is leaves only the best as well.
        temperatures = _column([sampler.temperature for sampler in wanted], logits).clamp_(min=TINY)
        rows = torch.tensor(drawn, device=logits.device)
        # A row that nothing is left in becomes nan, and its token is not looked at.
        chosen[rows] = _draw((logits[rows] - best[rows, None]) / temperatures, wanted)
    # One copy: float64 holds every id.
    ids, bests = torch.stack((chosen.double(), best.double())).tolist()
    return [None if best == -np.inf else int(token_id) for token_id, best in zip(ids, bests, strict=True)]


@torch.inference_mode()
def logprobs_of(logits: Tensor, token_id: int, likeliest: int) -> tuple[float, tuple[tuple[int, float], ...]]:
    """For one row [vocab]: the logarithm of a token's probability, and the likeliest ids with theirs."""
    values = logits.double().log_softmax(dim=-1)
    top, ids = values.topk(min(likeliest, len(values)))
    logprob, *others = torch.cat((values[token_id : token_id + 1], top)).tolist()
    return logprob, tuple(zip(ids.tolist(), others, strict=True))


def _penalise(logits: Tensor, samplers: Sequence[Sampler]) -> None:
    """All that prompts and answers have as one list of places, over all rows."""
    seen = [(row, sampler, *sampler.seen) for row, sampler in enumerate(samplers)]
    rows = np.concatenate([np.full(len(ids), row) for row, _, ids, _ in seen])
    if not len(rows):
        return
    places = (rows, np.concatenate([ids for _, _, ids, _ in seen]))
    at = tuple(torch.from_numpy(each).to(logits.device) for each in places)
    factors = np.concatenate([np.full(len(ids), sampler.repetition_penalty) for _, sampler, ids, _ in seen])
    losses = np.concatenate(
        [each.presence_penalty * (counts > 0) + each.frequency_penalty * counts for _, each, _, counts in seen]
    )
    factor, loss = (torch.from_numpy(values).to(logits) for values in (factors, losses))
    values = logits[at]
    logits[at] = torch.where(values > 0, values / factor, values * factor) - loss


def _forbid(logits: Tensor, samplers: Sequence[Sampler], masks: Sequence[Mask | None]) -> None:
    banned = [(row, token_id) for row, sampler in enumerate(samplers) for token_id in sampler.banned_ids.tolist()]
    if banned:
        rows, ids = torch.tensor(banned, device=logits.device).T
        logits[rows, ids] = -torch.inf
    constrained = [(row, mask) for row, mask in enumerate(masks) if mask is not None]
    if constrained:
        allowed = np.stack([mask for _, mask in constrained])
        rows = torch.tensor([row for row, _ in constrained], device=logits.device)
        logits[rows] = logits[rows].masked_fill(torch.from_numpy(~allowed).to(logits.device), -torch.inf)


def _draw(scores: Tensor, samplers: Sequence[Sampler]) -> Tensor:
    """Ids [rows] drawn from `scores` [rows, vocab], which are relative to each row's best."""
    vocab = scores.shape[1]
    if any(sampler.min_p for sampler in samplers):
        least = _column([np.log(sampler.min_p) if sampler.min_p else -np.inf for sampler in samplers], scores)
        scores = scores.masked_fill(scores < least, -torch.inf)
    points = torch.tensor([sampler.draw() for sampler in samplers], dtype=torch.float64, device=scores.device)
    is_cut = [0 < sampler.top_k < vocab or sampler.top_p < 1 for sampler in samplers]
    if not any(is_cut):
        return _pick(scores.double().exp(), points)
    chosen = torch.empty(len(samplers), dtype=torch.long, device=scores.device)
    for wants_cut in (False, True):
        rows = [row for row, cut in enumerate(is_cut) if cut is wants_cut]
        if not rows:
            continue
        at = torch.tensor(rows, device=scores.device)
        if wants_cut:
            chosen[at] = _draw_from_top(scores[at], [samplers[row] for row in rows], points[at])
        else:
            chosen[at] = _pick(scores[at].double().exp(), points[at])
    return chosen


def _draw_from_top(scores: Tensor, samplers: Sequence[Sampler], points: Tensor) -> Tensor:
    vocab = scores.shape[1]
    tops = [sampler.top_k if 0 < sampler.top_k < vocab else vocab for sampler in samplers]
    if max(tops) <= SELECTED_TOKENS:
        scores, ids = scores.topk(max(tops))
    else:
        scores, ids = scores.sort(dim=-1, descending=True, stable=True)
    weights = scores.double().exp()
    weights *= torch.arange(weights.shape[1], device=scores.device) < torch.tensor(tops, device=scores.device)[:, None]
    reached = weights.cumsum(dim=-1)
    wanted = torch.tensor([sampler.top_p for sampler in samplers], dtype=torch.float64, device=scores.device)
    # A token belongs to the nucleus where those before it do not reach top_p.
    weights *= (reached - weights) < wanted[:, None] * reached[:, -1:]
    return ids.gather(1, _pick(weights, points)[:, None])[:, 0]


def _pick(weights: Tensor, points: Tensor) -> Tensor:
    """Places [rows] into whose share of `weights` [rows, places] the points in [0, 1) fall."""
    cumulated = weights.cumsum(dim=-1)
    whole = cumulated[:, -1]
    # Below the whole, however it rounds: the place that is found then weighs something.
    at = torch.minimum(points * whole, whole.nextafter(torch.zeros_like(whole)))
    return torch.searchsorted(cumulated, at[:, None], right=True)[:, 0].clamp_(max=weights.shape[1] - 1)


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]
