"""A decoder of a larger shape that computes what a small one does: its weights between zeros.

So that a trained model of a few megabytes can be measured at the cost of a large one: a GPU reads and multiplies the
zeros like any other weights.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.decoder import Attention, Decoder, DecoderLayer, RMSNorm


def widened(small: Decoder, shape: DecoderConfig, *, dtype: torch.dtype, device: torch.device) -> Decoder:
    """A decoder of the size of `shape`, with the words of `small`; equal to it but for rounding.

    No count of `shape` may be below that of `small`, nor the query heads for each KV head; a head's size must be a
    multiple. Neither may have biases or norms of queries and keys.
    """
    source = small.config
    share = source.hidden_size / shape.hidden_size
    config = replace(
        source,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        num_key_value_heads=shape.num_key_value_heads,
        head_dim=shape.head_dim,
        # The mean of squares is over more places now, all others of which are 0.
        rms_norm_eps=source.rms_norm_eps * share,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            wide = Decoder(config)
    finally:
        torch.set_default_dtype(before)
    for parameter in wide.parameters():
        nn.init.zeros_(parameter)
    _place(wide.model.embed_tokens.weight, small.model.embed_tokens.weight)
    _place_norm(wide.model.norm, small.model.norm, share)
    for target, given in zip(wide.model.layers, small.model.layers, strict=False):
        assert isinstance(target, DecoderLayer)
        assert isinstance(given, DecoderLayer)
        _place_norm(target.input_layernorm, given.input_layernorm, share)
        _place_norm(target.post_attention_layernorm, given.post_attention_layernorm, share)
        _place_attention(target.self_attn, given.self_attn)
        _place(target.mlp.gate_proj.weight, given.mlp.gate_proj.weight)
        _place(target.mlp.up_proj.weight, given.mlp.up_proj.weight)
        _place(target.mlp.down_proj.weight, given.mlp.down_proj.weight)
    return wide.eval()


@torch.no_grad()
def _place(target: Tensor, source: Tensor) -> None:
    target[: source.shape[0], : source.shape[1]] = source


@torch.no_grad()
def _place_norm(target: RMSNorm, source: RMSNorm, share: float) -> None:
    target.weight[: len(source.weight)] = source.weight * math.sqrt(share)


@torch.no_grad()
def _place_attention(target: Attention, source: Attention) -> None:
    """Each head's places where they turn by the same angle: place i of a half is place i times the ratio of sizes."""
    hidden = source.q_proj.in_features
    half, wide_half = source.head_dim // 2, target.head_dim // 2
    turned = torch.arange(half) * (wide_half // half)
    places = torch.cat((turned, turned + wide_half))
    group, wide_group = source.heads // source.kv_heads, target.heads // target.kv_heads
    # Scores are divided by the root of a head's size.
    scale = math.sqrt(target.head_dim / source.head_dim)
    for head in range(source.heads):
        wide_head = head // group * wide_group + head % group
        own = slice(head * source.head_dim, (head + 1) * source.head_dim)
        rows = (wide_head * target.head_dim + places).to(target.q_proj.weight.device)
        target.q_proj.weight[rows, :hidden] = (source.q_proj.weight[own] * scale).to(target.q_proj.weight)
        target.o_proj.weight[:hidden, rows] = source.o_proj.weight[:, own].to(target.o_proj.weight)
    for head in range(source.kv_heads):
        own = slice(head * source.head_dim, (head + 1) * source.head_dim)
        rows = (head * target.head_dim + places).to(target.k_proj.weight.device)
        target.k_proj.weight[rows, :hidden] = source.k_proj.weight[own].to(target.k_proj.weight)
        target.v_proj.weight[rows, :hidden] = source.v_proj.weight[own].to(target.v_proj.weight)
