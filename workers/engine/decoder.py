"""A decoder of the Llama family in plain torch: the training forward, and the one owner of the weights.

RMSNorm, rotary positions, grouped-query attention and SwiGLU, with the parameter names of a Hugging Face checkpoint,
so that a folder written by either side loads on the other. Decoding with a KV cache is in `cached_decoder.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asterism.workers.engine.errors import UnsupportedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """The shape of a decoder, named as in a Hugging Face `config.json` of the Llama family."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    tie_word_embeddings: bool = True
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for field in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "max_position_embeddings",
        ):
            if getattr(self, field) < 1:
                raise UnsupportedModel(field, "must be at least 1")
        if self.hidden_size % self.num_attention_heads:
            raise UnsupportedModel("hidden_size", f"is no multiple of {self.num_attention_heads} attention heads")
        if self.num_attention_heads % self.num_key_value_heads:
            raise UnsupportedModel("num_attention_heads", f"is no multiple of {self.num_key_value_heads} KV heads")
        if self.head_dim % 2:
            raise UnsupportedModel("head_dim", f"is {self.head_dim}; rotary positions need an even one")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @staticmethod
    def from_json(values: Mapping[str, object]) -> "DecoderConfig":
        """Reads a `config.json`; raises `UnsupportedModel` for what this decoder would compute wrongly."""
        model_type = values.get("model_type", "llama")
        if model_type != "llama":
            raise UnsupportedModel("model_type", f"is {model_type!r}; this engine runs 'llama'")
        if (activation := values.get("hidden_act", "silu")) != "silu":
            raise UnsupportedModel("hidden_act", f"is {activation!r}; this engine runs 'silu'")
        for field in ("attention_bias", "mlp_bias", "quantization_config"):
            if values.get(field):
                raise UnsupportedModel(field, "is not supported")
        rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
        if not isinstance(rope, Mapping):
            raise UnsupportedModel("rope_parameters", "is no object")
        rope_type = rope.get("rope_type", rope.get("type", "default"))
        if rope_type != "default":
            raise UnsupportedModel("rope_scaling", f"of type {rope_type!r} is not supported")
        heads = _whole(values, "num_attention_heads")
        config = DecoderConfig(
            vocab_size=_whole(values, "vocab_size"),
            hidden_size=_whole(values, "hidden_size"),
            intermediate_size=_whole(values, "intermediate_size"),
            num_hidden_layers=_whole(values, "num_hidden_layers"),
            num_attention_heads=heads,
            num_key_value_heads=_whole(values, "num_key_value_heads", heads),
            max_position_embeddings=_whole(values, "max_position_embeddings"),
            rms_norm_eps=_real(values, "rms_norm_eps", 1e-6),
            rope_theta=_real({**rope, **values}, "rope_theta", 10_000.0),
            tie_word_embeddings=values.get("tie_word_embeddings", False) is True,
            bos_token_id=next(iter(_ids(values, "bos_token_id")), None),
            eos_token_ids=_ids(values, "eos_token_id"),
        )
        if (head_dim := values.get("head_dim")) not in (None, config.head_dim):
            raise UnsupportedModel("head_dim", f"is {head_dim}; only hidden_size / num_attention_heads is supported")
        return config

    def to_json(self) -> dict[str, object]:
        """The values of a `config.json` that this engine and Hugging Face's Llama class both read."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tie_word_embeddings,
            "attention_bias": False,
            "mlp_bias": False,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": list(self.eos_token_ids) or None,
        }


def _whole(values: Mapping[str, object], field: str, default: int | None = None) -> int:
    value = values.get(field)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool):
        raise UnsupportedModel(field, "is missing" if value is None else f"is {value!r}, not a whole number")
    return value


def _real(values: Mapping[str, object], field: str, default: float) -> float:
    value = values.get(field, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
        raise UnsupportedModel(field, f"is {value!r}, not a number above 0")
    return float(value)


def _ids(values: Mapping[str, object], field: str) -> tuple[int, ...]:
    value = values.get(field)
    found = [] if value is None else value if isinstance(value, list) else [value]
    ids = tuple(item for item in found if isinstance(item, int) and not isinstance(item, bool))
    if len(ids) != len(found):
        raise UnsupportedModel(field, f"is {value!r}, not a token id or a list of them")
    return ids


def rotary_tables(config: DecoderConfig, positions: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines for positions 0 .. `positions` - 1, each [positions, head_dim] (RoFormer, section 3.2.2).

    The two halves of the last dimension repeat the same angles: the layout of Hugging Face checkpoints, which
    rotate dimension i with dimension i + head_dim / 2.
    """
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), config.rope_theta**-exponents)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`x` [..., time, head_dim] turned by its positions; `cos` and `sin` broadcast against it."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # In float32 whatever the weights are stored in: the mean of squares overflows float16.
        wide = x.float()
        normed = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)
        return normed.to(x.dtype) * self.weight


class Attention(nn.Module):
    """Causal self-attention in which `num_attention_heads / num_key_value_heads` query heads share a KV head."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.head_dim = config.head_dim
        kv_size = self.kv_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv_size, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv_size, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, time, size = x.shape
        q = self.q_proj(x).view(batch, time, self.heads, self.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(batch, time, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(batch, time, self.kv_heads, self.head_dim).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if self.kv_heads != self.heads:
            k = k.repeat_interleave(self.heads // self.kv_heads, dim=1)
            v = v.repeat_interleave(self.heads // self.kv_heads, dim=1)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        mixed: Tensor = self.o_proj(attended.transpose(1, 2).reshape(batch, time, size))
        return mixed


class MLP(nn.Module):
    """The gated feed-forward SwiGLU (Shazeer 2020)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return mixed


class DecoderLayer(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        mixed: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return mixed


class DecoderBody(nn.Module):
    """Everything below the output head; a module of its own because checkpoints name it `model.`"""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Decoder(nn.Module):
    """The whole model; parameters in float32, initialised as normal(0, 0.02) from torch's global generator."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.model = DecoderBody(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        cos, sin = rotary_tables(config, config.max_position_embeddings)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Logits [batch, time, vocab] for `token_ids` [batch, time]; a position sees itself and what is before it."""
        time = token_ids.shape[1]
        cos, sin = self.cos[:time], self.sin[:time]
        x = self.model.embed_tokens(token_ids)
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        logits: Tensor = self.lm_head(self.model.norm(x))
        return logits
