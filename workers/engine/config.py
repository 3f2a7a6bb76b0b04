"""The shape of a decoder of the Llama, Qwen2, Qwen3 and Mistral families, from and to JSON. Pure: no torch.

The families differ in a few traits, and all code asks for the traits, never for the family.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from asterism.workers.engine.errors import UnsupportedModel
from asterism.workers.engine.fields import flag, ids, real, whole
from asterism.workers.engine.rope import RopeScaling, rope_scaling, rope_values

ModelType = Literal["llama", "qwen2", "qwen3", "mistral"]

_ARCHITECTURES: Final[Mapping[ModelType, str]] = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "mistral": "MistralForCausalLM",
}

MAX_POSITIONS: Final = 1 << 24
"""Angles are products in float32, which tells whole numbers apart up to here."""

MAX_LAYERS: Final = 1024
"""Eight times as deep as the deepest that is published; a config that asks for more is broken."""

_COUNTS: Final = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """The shape of a decoder, named as in a Hugging Face `config.json` where that has a name for it."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    head_dim: int = 0
    """Size of a query, key or value; left out or 0 it becomes hidden_size / num_attention_heads."""
    qkv_bias: bool = False
    """The projections to queries, keys and values add a bias (Qwen2)."""
    output_bias: bool = False
    """So does the projection of what was attended to (Llama and Qwen3 with `attention_bias`)."""
    mlp_bias: bool = False
    """So do all three projections of the feed-forward."""
    qk_norm: bool = False
    """Each query and key goes through an RMSNorm of its own before it is turned (Qwen3)."""
    sliding_window: int | None = None
    """A position sees itself and the `sliding_window` - 1 before it, in every layer; None: all before it."""
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    tie_word_embeddings: bool = True
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for field in _COUNTS:
            if getattr(self, field) < 1:
                raise UnsupportedModel(field, "must be at least 1")
        if self.num_hidden_layers > MAX_LAYERS:
            raise UnsupportedModel("num_hidden_layers", f"is above {MAX_LAYERS}")
        if self.max_position_embeddings > MAX_POSITIONS:
            raise UnsupportedModel("max_position_embeddings", f"is above {MAX_POSITIONS}")
        if self.num_attention_heads % self.num_key_value_heads:
            raise UnsupportedModel("num_attention_heads", f"is no multiple of {self.num_key_value_heads} KV heads")
        if not self.head_dim:
            if self.hidden_size % self.num_attention_heads:
                raise UnsupportedModel("hidden_size", f"is no multiple of {self.num_attention_heads} attention heads")
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_attention_heads)
        if self.head_dim < 0 or self.head_dim % 2:
            raise UnsupportedModel("head_dim", f"is {self.head_dim}; rotary positions need an even one")
        if self.rope_theta <= 1:
            raise UnsupportedModel("rope_theta", f"is {self.rope_theta}; angles fall by powers of it, so above 1")
        if self.sliding_window is not None and self.sliding_window < 1:
            raise UnsupportedModel("sliding_window", f"is {self.sliding_window}; a position sees at least itself")

    @staticmethod
    def from_json(values: Mapping[str, object]) -> "DecoderConfig":
        """Reads a `config.json`; raises `UnsupportedModel` for what this decoder would compute wrongly."""
        model_type = _model_type(values)
        if (activation := values.get("hidden_act", "silu")) != "silu":
            raise UnsupportedModel("hidden_act", f"is {activation!r}; this engine runs 'silu'")
        if values.get("quantization_config"):
            raise UnsupportedModel("quantization_config", "is not supported")
        layers, positions = whole(values, "num_hidden_layers"), whole(values, "max_position_embeddings")
        heads = whole(values, "num_attention_heads")
        rope = rope_values(values)
        attention_bias = model_type in {"llama", "qwen3"} and flag(values, "attention_bias", False)
        return DecoderConfig(
            vocab_size=whole(values, "vocab_size"),
            hidden_size=whole(values, "hidden_size"),
            intermediate_size=whole(values, "intermediate_size"),
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=whole(values, "num_key_value_heads", heads),
            max_position_embeddings=positions,
            # 128 is what transformers takes for a Qwen3 that does not say.
            head_dim=whole(values, "head_dim", 128 if model_type == "qwen3" else 0),
            qkv_bias=attention_bias or model_type == "qwen2",
            output_bias=attention_bias,
            mlp_bias=model_type == "llama" and flag(values, "mlp_bias", False),
            qk_norm=model_type == "qwen3",
            sliding_window=_sliding_window(values, model_type, layers, positions),
            rms_norm_eps=real(values, "rms_norm_eps", 1e-6),
            rope_theta=real(rope, "rope_theta", 10_000.0),
            rope_scaling=rope_scaling(rope, positions),
            tie_word_embeddings=flag(values, "tie_word_embeddings", False),
            bos_token_id=next(iter(ids(values, "bos_token_id")), None),
            eos_token_ids=ids(values, "eos_token_id"),
        )

    @property
    def model_type(self) -> ModelType:
        """The family that has these traits; raises `UnsupportedModel` when none has them all."""
        biases = (self.qkv_bias, self.output_bias, self.mlp_bias)
        if self.qk_norm and biases in {(False, False, False), (True, True, False)}:
            return "qwen3"
        if not self.qk_norm and biases == (True, False, False):
            return "qwen2"
        if not self.qk_norm and self.qkv_bias == self.output_bias and self.sliding_window is None:
            return "llama"
        if not self.qk_norm and not any(biases):
            return "mistral"
        raise UnsupportedModel("model_type", "no family has these biases, norms and window together")

    def to_json(self) -> dict[str, object]:
        """The values of a `config.json` that this engine and transformers both read."""
        model_type = self.model_type
        window: dict[str, object] = {}
        if model_type == "mistral":
            window = {"sliding_window": self.sliding_window}
        elif self.sliding_window is not None:
            window = {"use_sliding_window": True, "sliding_window": self.sliding_window, "max_window_layers": 0}
        scaling = {} if self.rope_scaling is None else {"rope_scaling": self.rope_scaling.to_json()}
        biases: dict[str, object] = {}
        if model_type in {"llama", "qwen3"}:
            biases["attention_bias"] = self.output_bias
        if model_type == "llama":
            biases["mlp_bias"] = self.mlp_bias
        return {
            "architectures": [_ARCHITECTURES[model_type]],
            "model_type": model_type,
            "hidden_act": "silu",
            **{field: getattr(self, field) for field in _COUNTS},
            "head_dim": self.head_dim,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            **scaling,
            **window,
            **biases,
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": list(self.eos_token_ids) or None,
        }


def _model_type(values: Mapping[str, object]) -> ModelType:
    match values.get("model_type", "llama"):
        case "llama" | "qwen2" | "qwen3" | "mistral" as model_type:
            return model_type
        case other:
            raise UnsupportedModel("model_type", f"is {other!r}; this engine runs {', '.join(_ARCHITECTURES)}")


def _sliding_window(values: Mapping[str, object], model_type: ModelType, layers: int, positions: int) -> int | None:
    """The window of every layer; raises `UnsupportedModel` when some layers have one and others see everything."""
    match model_type:
        case "llama":
            return None
        case "mistral":
            # Absent means 4,096 to transformers, and null means none.
            window = whole(values, "sliding_window", None) if "sliding_window" in values else 4096
            slides = [window is not None] * layers
        case "qwen2" | "qwen3":
            is_on = flag(values, "use_sliding_window", False)
            window = whole(values, "sliding_window", 4096) if is_on else None
            first = whole(values, "max_window_layers", 28)
            slides = [window is not None and layer >= first for layer in range(layers)]
    kinds = values.get("layer_types")
    if kinds is not None:
        if not isinstance(kinds, list) or len(kinds) != layers:
            raise UnsupportedModel("layer_types", f"is no list of {layers} kinds")
        if unknown := set(map(str, kinds)) - {"full_attention", "sliding_attention"}:
            raise UnsupportedModel("layer_types", f"has {', '.join(sorted(unknown))}, which is not supported")
        slides = [kind == "sliding_attention" for kind in kinds]
        if any(slides) and window is None:
            raise UnsupportedModel("layer_types", "has sliding_attention, and the config names no window")
    if not any(slides) or window is None or window >= positions:
        return None
    if not all(slides):
        raise UnsupportedModel("sliding_window", "of some layers only is not supported")
    return window
