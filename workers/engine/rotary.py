"""Rotary positions (Su et al. 2021): the angle of each dimension at each position, and the turn itself."""

import math
from typing import assert_never

import torch
from torch import Tensor

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.rope import LinearScaling, Llama3Scaling, YarnScaling


def rotary_tables(config: DecoderConfig, positions: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines for positions 0 .. `positions` - 1, each [positions, head_dim] (RoFormer, section 3.2.2).

    The two halves of the last dimension repeat the same angles: the layout of Hugging Face checkpoints, which
    rotate dimension i with dimension i + head_dim / 2. Under YaRN both are scaled by its attention factor.
    """
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), angular_frequencies(config))
    angles = torch.cat((angles, angles), dim=-1)
    length = config.rope_scaling.attention_factor if isinstance(config.rope_scaling, YarnScaling) else 1.0
    return angles.cos() * length, angles.sin() * length


def angular_frequencies(config: DecoderConfig) -> Tensor:
    """Radians a position, for each pair of dimensions [head_dim / 2], in float32 as models are trained."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    match config.rope_scaling:
        case None:
            return frequencies
        case LinearScaling(factor):
            return frequencies / factor
        case Llama3Scaling() as scaling:
            # The share of its own frequency that a pair keeps: by how often it turns within the original context.
            turns = scaling.original_context * frequencies / (2 * math.pi)
            kept = (turns - scaling.low_frequency) / (scaling.high_frequency - scaling.low_frequency)
            return torch.lerp(frequencies / scaling.factor, frequencies, kept.clamp(0, 1))
        case YarnScaling() as scaling:
            return torch.lerp(frequencies / scaling.factor, frequencies, 1 - _yarn_ramp(config, scaling))
        case _:
            assert_never(config.rope_scaling)


def _yarn_ramp(config: DecoderConfig, scaling: YarnScaling) -> Tensor:
    """How far each pair is interpolated, 0 to 1 (YaRN, equations 17 to 21, over dimensions and not wavelengths)."""

    def pair_that_turns(times: float) -> float:
        log_theta = math.log(config.rope_theta)
        return config.head_dim * math.log(scaling.original_context / (times * 2 * math.pi)) / (2 * log_theta)

    low, high = pair_that_turns(scaling.beta_fast), pair_that_turns(scaling.beta_slow)
    if scaling.is_truncated:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, config.head_dim - 1)
    # A ramp needs some width: transformers takes this much.
    width = high - low if high != low else 0.001
    return ((torch.arange(config.head_dim // 2, dtype=torch.float32) - low) / width).clamp(0, 1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`x` [..., time, head_dim] turned by its positions; `cos` and `sin` broadcast against it."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
