"""Batches of packed traces, and the forward pass that keeps reasoning threads blind to each other."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from asterism.workers.engine.decoder import Attention, Decoder, DecoderLayer
from asterism.workers.training.rows import WEIGHT_UNIT
from asterism.workers.training.traces import PAD_ID


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Rows of traces: ids and positions [rows, time], who sees whom [rows, 1, time, time].

    `targets` and `weights` [rows, time] say which id follows at each place, and how much it counts (0: not at all).
    """

    token_ids: Tensor
    positions: Tensor
    visible: Tensor
    targets: Tensor
    weights: Tensor


def unpack(rows: Tensor) -> PackedBatch:
    """What `rows.py` laid out, int16 [6, rows, time], where that tensor is; waits for nothing on a GPU."""
    token_ids, positions, groups, start, seen, weights = rows.unbind()
    token_ids = token_ids.long()
    places = torch.arange(token_ids.shape[1], device=rows.device)
    same = groups[:, :, None] == groups[:, None, :]
    shared = (start[:, :, None] <= places) & (places < seen[:, :, None])
    visible = (same | shared) & (places <= places[:, None])
    targets = F.pad(token_ids[:, 1:], (0, 1), value=PAD_ID)
    return PackedBatch(token_ids, positions.long(), visible[:, None], targets, weights.float() * WEIGHT_UNIT)


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
    if x.is_cuda:
        shared = attention.heads // attention.kv_heads
        k, v = k.to(v.dtype).repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
        attended = F.scaled_dot_product_attention(q.to(v.dtype), k, v, attn_mask=visible)
        fused: Tensor = attention.o_proj(attended.transpose(1, 2).reshape(batch, time, -1))
        return fused
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
