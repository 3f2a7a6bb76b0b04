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
from asterism.workers.engine.decoder import Decoder, DecoderLayer
from asterism.workers.engine.errors import UnsupportedModel
from asterism.workers.engine.rotary import rotary_tables


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """The projections of a layer as the right side of a product, each [in, out].

    Each has the weight of the norm before it multiplied in, `qkv` and `gate_up` are the projections of those names
    side by side, and rotary pairs of queries and keys are neighbours: one complex product then turns them.
    """

    qkv: Tensor
    output: Tensor
    gate_up: Tensor
    down: Tensor

    @staticmethod
    def of(layer: DecoderLayer, head_dim: int) -> "LayerWeights":
        attention, mlp = layer.self_attn, layer.mlp
        turned = (_pairs_together(projection.weight, head_dim) for projection in (attention.q_proj, attention.k_proj))
        qkv = torch.cat((*turned, attention.v_proj.weight)) * layer.input_layernorm.weight
        gate_up = torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight)) * layer.post_attention_layernorm.weight
        # Laid out as [in, out], a product of few rows took 5-20 % less CPU time than F.linear with [out, in], at 1 to
        # 16 rows and sizes 128 and 192; `W @ x.T` was slower than both at 4 rows. One EPYC core, torch 2.13.
        stored = (qkv, attention.o_proj.weight, gate_up, mlp.down_proj.weight)
        return LayerWeights(*(weight.T.contiguous() for weight in stored))


def _pairs_together(weight: Tensor, head_dim: int) -> Tensor:
    """Reorders the outputs of each head: dimensions i and i + head_dim / 2, which turn together, become neighbours.

    A score is a sum over the dimensions of a head, so it stays the same when queries and keys are reordered alike.
    """
    size = weight.shape[1]
    return weight.view(-1, 2, head_dim // 2, size).transpose(1, 2).reshape(-1, size)


class CachedDecoder:
    """Computes steps of a batch; one OS thread uses it."""

    @torch.inference_mode()
    def __init__(self, decoder: Decoder, *, slots: int, context_tokens: int, device: torch.device) -> None:
        config = decoder.config
        for trait in ("qkv_bias", "output_bias", "mlp_bias", "qk_norm", "sliding_window"):
            if getattr(config, trait):
                raise UnsupportedModel(trait, "is not computed here")
        decoder = decoder.to(device)
        self._config = config
        self._device = device
        self._cache = KvCache(config, slots=slots, context_tokens=context_tokens, device=device)
        self._embedding = decoder.model.embed_tokens.weight
        layers = [layer for layer in decoder.model.layers if isinstance(layer, DecoderLayer)]
        self._layers = [LayerWeights.of(layer, config.head_dim) for layer in layers]
        self._head = (decoder.lm_head.weight * decoder.model.norm.weight).T.contiguous()
        cos, sin = rotary_tables(config, context_tokens + 1)
        half = config.head_dim // 2
        self._turns = torch.complex(cos[:, :half], sin[:, :half]).to(device)
        self._columns = torch.arange(context_tokens + 1, device=device)

    @torch.inference_mode()
    def compute(self, step: Step) -> Tensor:
        """Logits [rows, vocab] after the last token of each row of `step`; rows that do not sample get logits too."""
        config, cache = self._config, self._cache
        cache.copy(step.copies)
        rows, time = len(step.tokens), max(map(len, step.tokens))
        token_ids, positions, last = self._inputs(step, time)
        length = max(start + len(tokens) for start, tokens in zip(step.starts, step.tokens, strict=True))
        mask = self._mask(positions, length)
        turns = self._rotation(positions)
        kv_rows = cache.row_numbers(step.first_slot, positions)
        keys, values = cache.keys_and_values(step.first_slot, rows, length)
        heads, kv_heads, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        x = F.embedding(token_ids, self._embedding)
        for number, layer in enumerate(self._layers):
            qkv = torch.view_as_complex((self._normed(x) @ layer.qkv).view(rows, time, -1, size // 2, 2))
            qkv = torch.view_as_real(qkv * turns).view(rows, time, -1, size)
            cache.rows[number].index_copy_(0, kv_rows, qkv[:, :, heads:].reshape(-1, size))
            # The query heads of one KV head stand as rows of one product: [rows, kv_heads, group * time, head_dim].
            q = qkv[:, :, :heads].transpose(1, 2).reshape(rows, kv_heads, -1, size)
            attended = F.scaled_dot_product_attention(q, keys[number], values[number], attn_mask=mask)
            attended = attended.reshape(rows, heads, time, size).transpose(1, 2).reshape(rows * time, -1)
            x = torch.addmm(x, attended, layer.output)
            gate, up = (self._normed(x) @ layer.gate_up).chunk(2, dim=-1)
            x = torch.addmm(x, F.silu(gate).mul_(up), layer.down)
        return self._normed(x if time == 1 else x[last]) @ self._head

    def _normed(self, x: Tensor) -> Tensor:
        """RMSNorm without its weight, which is in the projection that follows."""
        return x * x.square().mean(dim=-1, keepdim=True).add_(self._config.rms_norm_eps).rsqrt_()

    def _inputs(self, step: Step, time: int) -> tuple[Tensor, Tensor, Tensor]:
        """Token ids [rows * time], positions [rows, time], and which of the token ids is the last of each row [rows].

        Rows are padded on the right. The positions of padding follow those of the row: what it writes is overwritten
        before anything reads it, or falls on the position behind the context.
        """
        padded = [token_id for tokens in step.tokens for token_id in (*tokens, *[0] * (time - len(tokens)))]
        starts = torch.tensor(step.starts, device=self._device)
        positions = starts[:, None] + torch.arange(time, device=self._device)
        last = [row * time + len(tokens) - 1 for row, tokens in enumerate(step.tokens)]
        return (
            torch.tensor(padded, device=self._device),
            positions.clamp_(max=self._cache.positions - 1),
            torch.tensor(last, device=self._device),
        )

    def _mask(self, positions: Tensor, length: int) -> Tensor:
        """What is added to scores: 0 up to a query's own position, else -inf. [rows, 1, group * time or 1, length]."""
        hidden = self._columns[:length] > positions[:, :, None]
        mask = torch.zeros(hidden.shape, device=self._device).masked_fill_(hidden, -torch.inf)
        group = self._config.num_attention_heads // self._config.num_key_value_heads
        return mask[:, None] if positions.shape[1] == 1 else mask.repeat(1, group, 1)[:, None]

    def _rotation(self, positions: Tensor) -> Tensor:
        """The complex factors of stacked queries, keys and values: [rows, time, heads + 2 * kv_heads, head_dim / 2]."""
        config = self._config
        turned = config.num_attention_heads + config.num_key_value_heads
        shape = (*positions.shape, turned + config.num_key_value_heads, config.head_dim // 2)
        turns = torch.ones(shape, dtype=torch.complex64, device=self._device)
        turns[:, :, :turned] = self._turns[positions][:, :, None]
        return turns
