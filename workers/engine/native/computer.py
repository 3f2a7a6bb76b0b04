"""The computer of steps for CPUs: a whole step is one call into compiled code, which frees Python's lock meanwhile."""

import ctypes
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import psutil
import torch
from torch import Tensor

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.errors import UnsupportedModel
from asterism.workers.engine.native.arrays import Limits, step_arrays
from asterism.workers.engine.native.library import Config, Held, Library, NativeStep, Weight, library
from asterism.workers.engine.rotary import rotary_tables
from asterism.workers.engine.step import Step

_TILE: Final = 32
"""Logits are written in tiles of so many."""

POPULATED_SHARE: Final = 4
"""The KV memory is taken at the start where it is at most this part of what is left. Else the system gives pages and
writes zeros into them within the first steps that write there: 64 requests for one token of a model of 150M in int8
took 105 ms so, and 45 ms where there was nothing left to give (two cores, pages of 2 MB)."""
CGROUP: Final = Path("/sys/fs/cgroup")

_LAYER: Final[Mapping[str, Weight]] = {
    "input_layernorm.weight": Weight.INPUT_NORM,
    "self_attn.q_proj.weight": Weight.QUERY,
    "self_attn.k_proj.weight": Weight.KEY,
    "self_attn.v_proj.weight": Weight.VALUE,
    "self_attn.q_proj.bias": Weight.QUERY_BIAS,
    "self_attn.k_proj.bias": Weight.KEY_BIAS,
    "self_attn.v_proj.bias": Weight.VALUE_BIAS,
    "self_attn.q_norm.weight": Weight.QUERY_NORM,
    "self_attn.k_norm.weight": Weight.KEY_NORM,
    "self_attn.o_proj.weight": Weight.OUTPUT,
    "self_attn.o_proj.bias": Weight.OUTPUT_BIAS,
    "post_attention_layernorm.weight": Weight.POST_NORM,
    "mlp.gate_proj.weight": Weight.GATE,
    "mlp.up_proj.weight": Weight.UP,
    "mlp.gate_proj.bias": Weight.GATE_BIAS,
    "mlp.up_proj.bias": Weight.UP_BIAS,
    "mlp.down_proj.weight": Weight.DOWN,
    "mlp.down_proj.bias": Weight.DOWN_BIAS,
}
_MATRICES: Final = (
    (Weight.QUERY, Weight.KEY, Weight.VALUE),
    (Weight.OUTPUT,),
    (Weight.GATE, Weight.UP),
    (Weight.DOWN,),
)
"""The weights of each matrix of a layer, in the order in which native.h has them."""
_WHOLE: Final[Mapping[str, Weight]] = {
    "model.norm.weight": Weight.FINAL_NORM,
    "lm_head.weight": Weight.HEAD,
    "model.embed_tokens.weight": Weight.EMBEDDING,
}


def spare_bytes(cgroup: Path = CGROUP) -> int:
    """Memory that this process may still take: of the machine, and of the container that it may be in."""
    available: int = psutil.virtual_memory().available
    try:
        most = int((cgroup / "memory.max").read_text())
        return min(available, max(0, most - int((cgroup / "memory.current").read_text())))
    except (OSError, ValueError):  # no cgroup of the second version, or one without a limit: "max"
        return available


class NativeComputer:
    """A `StepComputer`: a row's logits are bitwise the same whatever else is in the step, and with any `os_threads`.

    `weights` "int8" quantises matrices at the start, in groups of 32 with a scale each, and the inputs of each product
    alike. In "float32" a matrix whose numbers bfloat16 has too (most checkpoints are in it) is held in bfloat16, and
    widened where it is multiplied: half the memory to hold and to read, and the same bits in the results. So is the
    embedding, in both. Norms, biases and the KV memory are in float32. `os_threads` counts the caller's.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        blocks: int,
        context_tokens: int,
        os_threads: int,
        weights: Literal["float32", "int8"],
        built: Library | None = None,
    ) -> None:
        """`built` is another library than this machine's own. Raises `NativeUnavailable`, `UnsupportedModel` for a
        weight that it does not know or that is not finite, `ValueError` and `MemoryError`."""
        for name, value in {"blocks": blocks, "context_tokens": context_tokens, "os_threads": os_threads}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; at least 1")
        self._library = built or library()
        self._limits = Limits(decoder.config.vocab_size, context_tokens, blocks)
        shape = _native_config(decoder.config, self._limits, os_threads)
        held = _held(decoder, is_int8=weights == "int8")
        model: int | None = self._library.create(ctypes.byref(shape), (ctypes.c_int32 * len(held))(*held))
        if model is None:
            raise MemoryError(f"no memory for {blocks} KV blocks and the weights")
        self._model = model
        self._finalizer = weakref.finalize(self, self._library.destroy, model)
        # A process that ends while its engine computes must not take the memory from under it.
        self._finalizer.atexit = False
        if self.kv_bytes <= spare_bytes() // POPULATED_SHARE:
            self._library.populate_kv(model)
        self._padded_vocab = -(-decoder.config.vocab_size // _TILE) * _TILE
        self._embedding = self._load(decoder, torch.bfloat16 if held[-1] is Held.BFLOAT16 else torch.float32)

    @property
    def blocks(self) -> int:
        return self._limits.blocks

    @property
    def matrix_bytes(self) -> int:
        """What the matrices of products take: a step of a single row reads all of it."""
        return int(self._library.weights_bytes(self._model))

    @property
    def kv_bytes(self) -> int:
        """What the KV memory takes once all of it has been written."""
        return int(self._library.kv_bytes(self._model))

    @torch.inference_mode()
    def compute(self, step: Step) -> Tensor:
        """Logits, float32 [chunks that sample, vocab]; raises `InvalidStep` before anything is computed."""
        arrays = step_arrays(step, self._limits)
        samples = len(arrays.sample_rows)
        logits = torch.empty(samples, self._padded_vocab)
        native = NativeStep(
            len(arrays.token_ids),
            samples,
            len(step.copies),
            arrays.token_ids.buffer_info()[0],
            arrays.positions.buffer_info()[0],
            arrays.row_tables.buffer_info()[0],
            arrays.blocks.buffer_info()[0],
            arrays.sample_rows.buffer_info()[0],
            arrays.copied.buffer_info()[0],
            logits.data_ptr(),
        )
        if self._library.step(self._model, ctypes.byref(native)):
            raise MemoryError(f"no memory for a step of {len(arrays.token_ids)} tokens")
        return logits if self._padded_vocab == self._limits.vocab else logits[:, : self._limits.vocab].contiguous()

    def close(self) -> None:
        """Ends the OS threads and frees the memory; the computer is not used any more."""
        self._finalizer()

    def _load(self, decoder: Decoder, embedding_dtype: torch.dtype) -> Tensor:
        """Packs all weights; gives the embedding, which is read in place."""
        embedding: Tensor | None = None
        for name, tensor in decoder.state_dict().items():
            layer, kind = _place(name)
            wide = tensor.detach().to("cpu", torch.float32).contiguous()
            if not bool(torch.isfinite(wide).all()):
                raise UnsupportedModel(name, "holds numbers that are not finite")
            if kind is Weight.EMBEDDING:
                embedding = wide = wide.to(embedding_dtype)
            self._pack(kind, layer, wide)
        assert embedding is not None
        half = decoder.config.head_dim // 2
        for kind, table in zip(
            (Weight.COS, Weight.SIN), rotary_tables(decoder.config, self._limits.context_tokens), strict=True
        ):
            self._pack(kind, 0, table[:, :half].contiguous())
        return embedding

    def _pack(self, kind: Weight, layer: int, tensor: Tensor) -> None:
        if self._library.weight(self._model, kind, layer, tensor.data_ptr()):
            raise MemoryError(f"no memory for {kind.name}")


def _place(name: str) -> tuple[int, Weight]:
    """The layer (0 for what is in none) and the kind of a parameter."""
    if name in _WHOLE:
        return 0, _WHOLE[name]
    prefix, _, rest = name.removeprefix("model.layers.").partition(".")
    if not name.startswith("model.layers.") or rest not in _LAYER:
        raise UnsupportedModel(name, "is a weight that the native computer does not know")
    return int(prefix), _LAYER[rest]


@torch.inference_mode()
def _held(decoder: Decoder, *, is_int8: bool) -> list[Held]:
    """What the matrices of each layer, the head and the embedding are held in."""
    wide = {
        _place(name) for name, tensor in decoder.state_dict().items() if tensor.dim() == 2 and not _is_narrow(tensor)
    }

    def held(layer: int, *weights: Weight) -> Held:
        return Held.FLOAT32 if wide & {(layer, weight) for weight in weights} else Held.BFLOAT16

    places = [(layer, *weights) for layer in range(decoder.config.num_hidden_layers) for weights in _MATRICES]
    matrices = [Held.INT8 if is_int8 else held(*place) for place in [*places, (0, Weight.HEAD)]]
    return [*matrices, held(0, Weight.EMBEDDING)]


def _is_narrow(tensor: Tensor) -> bool:
    """Whether bfloat16 has each of these numbers."""
    return tensor.dtype is torch.bfloat16 or torch.equal(tensor.bfloat16().to(tensor.dtype), tensor)


def _native_config(config: DecoderConfig, limits: Limits, os_threads: int) -> Config:
    return Config(
        vocab=config.vocab_size,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        positions=limits.context_tokens,
        window=config.sliding_window or 0,
        blocks=limits.blocks,
        threads=os_threads,
        eps=config.rms_norm_eps,
    )
