"""A decoder of the Llama, Qwen2, Qwen3 and Mistral families written for reading: one position, one head at a time.

No cache, float32. Shares no code with the engine but the config and the weights' names. Sources: Touvron et al. 2023
(the layout), Su et al. 2021 (rotary positions as complex factors), Ainslie et al. 2023 (query heads in groups),
Shazeer 2020 (SwiGLU), Qwen3 report 2025 (norms of queries and keys), Jiang et al. 2023 (the window), and for longer
contexts Chen et al. 2023 (linear), Llama Team 2024 (section 3.4.3) and Peng et al. 2023 (YaRN).
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.rope import LinearScaling, Llama3Scaling, YarnScaling


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / math.sqrt(float((x * x).mean()) + eps) * weight


def frequency(config: DecoderConfig, pair: int) -> float:
    """Radians that dimensions `pair` and `pair` + half turn from one position to the next."""
    scaling, size = config.rope_scaling, config.head_dim
    plain = math.pow(config.rope_theta, -2 * pair / size)
    if scaling is None:
        return plain
    stretched = plain / scaling.factor
    if isinstance(scaling, LinearScaling):
        return stretched
    if isinstance(scaling, Llama3Scaling):
        wavelength = 2 * math.pi / plain
        if wavelength > scaling.original_context / scaling.low_frequency:
            return stretched
        if wavelength < scaling.original_context / scaling.high_frequency:
            return plain
        smooth = scaling.original_context / wavelength - scaling.low_frequency
        smooth /= scaling.high_frequency - scaling.low_frequency
        return (1 - smooth) * stretched + smooth * plain
    # Which pair turns so many times within the original context: plain * context = 2 pi * turns, solved for the pair.
    first, last = (
        size / 2 * math.log(scaling.original_context / (2 * math.pi * turns), config.rope_theta)
        for turns in (scaling.beta_fast, scaling.beta_slow)
    )
    if scaling.is_truncated:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, size - 1)
    ramp = min(1.0, max(0.0, (pair - first) / (last - first or 0.001)))
    return ramp * stretched + (1 - ramp) * plain


def rotated(config: DecoderConfig, x: Tensor, position: int) -> Tensor:
    """Dimensions i and i + half are one complex number, turned by position * frequency."""
    half = len(x) // 2
    scaling = config.rope_scaling
    length = scaling.attention_factor if isinstance(scaling, YarnScaling) else 1.0
    angles = torch.tensor([position * frequency(config, pair) for pair in range(half)])
    turned = torch.complex(x[:half], x[half:]) * torch.polar(torch.full((half,), length), angles)
    return torch.cat((turned.real, turned.imag))


def projected(weights: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """`x` through the matrix of that name, and its bias where there is one."""
    y = weights[f"{name}.weight"] @ x
    return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y


def attend(config: DecoderConfig, weights: Mapping[str, Tensor], name: str, normed: list[Tensor]) -> list[Tensor]:
    size, group = config.head_dim, config.num_attention_heads // config.num_key_value_heads

    def heads(kind: str, x: Tensor, at: int) -> list[Tensor]:
        """The heads' parts of a projection; those of queries and keys normed and turned."""
        parts = list(torch.split(projected(weights, f"{name}.{kind}_proj", x), size))
        if kind != "v" and config.qk_norm:
            parts = [rms_norm(part, weights[f"{name}.{kind}_norm.weight"], config.rms_norm_eps) for part in parts]
        return parts if kind == "v" else [rotated(config, part, at) for part in parts]

    keys = [heads("k", x, at) for at, x in enumerate(normed)]
    values = [heads("v", x, at) for at, x in enumerate(normed)]
    mixed = []
    for at, x in enumerate(normed):
        first = 0 if config.sliding_window is None else max(0, at + 1 - config.sliding_window)
        seen = range(first, at + 1)
        outputs = []
        for head, query in enumerate(heads("q", x, at)):
            scores = torch.stack([query @ keys[before][head // group] / math.sqrt(size) for before in seen])
            shares = torch.softmax(scores, dim=0)
            parts = [share * values[before][head // group] for share, before in zip(shares, seen, strict=True)]
            outputs.append(torch.stack(parts).sum(dim=0))
        mixed.append(projected(weights, f"{name}.o_proj", torch.cat(outputs)))
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
            gate, up = projected(weights, f"{name}.mlp.gate_proj", y), projected(weights, f"{name}.mlp.up_proj", y)
            states[at] = x + projected(weights, f"{name}.mlp.down_proj", gate * torch.sigmoid(gate) * up)
    norm = weights["model.norm.weight"]
    return torch.stack([weights["lm_head.weight"] @ rms_norm(x, norm, config.rms_norm_eps) for x in states])
