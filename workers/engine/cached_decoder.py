"""The decoder as the engine runs it: a slice of slots per step, keys and values from the cache, few large operations.

On a model of a few million parameters a step costs as much in calls as in arithmetic, so the projections of a layer
are fused, and queries, keys and values are turned to their positions in one go (values by an angle of 0).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from asterism.workers.engine.batch import Step
from asterism.workers.engine.cache import KvCache
from asterism.workers.engine.decoder import Decoder, DecoderLayer, rotary_tables


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """The weights of a layer, each [out, in]; `qkv` and `gate_up` are the projections of those names, stacked."""

    attention_norm: Tensor
    qkv: Tensor
    output: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor

    @staticmethod
    def of(layer: DecoderLayer) -> "LayerWeights":
        attention, mlp = layer.self_attn, layer.mlp
        return LayerWeights(
            attention_norm=layer.input_layernorm.weight,
            qkv=torch.cat((attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight)),
            output=attention.o_proj.weight,
            mlp_norm=layer.post_attention_layernorm.weight,
            gate_up=torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight)),
            down=mlp.down_proj.weight,
        )


class CachedDecoder:
    """Computes steps of a batch; one OS thread uses it."""

    @torch.inference_mode()
    def __init__(self, decoder: Decoder, *, slots: int, context_tokens: int, device: torch.device) -> None:
        config = decoder.config
        decoder = decoder.to(device)
        self._config = config
        self._device = device
        self._cache = KvCache(config, slots=slots, context_tokens=context_tokens, device=device)
        self._embedding = decoder.model.embed_tokens.weight
        self._layers = [LayerWeights.of(layer) for layer in decoder.model.layers if isinstance(layer, DecoderLayer)]
        self._norm = decoder.model.norm.weight
        self._head = decoder.lm_head.weight
        cos, sin = rotary_tables(config, context_tokens + 1)
        # Rotation as x * cos + roll(x) * sin needs the sign of the first half inside the sine.
        sin = torch.cat((-sin[:, : config.head_dim // 2], sin[:, config.head_dim // 2 :]), dim=-1)
        self._cos, self._sin = cos.to(device), sin.to(device)
        self._columns = torch.arange(context_tokens + 1, device=device)

    @torch.inference_mode()
    def compute(self, step: Step) -> Tensor:
        """Logits [rows, vocab] after the last token of each row of `step`; rows that do not sample get logits too."""
        config, cache = self._config, self._cache
        cache.copy(step.copies)
        rows, time = len(step.tokens), max(map(len, step.tokens))
        token_ids, positions, last = self._inputs(step, time)
        length = max(start + len(tokens) for start, tokens in zip(step.starts, step.tokens, strict=True))
        mask = self._mask(positions, length, last_only=time == 1)
        cos, sin = self._rotation(positions)
        kv_rows = cache.row_numbers(step.first_slot, positions)
        heads, kv_heads, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        x = F.embedding(token_ids, self._embedding)
        for number, layer in enumerate(self._layers):
            qkv = F.linear(self._normed(x, layer.attention_norm), layer.qkv).view(rows, time, -1, size)
            qkv = torch.addcmul(qkv * cos, qkv.roll(size // 2, -1), sin)
            cache.rows(number).index_copy_(0, kv_rows, qkv[:, :, heads:].reshape(-1, size))
            kv = cache.layer(number, step.first_slot, rows, length)
            # The query heads of one KV head stand as rows of one product: [rows, kv_heads, group * time, head_dim].
            q = qkv[:, :, :heads].transpose(1, 2).reshape(rows, kv_heads, -1, size)
            attended = F.scaled_dot_product_attention(q, kv[:, :kv_heads], kv[:, kv_heads:], attn_mask=mask)
            attended = attended.reshape(rows, heads, time, size).transpose(1, 2).reshape(rows, time, -1)
            x = x + F.linear(attended, layer.output)
            gate, up = F.linear(self._normed(x, layer.mlp_norm), layer.gate_up).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, layer.down)
        x = x[:, 0] if time == 1 else x[torch.arange(rows, device=x.device), last]
        return F.linear(self._normed(x, self._norm), self._head)

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, self._config.rms_norm_eps)

    def _inputs(self, step: Step, time: int) -> tuple[Tensor, Tensor, Tensor]:
        """Token ids and positions [rows, time], and the index of the last token of each row [rows].

        Rows are padded on the right. The positions of padding follow those of the row: what it writes is overwritten
        before anything reads it, or falls on the position behind the context.
        """
        padded = [[*tokens, *[0] * (time - len(tokens))] for tokens in step.tokens]
        starts = torch.tensor(step.starts, device=self._device)
        positions = starts[:, None] + torch.arange(time, device=self._device)
        last = torch.tensor([len(tokens) - 1 for tokens in step.tokens], device=self._device)
        return torch.tensor(padded, device=self._device), positions.clamp_(max=self._cache.positions - 1), last

    def _mask(self, positions: Tensor, length: int, *, last_only: bool) -> Tensor:
        """What is added to scores: 0 up to a query's own position, else -inf. [rows, 1, group * time or 1, length]."""
        hidden = self._columns[:length] > positions[:, :, None]
        mask = torch.zeros(hidden.shape, device=self._device).masked_fill_(hidden, -torch.inf)
        group = self._config.num_attention_heads // self._config.num_key_value_heads
        return mask[:, None] if last_only else mask.repeat(1, group, 1)[:, None]

    def _rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines for stacked queries, keys, values: [rows, time, heads + 2 * kv_heads, head_dim]."""
        config = self._config
        turned = config.num_attention_heads + config.num_key_value_heads
        shape = (*positions.shape, turned + config.num_key_value_heads, config.head_dim)
        cos, sin = torch.ones(shape, device=self._device), torch.zeros(shape, device=self._device)
        cos[:, :, :turned] = self._cos[positions][:, :, None]
        sin[:, :, :turned] = self._sin[positions][:, :, None]
        return cos, sin
