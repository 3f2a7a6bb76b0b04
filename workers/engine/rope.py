"""How rotary positions are stretched beyond the context that a model was pretrained with. Pure: no torch.

`rotary.py` computes the angles. The names in JSON are those of Hugging Face's `rope_parameters` (before its version 5:
`rope_scaling`, with `rope_theta` beside it).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from asterism.workers.engine.errors import UnsupportedModel
from asterism.workers.engine.fields import flag, real, whole


@dataclass(frozen=True, slots=True)
class LinearScaling:
    """Every angle divided by `factor` (Chen et al. 2023, position interpolation)."""

    factor: float

    def to_json(self) -> dict[str, object]:
        return {"rope_type": "linear", "factor": self.factor}


@dataclass(frozen=True, slots=True)
class Llama3Scaling:
    """Angles of long wavelength divided by `factor`, those of short wavelength kept, a blend between (Llama 3.1).

    Long and short: above `original_context / low_frequency` and below `original_context / high_frequency` positions.
    """

    factor: float
    low_frequency: float
    high_frequency: float
    original_context: int

    def to_json(self) -> dict[str, object]:
        return {
            "rope_type": "llama3",
            "factor": self.factor,
            "low_freq_factor": self.low_frequency,
            "high_freq_factor": self.high_frequency,
            "original_max_position_embeddings": self.original_context,
        }


@dataclass(frozen=True, slots=True)
class YarnScaling:
    """NTK by parts, and cosines and sines scaled (Peng et al. 2023, YaRN, sections 3.2 and 3.4).

    Dimensions that turn more than `beta_fast` times within the original context keep their angles, those below
    `beta_slow` are divided by `factor`, with a ramp between whose ends are whole dimensions if `is_truncated`.
    """

    factor: float
    original_context: int
    beta_fast: float
    beta_slow: float
    attention_factor: float
    is_truncated: bool

    def to_json(self) -> dict[str, object]:
        return {
            "rope_type": "yarn",
            "factor": self.factor,
            "original_max_position_embeddings": self.original_context,
            "beta_fast": self.beta_fast,
            "beta_slow": self.beta_slow,
            "attention_factor": self.attention_factor,
            "truncate": self.is_truncated,
        }


RopeScaling = LinearScaling | Llama3Scaling | YarnScaling


def rope_values(values: Mapping[str, object]) -> Mapping[str, object]:
    """What a `config.json` says about rotary positions, from either place that it may stand in."""
    nested = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if not isinstance(nested, Mapping):
        raise UnsupportedModel("rope_parameters", "is no object")
    for layers, own in nested.items():
        if isinstance(own, Mapping):
            raise UnsupportedModel("rope_parameters", f"differ by layer ({layers!r}), which is not supported")
    # transformers keeps what is nested and fills in what stands beside it.
    beside = {name: values[name] for name in ("rope_theta", "partial_rotary_factor") if values.get(name) is not None}
    return {**beside, **nested}


def rope_scaling(rope: Mapping[str, object], max_positions: int) -> RopeScaling | None:
    """The scaling that `rope` (of `rope_values`) asks for; raises `UnsupportedModel` for one unknown here."""
    if real(rope, "partial_rotary_factor", 1.0) != 1.0:
        raise UnsupportedModel("partial_rotary_factor", f"is {rope['partial_rotary_factor']!r}; this engine turns all")
    match rope.get("rope_type", rope.get("type", "default")):
        case "default" | None:
            return None
        case "linear":
            return LinearScaling(real(rope, "factor"))
        case "llama3":
            return _llama3(rope, max_positions)
        case "yarn":
            return _yarn(rope, max_positions)
        case other:
            raise UnsupportedModel("rope_scaling", f"of type {other!r} is not supported")


def _llama3(rope: Mapping[str, object], max_positions: int) -> Llama3Scaling:
    low, high = real(rope, "low_freq_factor"), real(rope, "high_freq_factor")
    if low >= high:
        raise UnsupportedModel("low_freq_factor", f"is {low}; it must be below high_freq_factor, which is {high}")
    return Llama3Scaling(real(rope, "factor"), low, high, _original_context(rope, max_positions))


def _yarn(rope: Mapping[str, object], max_positions: int) -> YarnScaling:
    original = _original_context(rope, max_positions)
    factor = real(rope, "factor", max_positions / original)
    fast, slow = real(rope, "beta_fast", 32.0), real(rope, "beta_slow", 1.0)
    if slow >= fast:
        raise UnsupportedModel("beta_slow", f"is {slow}; it must be below beta_fast, which is {fast}")
    if rope.get("mscale") and rope.get("mscale_all_dim"):
        inferred = _magnitude(factor, real(rope, "mscale")) / _magnitude(factor, real(rope, "mscale_all_dim"))
    else:
        inferred = _magnitude(factor, 1.0)
    attention_factor = real(rope, "attention_factor", inferred)
    return YarnScaling(factor, original, fast, slow, attention_factor, flag(rope, "truncate", True))


def _magnitude(factor: float, scale: float) -> float:
    """YaRN, equation 22: how much longer queries and keys are made for a context `factor` times as long."""
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def _original_context(rope: Mapping[str, object], max_positions: int) -> int:
    original = whole(rope, "original_max_position_embeddings", max_positions)
    if original < 1:
        raise UnsupportedModel("original_max_position_embeddings", "must be at least 1")
    return original
