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
    seen = padded([trace.seen for trace in traces], 0)
    shared = (segments == 0)[:, None, :] & (torch.arange(time) < seen[:, :, None])
    visible = (same | shared) & torch.ones(time, time, dtype=torch.bool).tril()
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
    # The query heads of one KV head stand as rows of one product: [batch, kv_heads, group * time, head_dim].
    q = q.reshape(batch, attention.kv_heads, -1, attention.head_dim)
    scores = q.to(v.dtype) @ k.to(v.dtype).transpose(-1, -2)
    # Written out: torch's fused attention took 1.2 times as long, forward and backward, on a CPU with AVX512-BF16.
    with torch.autocast(x.device.type, enabled=False):
        scores = scores.view(batch, attention.kv_heads, -1, time, time).float() * attention.head_dim**-0.5
        shares = scores.masked_fill(~visible[:, :, None], -1e9).softmax(dim=-1).to(v.dtype)
    attended = (shares.view(batch, attention.kv_heads, -1, time) @ v).view(batch, attention.heads, time, -1)
    projected: Tensor = attention.o_proj(attended.transpose(1, 2).reshape(batch, time, -1))
    return projected


def weighted_loss(decoder: Decoder, batch: PackedBatch) -> Tensor:
    """Cross-entropy of every place times its weight, summed."""
    logits = packed_logits(decoder, batch)
    losses = F.cross_entropy(logits.flatten(0, 1).float(), batch.targets.flatten(), reduction="none")
    return (losses * batch.weights.flatten()).sum()
