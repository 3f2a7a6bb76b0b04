"""The seam between the engine's thread and what computes a step on a device, and which computer is taken where."""

from typing import Final, Protocol

import torch
from torch import Tensor

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.errors import NativeUnavailable
from asterism.workers.engine.native.computer import NativeComputer
from asterism.workers.engine.step import BLOCK_TOKENS, Step
from asterism.workers.engine.torch_step import TorchStepComputer

KV_BYTES: Final = 1 << 31
"""KV memory that an engine takes at most where nobody says how much: 2 GiB."""


class StepComputer(Protocol):
    """Owns the weights and the KV memory; one OS thread uses it.

    On the CPU a row of logits is bitwise the same however its sequence was cut into chunks, whatever else is in the
    step, and whether its blocks were computed, shared or copied.
    """

    @property
    def blocks(self) -> int:
        """KV blocks that there are, numbered from 0."""
        ...

    def compute(self, step: Step) -> Tensor:
        """Logits, float32 [chunks that sample, vocab] in the order of the chunks, on the CPU or the device."""
        ...


class ComputerFactory(Protocol):
    """Makes the computer of an engine, in the OS thread that will use it."""

    def __call__(
        self, decoder: Decoder, *, blocks: int, context_tokens: int, os_threads: int, device: str
    ) -> StepComputer: ...


def make_computer(decoder: Decoder, *, blocks: int, context_tokens: int, os_threads: int, device: str) -> StepComputer:
    """On a CPU the compiled one where there is a compiler, otherwise the one in torch."""
    if device == "cpu":
        try:
            return NativeComputer(
                decoder, blocks=blocks, context_tokens=context_tokens, os_threads=os_threads, weights="float32"
            )
        except NativeUnavailable:
            pass
    return TorchStepComputer(decoder, blocks=blocks, context_tokens=context_tokens, device=torch.device(device))


def default_blocks(config: DecoderConfig, *, max_sequences: int, context_tokens: int) -> int:
    """Blocks for every sequence at its longest, as far as KV_BYTES go; what one needs beyond them is refused."""
    values = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    most = KV_BYTES // (values * BLOCK_TOKENS * torch.float32.itemsize)
    return max(1, min(max_sequences * -(-context_tokens // BLOCK_TOKENS), most))
