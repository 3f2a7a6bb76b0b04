"""A decoder of the Llama family written for reading: one position, one head at a time, no cache, float32.

Shares no code with the engine but the weights' names. Sources: Touvron et al. 2023 (the layout), Su et al. 2021
(rotary positions as complex factors), Ainslie et al. 2023 (query heads in groups), Shazeer 2020 (SwiGLU).
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from asterism.workers.engine.decoder import DecoderConfig


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / math.sqrt(float((x * x).mean()) + eps) * weight


def rotated(x: Tensor, position: int, theta: float) -> Tensor:
    """Dimensions i and i + half are one complex number, turned by position * theta^(-2i / size)."""
    half = len(x) // 2
    angles = torch.tensor([position * theta ** (-2 * i / len(x)) for i in range(half)])
    turned = torch.complex(x[:half], x[half:]) * torch.polar(torch.ones(half), angles)
    return torch.cat((turned.real, turned.imag))


def attend(config: DecoderConfig, weights: Mapping[str, Tensor], name: str, normed: list[Tensor]) -> list[Tensor]:
    size, group = config.head_dim, config.num_attention_heads // config.num_key_value_heads

    def heads(projection: str, x: Tensor) -> list[Tensor]:
        return list(torch.split(weights[f"{name}.{projection}.weight"] @ x, size))

    keys = [[rotated(k, at, config.rope_theta) for k in heads("k_proj", x)] for at, x in enumerate(normed)]
    values = [heads("v_proj", x) for x in normed]
    mixed = []
    for at, x in enumerate(normed):
        outputs = []
        for head, q in enumerate(heads("q_proj", x)):
            query = rotated(q, at, config.rope_theta)
            scores = torch.stack([query @ keys[before][head // group] / math.sqrt(size) for before in range(at + 1)])
            shares = torch.softmax(scores, dim=0)
            outputs.append(torch.stack([shares[b] * values[b][head // group] for b in range(at + 1)]).sum(dim=0))
        mixed.append(weights[f"{name}.o_proj.weight"] @ torch.cat(outputs))
    return mixed


def all_logits(config: DecoderConfig, weights: Mapping[str, Tensor], token_ids: list[int]) -> Tensor:
    """Logits [time, vocab] after each of the tokens."""
    states = [weights["model.embed_tokens.weight"][token_id] for token_id in token_ids]
    for layer in range(config.num_hidden_layers):
        name = f"model.layers.{layer}"
        norm = weights[f"{name}.input_layernorm.weight"]
        mixed = attend(config, weights, f"{name}.self_attn", [rms_norm(x, norm, config.rms_norm_eps) for x in states])
        states = [x + y for x, y in zip(states, mixed, strict=True)]
        norm = weights[f"{name}.post_attention_layernorm.weight"]
        for at, x in enumerate(states):
            y = rms_norm(x, norm, config.rms_norm_eps)
            gate, up = weights[f"{name}.mlp.gate_proj.weight"] @ y, weights[f"{name}.mlp.up_proj.weight"] @ y
            states[at] = x + weights[f"{name}.mlp.down_proj.weight"] @ (gate * torch.sigmoid(gate) * up)
    norm = weights["model.norm.weight"]
    return torch.stack([weights["lm_head.weight"] @ rms_norm(x, norm, config.rms_norm_eps) for x in states])
