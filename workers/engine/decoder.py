"""A decoder of the Llama family and its near relatives in plain torch: training forward, and owner of the weights.

RMSNorm, rotary positions, grouped-query attention and SwiGLU, with the parameter names of a Hugging Face checkpoint,
so that a folder written by either side loads on the other. `config.py` says in what the families differ; decoding
with a KV cache is elsewhere, and takes the weights from here.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.rotary import rotary_tables, rotate


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
        self.window = config.sliding_window
        size, q_size, kv_size = config.hidden_size, self.heads * self.head_dim, self.kv_heads * self.head_dim
        self.q_proj = nn.Linear(size, q_size, bias=config.qkv_bias)
        self.k_proj = nn.Linear(size, kv_size, bias=config.qkv_bias)
        self.v_proj = nn.Linear(size, kv_size, bias=config.qkv_bias)
        self.o_proj = nn.Linear(q_size, size, bias=config.output_bias)
        self.q_norm = RMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else None

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [batch, heads, time, head_dim], and keys and values [batch, kv_heads, time, head_dim], of `x`
        [batch, time, hidden]; queries and keys are turned by `cos` and `sin`, which broadcast against them."""
        batch, time, _ = x.shape
        q = self.q_proj(x).view(batch, time, self.heads, self.head_dim)
        k = self.k_proj(x).view(batch, time, self.kv_heads, self.head_dim)
        v = self.v_proj(x).view(batch, time, self.kv_heads, self.head_dim)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, time, _ = x.shape
        q, k, v = self.project(x, cos, sin)
        if self.kv_heads != self.heads:
            k = k.repeat_interleave(self.heads // self.kv_heads, dim=1)
            v = v.repeat_interleave(self.heads // self.kv_heads, dim=1)
        if self.window is None or time <= self.window:
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            visible = torch.ones(time, time, dtype=torch.bool, device=x.device).tril().triu(1 - self.window)
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        mixed: Tensor = self.o_proj(attended.transpose(1, 2).reshape(batch, time, -1))
        return mixed


class MLP(nn.Module):
    """The gated feed-forward SwiGLU (Shazeer 2020)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

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
    """The whole model; matrices initialised as normal(0, 0.02) from torch's global generator, biases as 0."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.model = DecoderBody(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self._tables: tuple[Tensor, Tensor] | None = None
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith(".bias"):
                nn.init.zeros_(parameter)

    def adopt(self, weights: Mapping[str, Tensor]) -> None:
        """Takes tensors named as in `state_dict` as its weights, without a copy; a tied head follows its embedding."""
        if self.config.tie_word_embeddings:
            weights = {**weights, "lm_head.weight": weights["model.embed_tokens.weight"]}
        self.load_state_dict(weights, assign=True)
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def rotary(self, positions: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines of positions 0 .. `positions` - 1 where the weights are, each [positions, head_dim].

        They are kept, and made longer when more are asked for: a long context costs nothing before it is used.
        """
        device = self.model.embed_tokens.weight.device
        if self._tables is None or len(self._tables[0]) < positions or self._tables[0].device != device:
            # By whole powers of two, so that a text that grows by one position at a time rarely asks for new ones.
            with torch.inference_mode(False):  # for training may use them next
                cos, sin = rotary_tables(self.config, 1 << max(positions - 1, 1).bit_length())
                self._tables = cos.to(device), sin.to(device)
        cos, sin = self._tables
        return cos[:positions], sin[:positions]

    def forward(self, token_ids: Tensor) -> Tensor:
        """Logits [batch, time, vocab] for `token_ids` [batch, time]; a position sees itself and what is before it."""
        cos, sin = self.rotary(token_ids.shape[1])
        x = self.model.embed_tokens(token_ids)
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        logits: Tensor = self.lm_head(self.model.norm(x))
        return logits
