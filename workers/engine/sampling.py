"""Choosing the next token: greedy for a whole batch at once, or drawn per request from its own seed."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor


class Sampler:
    """How one request chooses: its draws depend on its seed and their number, never on the rest of the batch."""

    __slots__ = ("_random", "temperature", "top_p")

    def __init__(self, *, temperature: float, top_p: float, seed: int) -> None:
        self.temperature = temperature
        self.top_p = top_p
        self._random = random.Random(seed)

    def draw(self) -> float:
        """The next number in [0, 1) of this request."""
        return self._random.random()


def choose_tokens(logits: Tensor, samplers: Sequence[Sampler | None]) -> list[int]:
    """A token id per row of `logits` [rows, vocab]; a row without a sampler is not wanted and gets any id."""
    drawn = [row for row, sampler in enumerate(samplers) if sampler is not None and sampler.temperature > 0]
    chosen = [0] * len(samplers) if len(drawn) == len(samplers) else logits.argmax(dim=-1).tolist()
    # One row at a time: a sort or a sum over rows together could round differently beside other neighbours.
    for row in drawn:
        sampler = samplers[row]
        if sampler is not None:
            chosen[row] = _draw(logits[row], sampler)
    return chosen


def _draw(logits: Tensor, sampler: Sampler) -> int:
    """Inverse-transform sampling; with `top_p` below 1, from the nucleus (Holtzman et al. 2020, section 3.1)."""
    probabilities = torch.softmax(logits.double() / sampler.temperature, dim=-1)
    if sampler.top_p >= 1:
        cumulated = probabilities.cumsum(dim=-1)
        return _pick(cumulated, sampler.draw() * cumulated[-1])
    ordered, token_ids = probabilities.sort(dim=-1, descending=True, stable=True)
    cumulated = ordered.cumsum(dim=-1)
    # The token that crosses top_p is the last of the nucleus.
    nucleus = cumulated[: _pick(cumulated, cumulated.new_tensor(sampler.top_p)) + 1]
    return int(token_ids[_pick(nucleus, sampler.draw() * nucleus[-1])])


def _pick(cumulated: Tensor, point: Tensor) -> int:
    """The first index whose cumulated weight exceeds `point`; rounding never leads behind the last."""
    return min(int(torch.searchsorted(cumulated, point, right=True)), len(cumulated) - 1)
