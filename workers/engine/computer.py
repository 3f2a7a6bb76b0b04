"""The seam between the engine's thread and what computes a step on a device, and which computer is taken where."""

from importlib.util import find_spec
from typing import Final, Protocol

import torch
from torch import Tensor

from asterism.orchestrator.core.errors import Misconfigured
from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.errors import NativeUnavailable
from asterism.workers.engine.native.computer import NativeComputer
from asterism.workers.engine.step import BLOCK_TOKENS, Step
from asterism.workers.engine.torch_step import TorchStepComputer

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
INT8: Final = "int8"

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
        self,
        decoder: Decoder,
        *,
        blocks: int,
        context_tokens: int,
        max_sequences: int,
        os_threads: int,
        device: str,
    ) -> StepComputer:
        """`blocks` are the most that may be of use: a device with less memory has fewer."""
        ...


def find_device(wanted: str) -> str:
    """`cpu` or `cuda`: what `auto` stands for on this machine, or what is wanted.

    Raises `Misconfigured` where a GPU is wanted and torch finds none, or Triton is not installed.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise Misconfigured("device", "torch finds no NVIDIA GPU here; take cpu, or auto")
    if find_spec("triton") is None:
        raise Misconfigured("device", "triton is not installed here, which a GPU needs; take cpu")
    return "cuda"


def find_dtype(wanted: str, device: str) -> torch.dtype:
    """What weights are loaded as: `auto` is bfloat16 on a GPU, and `int8` is quantised from float32 by its computer.

    Raises `Misconfigured` for what a device does not compute in.
    """
    if device == "cpu" and wanted not in ("auto", "float32", INT8):
        raise Misconfigured("dtype", f"is {wanted}; on a CPU this engine computes in float32 or int8")
    if device == "cuda" and wanted == INT8:
        raise Misconfigured("dtype", "is int8, which this engine computes in on a CPU only; take the device cpu")
    automatic = torch.bfloat16 if device == "cuda" else torch.float32
    return {"auto": automatic, INT8: torch.float32, **DTYPES}[wanted]


def find_computer(wanted: str) -> ComputerFactory:
    """What makes the computers of engines whose `dtype` this is."""
    return make_int8_computer if wanted == INT8 else make_computer


def make_computer(
    decoder: Decoder, *, blocks: int, context_tokens: int, max_sequences: int, os_threads: int, device: str
) -> StepComputer:
    """On a CPU the compiled one where there is a compiler, otherwise the one in torch; on a GPU Triton's kernels.

    On a GPU the weights are computed in what the decoder has them in.
    """
    if device == "cuda":
        # Not at the head of this page: only who has a GPU pays for it.
        from asterism.workers.engine.cuda.cuda_step import CudaComputer

        return CudaComputer(
            decoder,
            blocks=blocks,
            context_tokens=context_tokens,
            max_sequences=max_sequences,
            device=torch.device(device),
            dtype=decoder.model.embed_tokens.weight.dtype,
        )
    if device == "cpu":
        try:
            return NativeComputer(
                decoder, blocks=blocks, context_tokens=context_tokens, os_threads=os_threads, weights="float32"
            )
        except NativeUnavailable:
            pass
    return TorchStepComputer(decoder, blocks=blocks, context_tokens=context_tokens, device=torch.device(device))


def make_int8_computer(
    decoder: Decoder, *, blocks: int, context_tokens: int, max_sequences: int, os_threads: int, device: str
) -> StepComputer:
    """The compiled one with weights in int8. Raises `Misconfigured` on a GPU, and where there is no C compiler:
    whoever asks for int8 is not given something slower in silence."""
    find_dtype(INT8, device)
    try:
        return NativeComputer(
            decoder, blocks=blocks, context_tokens=context_tokens, os_threads=os_threads, weights="int8"
        )
    except NativeUnavailable as error:
        raise Misconfigured("dtype", f"is int8, which needs the compiled computer: {error.reason}") from error


def default_blocks(config: DecoderConfig, *, max_sequences: int, context_tokens: int, device: str = "cpu") -> int:
    """Blocks for every sequence at its longest, as far as KV_BYTES go; what one needs beyond them is refused.

    On a GPU the computer says itself how many fit.
    """
    whole = max_sequences * -(-context_tokens // BLOCK_TOKENS)
    if device == "cuda":
        return max(1, whole)
    values = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    most = KV_BYTES // (values * BLOCK_TOKENS * torch.float32.itemsize)
    return max(1, min(whole, most))
