"""Batches of packed traces, and the forward pass that keeps reasoning threads blind to each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from asterism.workers.engine.decoder import Attention, Decoder, DecoderLayer
from asterism.workers.training.traces import PAD_ID, Trace


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Traces side by side, padded: ids and positions [batch, time], who sees whom [batch, 1, time, time].

    `targets` and `weights` [batch, time] say which id follows at each place, and how much it counts (0: not at all).
    """

    token_ids: Tensor
    positions: Tensor
    visible: Tensor
    targets: Tensor
    weights: Tensor

    def to(self, device: torch.device) -> "PackedBatch":
        return PackedBatch(
            self.token_ids.to(device),
            self.positions.to(device),
            self.visible.to(device),
            self.targets.to(device),
            self.weights.to(device),
        )


def pack(traces: Sequence[Trace]) -> PackedBatch:
    time = max(len(trace.token_ids) for trace in traces)

    def padded(lists: Sequence[Sequence[int]], filler: int) -> Tensor:
        return torch.tensor([[*values, *[filler] * (time - len(values))] for values in lists], dtype=torch.long)

    token_ids = padded([trace.token_ids for trace in traces], PAD_ID)
    segments = padded([trace.segments for trace in traces], -1)
    weights = torch.zeros(len(traces), time)
    for row, trace in enumerate(traces):
        weights[row, : len(trace.weights) - 1] = torch.tensor(trace.weights[1:])
    # The first id of a thread is given by the program and follows the prefix, not its neighbour in the packed row.
    weights[:, :-1] *= segments[:, 1:] == segments[:, :-1]
    targets = F.pad(token_ids[:, 1:], (0, 1), value=PAD_ID)
    same = segments[:, :, None] == segments[:, None, :]
    visible = (same | (segments == 0)[:, None, :]) & torch.ones(time, time, dtype=torch.bool).tril()
    return PackedBatch(token_ids, padded([trace.positions for trace in traces], 0), visible[:, None], targets, weights)


def packed_logits(decoder: Decoder, batch: PackedBatch) -> Tensor:
    """Logits [batch, time, vocab], each thread computed as if it stood alone behind the shared prefix."""
    # For every position that there may be: asking the batch for its last one would wait for a GPU.
    cos, sin = (table[batch.positions][:, None] for table in decoder.rotary(decoder.config.max_position_embeddings))
    x = decoder.model.embed_tokens(batch.token_ids)
    for layer in decoder.model.layers:
        assert isinstance(layer, DecoderLayer)
        x = x + _attend(layer.self_attn, layer.input_layernorm(x), cos, sin, batch.visible)
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    with torch.autocast(x.device.type, enabled=False):
        logits: Tensor = decoder.lm_head(decoder.model.norm(x.float()))
    return logits


def _attend(attention: Attention, x: Tensor, cos: Tensor, sin: Tensor, visible: Tensor) -> Tensor:
    batch, time, _ = x.shape
    q, k, v = attention.project(x, cos, sin)
    shared = attention.heads // attention.kv_heads
    k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
    # Attention itself stays in float32: on a CPU its bfloat16 backward pass takes twice as long.
    with torch.autocast(x.device.type, enabled=False):
        attended = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=visible)
    projected: Tensor = attention.o_proj(attended.transpose(1, 2).reshape(batch, time, -1))
    return projected


def packed_loss(decoder: Decoder, batch: PackedBatch) -> Tensor:
    """Weighted mean of the cross-entropy over all places that count."""
    logits = packed_logits(decoder, batch)
    losses = F.cross_entropy(logits.flatten(0, 1).float(), batch.targets.flatten(), reduction="none")
    weights = batch.weights.flatten()
    return (losses * weights).sum() / weights.sum()
