"""What a step is made of: the seam between how a step runs and who computes its parts.

`TorchOperations` is for reading and for devices without Triton; `triton_operations.py` is for GPUs. Both work on the
same tiles, parts and slots of `plan.py`, and pass the same tests.
"""

import math
from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from asterism.workers.engine.cuda.inputs import Inputs
from asterism.workers.engine.cuda.weights import LayerWeights, Projection, Weights
from asterism.workers.engine.step import BLOCK_TOKENS


class Operations(ABC):
    """Products are those of the library that torch comes with, the rest a subclass's.

    Everything is on one device; x is [rows, hidden].
    """

    @abstractmethod
    def norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """RMSNorm over the last dimension, in float32 inside."""

    @abstractmethod
    def gate(self, gate_up: Tensor) -> Tensor:
        """SwiGLU: silu of the first half of the columns times the second."""

    @abstractmethod
    def store(self, qkv: Tensor, layer: LayerWeights, kv: Tensor, inputs: Inputs) -> Tensor:
        """Queries [rows, heads * head_dim], normed and turned, of `qkv` [rows, (heads + 2 * kv_heads) * head_dim].

        Keys, treated alike, and values go to their slots in `kv` [2, blocks, kv_heads, BLOCK_TOKENS, head_dim].
        """

    @abstractmethod
    def attend(self, q: Tensor, kv: Tensor, inputs: Inputs) -> Tensor:
        """What the queries see of the tiles [rows, heads * head_dim]."""

    def product(self, x: Tensor, projection: Projection) -> Tensor:
        """`x` through the projection."""
        return F.linear(x, projection.weight, projection.bias)

    def add_product(self, x: Tensor, y: Tensor, projection: Projection, norm: Tensor) -> Tensor:
        """x += y through the projection; gives x normed with the weights `norm`."""
        # In the product itself: a sum of its own would read and write x once more.
        x.addmm_(y, projection.weight.T)
        if projection.bias is not None:
            x += projection.bias
        return self.norm(x, norm)


class MakeOperations(Protocol):
    """Either class of operations."""

    def __call__(
        self, weights: Weights, *, kv_heads: int, head_dim: int, window: int | None, eps: float
    ) -> Operations: ...


class TorchOperations(Operations):
    """The operations in plain torch, attention tile by tile."""

    def __init__(self, weights: Weights, *, kv_heads: int, head_dim: int, window: int | None, eps: float) -> None:
        self._cos = torch.cat((weights.cosines, weights.cosines), dim=-1)
        self._sin = torch.cat((weights.sines, weights.sines), dim=-1)
        self._kv_heads = kv_heads
        self._head_dim = head_dim
        self._window = window
        self._eps = eps

    def norm(self, x: Tensor, weight: Tensor) -> Tensor:
        wide = x.float()
        normed = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self._eps)
        return normed.to(x.dtype) * weight

    def gate(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up

    def store(self, qkv: Tensor, layer: LayerWeights, kv: Tensor, inputs: Inputs) -> Tensor:
        rows = len(qkv)
        heads = qkv.shape[1] // self._head_dim - 2 * self._kv_heads
        parts = [heads, self._kv_heads, self._kv_heads]
        q, k, v = torch.split(qkv.view(rows, -1, self._head_dim), parts, dim=1)
        if layer.q_norm is not None and layer.k_norm is not None:
            q, k = self.norm(q, layer.q_norm), self.norm(k, layer.k_norm)
        positions, slots = inputs.positions.long(), inputs.slots_written.long()
        blocks, offsets = slots // BLOCK_TOKENS, slots % BLOCK_TOKENS
        kv[0, blocks, :, offsets] = self._turned(k, positions)
        kv[1, blocks, :, offsets] = v
        return self._turned(q, positions).reshape(rows, -1)

    def attend(self, q: Tensor, kv: Tensor, inputs: Inputs) -> Tensor:
        rows, heads = len(q), q.shape[1] // self._head_dim
        results = q.new_zeros((rows, inputs.slots, heads, self._head_dim), dtype=torch.float32)
        sums = q.new_full((rows, inputs.slots, heads), -math.inf, dtype=torch.float32)
        queries = q.float().view(rows, self._kv_heads, -1, self._head_dim)
        limits = inputs.limits
        for tile in [*inputs.small_tiles.tolist(), *inputs.large_tiles.tolist()]:
            first_row, count, table, begin, end, split_tokens, first_slot = tile
            own = slice(first_row, first_row + count)
            for part, start in enumerate(range(begin, end if count else begin, split_tokens)):
                position = torch.arange(start, min(end, start + split_tokens), device=q.device)
                blocks = inputs.tables[table, position // BLOCK_TOKENS].long()
                # [positions, kv_heads, head_dim]
                keys, values = (side[blocks, :, position % BLOCK_TOKENS].float() for side in kv)
                scores = torch.einsum("rhgd,phd->rhgp", queries[own], keys) / math.sqrt(self._head_dim)
                is_seen = position < limits[own, None]
                if self._window is not None:
                    is_seen &= position + self._window >= limits[own, None]
                scores = scores.masked_fill(~is_seen[:, None, None], -math.inf)
                total = scores.logsumexp(dim=-1, keepdim=True)
                shares = (scores - total.masked_fill(total == -math.inf, 0.0)).exp()
                mixed = torch.einsum("rhgp,phd->rhgd", shares, values)
                results[own, first_slot + part] = mixed.reshape(count, heads, self._head_dim)
                sums[own, first_slot + part] = total.reshape(count, heads)
        weights = torch.softmax(sums, dim=1)
        return (weights[..., None] * results).sum(dim=1).reshape(rows, -1).to(q.dtype)

    def _turned(self, x: Tensor, positions: Tensor) -> Tensor:
        """`x` [rows, heads, head_dim]; in float32 inside."""
        cos, sin = self._cos[positions][:, None], self._sin[positions][:, None]
        first, second = x.float().chunk(2, dim=-1)
        turned = x.float() * cos + torch.cat((-second, first), dim=-1) * sin
        return turned.to(x.dtype)
