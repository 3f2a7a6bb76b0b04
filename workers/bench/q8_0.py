"""The arithmetic of llama.cpp's Q8_0, emulated in float32: what the error of int8 weights is held against.

Weights and the inputs of each product are quantised in blocks of 32 to whole numbers of -127 .. 127, by
max / 127; the factor is stored as float16 (ggml's quantize_row_q8_0). The embedding that is looked up stays in float32,
where llama.cpp quantises that too: so the emulation errs less than the original.
"""

import copy
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.native.computer import NativeComputer
from asterism.workers.engine.step import BLOCK_TOKENS, Chunk, Step

BLOCK: Final = 32
"""Numbers that share a factor (ggml's QK8_0)."""

PROMPTS: Final = 24
"""Of a block of tokens each: what the errors are taken over."""


def q8_0(x: Tensor) -> Tensor:
    """`x` [.., size] as it is after quantising its last dimension."""
    padded = nn.functional.pad(x, (0, -x.shape[-1] % BLOCK))
    parts = padded.reshape(*padded.shape[:-1], -1, BLOCK)
    factors = parts.abs().amax(dim=-1, keepdim=True) / 127
    whole = (parts / factors.clamp(min=1e-30)).round()
    return (whole * factors.half().float()).reshape(padded.shape)[..., : x.shape[-1]]


class Q8Linear(nn.Module):
    """A product whose weights and inputs are quantised."""

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
    """The root of the mean square of all numbers."""
    return float(x.double().square().mean().sqrt())


@dataclass(frozen=True, slots=True)
class LogitErrors:
    """How far logits are off those of float32, as a share of their own size: both as root mean squares."""

    int8: float
    q8_0: float
    """llama.cpp's, emulated."""


@torch.inference_mode()
def logit_errors(decoder: Decoder, *, os_threads: int = 1) -> LogitErrors:
    """After the last token of PROMPTS prompts by chance. Raises `NativeUnavailable`."""
    drawn = torch.Generator().manual_seed(0)
    token_ids = torch.randint(0, decoder.config.vocab_size, (PROMPTS, BLOCK_TOKENS), generator=drawn)
    computer = NativeComputer(
        decoder, blocks=PROMPTS, context_tokens=BLOCK_TOKENS, os_threads=os_threads, weights="int8"
    )
    chunks = tuple(Chunk(row, 0, (block,), True) for block, row in enumerate(token_ids.tolist()))
    ours = computer.compute(Step((), chunks))
    computer.close()
    expected = decoder(token_ids)[:, -1]
    emulated = copy.deepcopy(decoder)
    quantise(emulated)
    theirs = emulated(token_ids)[:, -1]
    return LogitErrors(rms(ours - expected) / rms(expected), rms(theirs - expected) / rms(expected))
