"""The weights of a decoder on the device, projections that read the same input side by side."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asterism.workers.engine.decoder import Attention, Decoder, DecoderLayer


@dataclass(frozen=True, slots=True)
class Projection:
    """A linear map: `weight` [out, in], and `bias` [out] where there is one."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True, slots=True)
class LayerWeights:
    attention_norm: Tensor
    qkv: Projection
    q_norm: Tensor | None
    k_norm: Tensor | None
    output: Projection
    mlp_norm: Tensor
    gate_up: Projection
    down: Projection


@dataclass(frozen=True, slots=True)
class Weights:
    embedding: Tensor
    layers: tuple[LayerWeights, ...]
    norm: Tensor
    head: Projection
    cosines: Tensor
    """float32 [positions, head_dim / 2]."""
    sines: Tensor

    @staticmethod
    def of(decoder: Decoder, *, positions: int, device: torch.device, dtype: torch.dtype) -> "Weights":
        """Copies of the decoder's weights; angles for so many positions."""

        def moved(*modules: nn.Linear) -> Projection:
            weight = torch.cat([module.weight.detach().to(device, dtype) for module in modules])
            parameters = [parameter for module in modules for parameter in module.named_parameters()]
            biases = [parameter.detach().to(device, dtype) for name, parameter in parameters if name == "bias"]
            return Projection(weight, torch.cat(biases) if biases else None)

        def layer(source: DecoderLayer) -> LayerWeights:
            attention: Attention = source.self_attn
            mlp = source.mlp
            return LayerWeights(
                attention_norm=source.input_layernorm.weight.detach().to(device, dtype),
                qkv=moved(attention.q_proj, attention.k_proj, attention.v_proj),
                q_norm=None if attention.q_norm is None else attention.q_norm.weight.detach().to(device, dtype),
                k_norm=None if attention.k_norm is None else attention.k_norm.weight.detach().to(device, dtype),
                output=moved(attention.o_proj),
                mlp_norm=source.post_attention_layernorm.weight.detach().to(device, dtype),
                gate_up=moved(mlp.gate_proj, mlp.up_proj),
                down=moved(mlp.down_proj),
            )

        cos, sin = (table[:, : decoder.config.head_dim // 2] for table in decoder.rotary(positions))
        embedding = decoder.model.embed_tokens.weight.detach().to(device, dtype)
        is_tied = decoder.config.tie_word_embeddings
        return Weights(
            embedding=embedding,
            layers=tuple(layer(source) for source in decoder.model.layers if isinstance(source, DecoderLayer)),
            norm=decoder.model.norm.weight.detach().to(device, dtype),
            head=Projection(embedding, None) if is_tied else moved(decoder.lm_head),
            cosines=cos.to(device).contiguous(),
            sines=sin.to(device).contiguous(),
        )
