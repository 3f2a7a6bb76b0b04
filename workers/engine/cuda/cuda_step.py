"""Steps on a GPU: paged keys and values, decoding from recorded graphs, prefixes read once for all that share them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.cuda.inputs import Buffers, Inputs, send
from asterism.workers.engine.cuda.operations import MakeOperations, TorchOperations
from asterism.workers.engine.cuda.plan import (
    GRAPH_SIZES,
    MAX_SHARED_PARTS,
    UNROLLED_SIZES,
    Tiling,
    lay_out,
    padded_size,
    unrolled,
)
from asterism.workers.engine.cuda.weights import Weights
from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.errors import UnsupportedModel
from asterism.workers.engine.step import BLOCK_TOKENS, BlockCopy, Chunk, Step

MEMORY_SHARE: Final = 0.85
"""The rest is for what a step computes: logits of 512 rows and a prompt's chunk are below 2 GB at 152,000 tokens."""

_CPU_PROCESSORS: Final = 4
"""What a device without streaming multiprocessors counts as: enough for stretches to be split in tests."""

_MANY_TILES: Final = 32
"""With so many tiles the parts of a prompt are no longer split, on any device up to 256 processors and a KV head."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One forward of a fixed number of rows, whose inputs and outputs stay where they are."""

    inputs: Inputs
    logits: Tensor
    """float32 [rows, vocab]; the next replay of any graph overwrites it."""
    graph: torch.cuda.CUDAGraph


class CudaComputer:
    """A `StepComputer`. What `compute` gives stays valid until it is called again.

    A step of few tokens, of answers or prompts, is padded to the next of `GRAPH_SIZES` and replayed; any other runs as
    it comes. Rows of padding write to a block of their own behind the last. `weights`, `tiling` and `layers_kv` are for
    who measures it.
    """

    @torch.inference_mode()
    def __init__(
        self,
        decoder: Decoder,
        *,
        blocks: int | None = None,
        context_tokens: int,
        max_sequences: int,
        device: torch.device,
        dtype: torch.dtype = torch.bfloat16,
        reads_shared_once: bool = True,
        graph_sizes: Sequence[int] = GRAPH_SIZES,
        operations: MakeOperations | None = None,
    ) -> None:
        """Records the graphs, so that no step waits for it: for sizes up to the one that holds `max_sequences`, some
        larger ones for prompts.

        There are `blocks`, if they fit into `MEMORY_SHARE` of what the weights leave free on the GPU; as many as do
        where they don't, or where no number is given. Raises `UnsupportedModel` where not one does.
        `operations` defaults to Triton's kernels on a GPU and to plain torch elsewhere.
        """
        config = decoder.config
        self._device = device
        self.weights = weights = Weights.of(decoder, positions=context_tokens, device=device, dtype=dtype)
        self._blocks = blocks = _blocks_that_fit(config, dtype, device, blocks)
        # Zeros and not empty: what is masked is multiplied by 0, and 0 * nan is nan.
        self._kv = torch.zeros(
            (config.num_hidden_layers, 2, blocks + 1, config.num_key_value_heads, BLOCK_TOKENS, config.head_dim),
            dtype=dtype,
            device=device,
        )
        self.layers_kv = tuple(self._kv)
        self.tiling = Tiling(
            kv_heads=config.num_key_value_heads,
            group=config.num_attention_heads // config.num_key_value_heads,
            window=config.sliding_window,
            processors=_processors(device),
        )
        make = operations or _default_operations(device)
        self._operations = make(
            weights,
            kv_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            window=config.sliding_window,
            eps=config.rms_norm_eps,
        )
        self._reads_shared_once = reads_shared_once and config.sliding_window is None
        decoding = padded_size(max_sequences, graph_sizes) or graph_sizes[-1]
        self._sizes = [size for size in graph_sizes if size <= decoding or size in UNROLLED_SIZES]
        largest = self._sizes[-1]
        self._buffers = Buffers(
            rows=largest,
            tiles=self.tiling.tile_room(largest),
            blocks=-(-context_tokens // BLOCK_TOKENS),
            device=device,
        )
        self._recorded: dict[tuple[int, bool], Recorded] = {}
        if device.type == "cuda":
            self._record_all(torch.empty((largest, len(weights.head.weight)), dtype=torch.float32, device=device))
            self._warm_up()

    @property
    def blocks(self) -> int:
        return self._blocks

    @torch.inference_mode()
    def compute(self, step: Step) -> Tensor:
        """Logits, float32 [chunks that sample, vocab] on the device. `argmax` them there: only the ids come back."""
        self._copy(step.copies)
        size = padded_size(sum(len(chunk.token_ids) for chunk in step.chunks), self._sizes)
        if size is not None:
            step = Step((), tuple(unrolled(step.chunks)))
        layout = lay_out(step, self.tiling, scratch=self._blocks, size=size, reads_shared_once=self._reads_shared_once)
        samples = layout.samples
        if size is None:
            inputs = send(layout, self._device)
            return self._forward(inputs, self._numbers(samples)).float()
        self._buffers.fill(layout)
        has_shared = bool(layout.large_tiles)
        recorded = self._recorded.get((size, has_shared))
        if recorded is None:
            logits = self._forward(self._view(size, has_shared=has_shared), None).float()
        else:
            recorded.graph.replay()
            logits = recorded.logits
        if samples == list(range(len(samples))):
            return logits[: len(samples)]
        return logits[self._numbers(samples)]

    def _numbers(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._device)

    def _forward(self, inputs: Inputs, samples: Tensor | None) -> Tensor:
        """Logits of the rows `samples`, or of all, as the weights are."""
        operations = self._operations
        layers = self.weights.layers
        next_norms = [*[layer.attention_norm for layer in layers[1:]], self.weights.norm]
        x = F.embedding(inputs.token_ids, self.weights.embedding)
        normed = operations.norm(x, layers[0].attention_norm)
        for layer, next_norm, kv in zip(layers, next_norms, self.layers_kv, strict=True):
            q = operations.store(operations.product(normed, layer.qkv), layer, kv, inputs)
            normed = operations.add_product(x, operations.attend(q, kv, inputs), layer.output, layer.mlp_norm)
            gated = operations.gate(operations.product(normed, layer.gate_up))
            normed = operations.add_product(x, gated, layer.down, next_norm)
        if samples is not None and not len(samples):
            return x.new_empty((0, len(self.weights.head.weight)))  # nothing that a kernel could run on
        return operations.product(normed if samples is None else normed[samples], self.weights.head)

    def _copy(self, copies: Sequence[BlockCopy]) -> None:
        targets = {copy.target for copy in copies}
        if len(copies) > 1 and len(targets) == len(copies) and targets.isdisjoint(copy.source for copy in copies):
            # All at once, and whole blocks: what is behind their first tokens is not computed yet.
            sources = self._numbers([copy.source for copy in copies])
            self._kv[:, :, self._numbers([copy.target for copy in copies])] = self._kv[:, :, sources]
            return
        for copy in copies:
            self._kv[:, :, copy.target, :, : copy.tokens] = self._kv[:, :, copy.source, :, : copy.tokens]

    def _view(self, size: int, *, has_shared: bool) -> Inputs:
        return self._buffers.view(
            size,
            tiles=self.tiling.tile_room(size) if has_shared else 0,
            own_slots=self.tiling.own_parts(size),
            shared_slots=MAX_SHARED_PARTS if has_shared else 0,
        )

    def _record_all(self, logits: Tensor) -> None:
        """Graphs that leave what they give in the first rows of `logits`, as many as they have.

        The largest first: smaller ones then fit into the memory that it has taken.
        """
        pool = None
        # One for all: cuBLAS keeps a workspace for each stream.
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own gap
        idle = lay_out(Step((), ()), self.tiling, scratch=self._blocks, size=self._sizes[-1])
        self._buffers.fill(idle)
        for size in reversed(self._sizes):
            for has_shared in (False, True) if self._reads_shared_once and size > 1 else (False,):
                inputs, out = self._view(size, has_shared=has_shared), logits[:size]
                # Once outside: kernels are compiled and libraries choose theirs, which no recording may contain.
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    out.copy_(self._forward(inputs, None))
                torch.cuda.current_stream().wait_stream(side)
                graph = torch.cuda.CUDAGraph()
                # Other threads may use the device meanwhile: another engine may be at work.
                with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                    out.copy_(self._forward(inputs, None))
                pool = pool or graph.pool()
                self._recorded[size, has_shared] = Recorded(inputs, out, graph)

    def _warm_up(self) -> None:
        """Runs prompts of two lengths, few tiles and many: kernels for prompts are compiled now, not in an answer."""
        sizes = (self._sizes[-1] + 1, _MANY_TILES * self.tiling.large_rows)
        for wanted in sizes:
            tokens = min(wanted, self._blocks * BLOCK_TOKENS, len(self.weights.cosines))
            self.compute(Step((), (Chunk([0] * tokens, 0, range(-(-tokens // BLOCK_TOKENS)), True),)))


def block_bytes(config: DecoderConfig, dtype: torch.dtype) -> int:
    """Memory of a KV block of all layers."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * BLOCK_TOKENS * config.head_dim * dtype.itemsize


def _blocks_that_fit(config: DecoderConfig, dtype: torch.dtype, device: torch.device, wanted: int | None) -> int:
    if device.type != "cuda":
        if wanted is None:
            raise ValueError(f"how many blocks fit is not known of {device}: name a number of blocks")
        return wanted
    free, _ = torch.cuda.mem_get_info(device)
    fitting = int(free * MEMORY_SHARE) // block_bytes(config, dtype) - 1
    if fitting < 1:
        raise UnsupportedModel("weights", f"leave {free >> 20} MiB free on the GPU, which hold no keys and values")
    return fitting if wanted is None else min(wanted, fitting)


def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return _CPU_PROCESSORS
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _default_operations(device: torch.device) -> MakeOperations:
    if device.type != "cuda":
        return TorchOperations
    # Not at the head of this page: torch for the CPU comes without Triton.
    from asterism.workers.engine.cuda.triton_operations import TritonOperations

    return TritonOperations
