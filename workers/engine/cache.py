"""The keys and values of every slot, allocated once."""

from collections.abc import Iterable

import torch
from torch import Tensor

from asterism.workers.engine.batch import Copy
from asterism.workers.engine.config import DecoderConfig


class KvCache:
    """`kv`: [layers, slots, 2 * kv_heads, context + 1, head_dim], keys before values.

    One position more than the context takes the writes of padding, so that no step needs a mask to write.
    """

    def __init__(self, config: DecoderConfig, *, slots: int, context_tokens: int, device: torch.device) -> None:
        self.positions = context_tokens + 1
        # Zeros and not empty: what is masked is multiplied by 0, and 0 * nan is nan.
        self.kv = torch.zeros(
            (config.num_hidden_layers, slots, 2 * config.num_key_value_heads, self.positions, config.head_dim),
            device=device,
        )
        self.rows = tuple(layer.view(-1, config.head_dim) for layer in self.kv)
        """For each layer, the cache as rows of head_dim, which `row_numbers` index."""

    def copy(self, copies: Iterable[Copy]) -> None:
        """Carries out copies between slots, in order."""
        for copy in copies:
            self.kv[:, copy.target, :, : copy.tokens] = self.kv[:, copy.source, :, : copy.tokens]

    def keys_and_values(
        self, first_slot: int, slots: int, length: int
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Views of the first `length` positions, one of keys and one of values per layer.

        Each is [slots, kv_heads, length, head_dim].
        """
        keys, values = self.kv[:, first_slot : first_slot + slots, :, :length].chunk(2, dim=2)
        return keys.unbind(), values.unbind()

    def row_numbers(self, first_slot: int, positions: Tensor) -> Tensor:
        """Where keys and values of `positions` [slots, time] are in `rows`: [slots * time * 2 * kv_heads]."""
        heads = self.kv.shape[2]
        slots = torch.arange(first_slot, first_slot + len(positions), device=positions.device)
        lines = slots[:, None] * heads + torch.arange(heads, device=positions.device)
        return (lines[:, None, :] * self.positions + positions[:, :, None]).flatten()
