"""The arithmetic of llama.cpp's Q8_0, emulated in float32: what the int8 weights are held against.

Weights and the inputs of each product are quantised in blocks of 32 to whole numbers of -127 .. 127, by
max / 127; the factor is stored as float16 (ggml's quantize_row_q8_0). The embedding that is looked up stays in float32,
where llama.cpp quantises that too: so the emulation errs less than the original.
"""

import torch
from torch import Tensor, nn

from asterism.workers.engine.decoder import Decoder

BLOCK = 32


def q8_0(x: Tensor) -> Tensor:
    """`x` [.., size] as it is after quantising its last dimension."""
    padded = nn.functional.pad(x, (0, -x.shape[-1] % BLOCK))
    parts = padded.reshape(*padded.shape[:-1], -1, BLOCK)
    factors = parts.abs().amax(dim=-1, keepdim=True) / 127
    whole = (parts / factors.clamp(min=1e-30)).round()
    return (whole * factors.half().float()).reshape(padded.shape)[..., : x.shape[-1]]


class Q8Linear(nn.Module):
    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(q8_0(linear.weight.detach()))
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(q8_0(x), self.weight, self.bias)


def quantise(decoder: Decoder) -> None:
    """Every product of the decoder becomes one of Q8_0."""
    linears = [
        (parent, name, child)
        for parent in decoder.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear)
    ]
    for parent, name, child in linears:
        setattr(parent, name, Q8Linear(child))


def rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def widen(decoder: Decoder, generator: torch.Generator) -> None:
    """Outliers as trained models have them: a few channels and single weights far from the rest."""
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.dim() == 2:
                rare = torch.rand(parameter.shape, generator=generator) < 1e-3
                parameter[rare] *= 8
                columns = torch.randperm(parameter.shape[1], generator=generator)[: parameter.shape[1] // 100 + 1]
                parameter[:, columns] *= 5
