"""Sampling written for reading: plain Python, one token after the other, in the order that `seam.py` names.

Shares no code with the engine. Sources: Keskar et al. 2019, section 4.1 (the repetition penalty), Holtzman et al. 2020
(top_p), Nguyen et al. 2024 (min_p), and OpenAI's description of presence and frequency penalties.
"""

import math
import random
from collections.abc import Collection, Sequence

from asterism.workers.engine.seam import GenerationRequest


def scored(
    logits: Sequence[float],
    request: GenerationRequest,
    *,
    prompt_ids: Sequence[int] = (),
    answer_ids: Sequence[int] = (),
    forbidden: Collection[int] = (),
) -> dict[int, float]:
    """The logits of what may be chosen, after the penalties; `forbidden` is what bans and the grammar exclude."""
    scores = {}
    for token_id, logit in enumerate(logits):
        score = logit
        if token_id in prompt_ids or token_id in answer_ids:
            score = score / request.repetition_penalty if score > 0 else score * request.repetition_penalty
        if token_id in answer_ids:
            score -= request.presence_penalty + request.frequency_penalty * list(answer_ids).count(token_id)
        if token_id not in forbidden:
            scores[token_id] = score
    return scores


def weighted(scores: dict[int, float], request: GenerationRequest) -> dict[int, float]:
    """What can be drawn at a temperature above 0, and how much it weighs beside the others."""
    best = max(scores.values())
    weights = {token_id: math.exp((score - best) / request.temperature) for token_id, score in scores.items()}
    weights = {token_id: weight for token_id, weight in weights.items() if weight >= request.min_p}
    order = sorted(weights, key=lambda token_id: (-weights[token_id], token_id))
    if request.top_k:
        order = order[: request.top_k]
    if request.top_p < 1:
        whole = math.fsum(weights[token_id] for token_id in order)
        reached = 0.0
        for size, token_id in enumerate(order, start=1):
            reached += weights[token_id]
            if reached >= request.top_p * whole:
                order = order[:size]
                break
    return {token_id: weights[token_id] for token_id in sorted(order)}


def choose(
    logits: Sequence[float],
    request: GenerationRequest,
    draws: random.Random,
    *,
    prompt_ids: Sequence[int] = (),
    answer_ids: Sequence[int] = (),
    forbidden: Collection[int] = (),
) -> int:
    """Greedy, or the token into whose share the next draw falls, shares in the order of the ids."""
    scores = scored(logits, request, prompt_ids=prompt_ids, answer_ids=answer_ids, forbidden=forbidden)
    if request.temperature == 0:
        return max(scores, key=lambda token_id: (scores[token_id], -token_id))
    weights = weighted(scores, request)
    point = draws.random() * math.fsum(weights.values())
    for token_id, weight in weights.items():
        point -= weight
        if point < 0:
            return token_id
    return max(weights)
