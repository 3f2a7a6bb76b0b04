"""The operations as Triton kernels: on a GPU, and on the CPU where Triton interprets them (TRITON_INTERPRET=1)."""

import math
from dataclasses import dataclass
from typing import Final

import torch
import triton
from torch import Tensor

from asterism.workers.engine.cuda import kernels, pointwise
from asterism.workers.engine.cuda.inputs import Inputs
from asterism.workers.engine.cuda.operations import Operations
from asterism.workers.engine.cuda.plan import LARGE_QUERIES, TILE_TOKENS
from asterism.workers.engine.cuda.weights import LayerWeights, Projection, Weights
from asterism.workers.engine.step import BLOCK_TOKENS

_LOG2_E = math.log2(math.e)
_MIN_QUERIES = 16
"""The least that matrix units multiply at a time."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a program of attention goes through keys and values: so many positions at a time."""

    tokens: int
    warps: int
    stages: int
    looks_ahead: bool = False
    """Whether block numbers are read a turn early. Keys and values of later turns are then under way while one is
    computed, which takes twice the shared memory."""


SMALL_TILE: Final = Reading(TILE_TOKENS, 4, 3)
"""Of a decoding row. On an H200, at batches of 1, 32 and 256, none of seven others was more than 2 % faster at any.
Those that look ahead and gain 4 % at 1 lose 15 % at 32 or 6 % at 256: fewer programs fit on a processor."""
LARGE_TILE: Final = Reading(TILE_TOKENS, 8, 3, looks_ahead=True)
"""Of many rows. On an H200 all of the fork's attention takes 30.7 us a layer. Three stages of whole tiles leave just
the registers and the memory that a program of a decoding row needs beside this one; a turn that computes the scores of
the next ahead leaves neither and takes 35.5."""

MAX_SPLIT_ROWS: Final = 128
"""On an H200 the products behind attention and behind the gate, each with the sum and the norm behind it, take 14.2 and
30.1 us with 32 rows, in two parts, and 16.5 and 33.0 in one; with 128 rows 15.7 and 33.4, and 16.3 and 36.8; with 256
rows 22.4 and 45.3, and 20.0 and 46.4."""

MIN_PART_DEPTH: Final = 1024
"""A guess: what is shorter is over before its sum is worth a part."""

_PRODUCT_COLUMNS: Final = 64
"""Of a program of the library's products, where there are few rows: so its kernels for an H200 are named."""


def product_parts(columns: int, depth: int, processors: int) -> int:
    """Into how many parts, a power of two, the sums of a product are split, so that few columns keep a device busy.

    The library does so too, but adds the parts up in a kernel of its own: `add_and_norm` saves that.
    """
    parts, programs = 2, -(-columns // _PRODUCT_COLUMNS)
    while parts * programs <= processors and depth % parts == 0 and depth // parts >= MIN_PART_DEPTH:
        parts *= 2
    return parts // 2


_MERGED_PARTS = 16
"""At a time; most rows have fewer."""

_MERGE_WARPS = 1
"""On an H200 attention of the table's fork takes 35.2, 36.1, 37.3 and 45.0 us a layer with 1, 2, 4 and 8."""


class TritonOperations(Operations):
    """Launches the kernels; sizes that a kernel is compiled for come from the model alone, and `ROWS`."""

    def __init__(
        self,
        weights: Weights,
        *,
        kv_heads: int,
        head_dim: int,
        window: int | None,
        eps: float,
        small_tile: Reading = SMALL_TILE,
        large_tile: Reading = LARGE_TILE,
        overlaps: bool = True,
        product_parts: int | None = None,
    ) -> None:
        """`product_parts` is for tests and for who measures: else the rule of that name decides."""
        self._weights = weights
        self._kv_heads = kv_heads
        self._head_dim = head_dim
        self._window = window or 0
        self._eps = eps
        self._small_tile = small_tile
        self._large_tile = large_tile
        self._product_parts = product_parts
        is_gpu = weights.embedding.device.type == "cuda"
        # A torch that cannot leave a product's sums in float32 is treated as a device with nothing to spare.
        can_split = is_gpu and hasattr(torch.ops.aten.bmm, "dtype")
        properties = torch.cuda.get_device_properties(weights.embedding.device) if can_split else None
        self._processors = 1 if properties is None else int(properties.multi_processor_count)
        self._beside = torch.cuda.Stream(weights.embedding.device) if overlaps and is_gpu else None  # type: ignore[no-untyped-call]  # torch's own gap

    def norm(self, x: Tensor, weight: Tensor) -> Tensor:
        out = torch.empty_like(x)
        size = x.shape[1]
        pointwise.rms_norm[(len(x),)](
            x, weight, out, self._eps, SIZE=size, WIDTH=triton.next_power_of_2(size), num_warps=8
        )
        return out

    def add_product(self, x: Tensor, y: Tensor, projection: Projection, norm: Tensor) -> Tensor:
        columns, depth = projection.weight.shape
        parts = self._product_parts or product_parts(columns, depth, self._processors)
        if parts == 1 or projection.bias is not None or len(x) > MAX_SPLIT_ROWS:
            return super().add_product(x, y, projection, norm)
        products = _partial_products(y, projection.weight, parts)
        out = torch.empty_like(x)
        size = x.shape[1]
        pointwise.add_and_norm[(len(x),)](
            products,
            x,
            norm,
            out,
            products.stride(0),
            self._eps,
            PARTS=parts,
            SIZE=size,
            WIDTH=triton.next_power_of_2(size),
            num_warps=8,
        )
        return out

    def gate(self, gate_up: Tensor) -> Tensor:
        rows, size = len(gate_up), gate_up.shape[1] // 2
        out = gate_up.new_empty((rows, size))
        width = min(1024, triton.next_power_of_2(size))
        pointwise.silu_product[(rows, triton.cdiv(size, width))](gate_up, out, SIZE=size, WIDTH=width)
        return out

    def store(self, qkv: Tensor, layer: LayerWeights, kv: Tensor, inputs: Inputs) -> Tensor:
        rows, slots = len(qkv), qkv.shape[1] // self._head_dim
        heads = slots - 2 * self._kv_heads
        q = qkv.new_empty((rows, heads * self._head_dim))
        has_norm = layer.q_norm is not None
        pointwise.turn_and_store[(rows, slots)](
            qkv,
            self._weights.cosines,
            self._weights.sines,
            layer.q_norm if has_norm else qkv,
            layer.k_norm if has_norm else qkv,
            inputs.records,
            q,
            kv[0],
            kv[1],
            inputs.records.stride(0),
            kv.stride(1),
            kv.stride(2),
            self._eps,
            HEADS=heads,
            KV_HEADS=self._kv_heads,
            HALF=self._head_dim // 2,
            WIDTH=triton.next_power_of_2(self._head_dim // 2),
            HAS_NORM=has_norm,
            BLOCK_TOKENS=BLOCK_TOKENS,
            num_warps=1,
        )
        return q

    def attend(self, q: Tensor, kv: Tensor, inputs: Inputs) -> Tensor:
        rows, heads = len(q), q.shape[1] // self._head_dim
        group = heads // self._kv_heads
        out = torch.empty_like(q)
        # A single part is the result itself.
        results = q.new_empty((rows, inputs.slots, heads, self._head_dim), dtype=torch.float32)
        results = results if inputs.needs_merge else out
        sums = q.new_empty((rows, inputs.slots, heads), dtype=torch.float32)
        small_queries = max(_MIN_QUERIES, triton.next_power_of_2(group))
        large_queries = max(LARGE_QUERIES, triton.next_power_of_2(group))
        small = (inputs.small_tiles, inputs.small_parts, small_queries, self._small_tile)
        large = (inputs.large_tiles, inputs.large_parts, large_queries, self._large_tile)

        def launch(tiles: Tensor, parts: int, queries: int, reading: Reading) -> None:
            if not len(tiles) or not parts:
                return
            kernels.attend_tiles[(len(tiles), self._kv_heads, parts)](
                q,
                kv[0],
                kv[1],
                inputs.tables,
                tiles,
                inputs.limits,
                results,
                sums,
                q.stride(0),
                inputs.tables.stride(0),
                tiles.stride(0),
                inputs.limits.stride(0),
                kv.stride(1),
                kv.stride(2),
                inputs.slots,
                _LOG2_E / math.sqrt(self._head_dim),
                HEADS=heads,
                GROUP=group,
                HEAD_DIM=self._head_dim,
                DIM=max(_MIN_QUERIES, triton.next_power_of_2(self._head_dim)),
                WINDOW=self._window,
                QUERIES=queries,
                TILE_TOKENS=reading.tokens,
                BLOCK_TOKENS=BLOCK_TOKENS,
                LOOKS_AHEAD=reading.looks_ahead,
                SEES_ALL=inputs.sees_all,
                num_warps=reading.warps,
                num_stages=reading.stages,
            )

        if self._beside is None or not len(inputs.large_tiles):
            launch(*small)
            launch(*large)
        else:
            # Neither fills the device by itself. The large ones first: on an H200 they wait for room behind small ones,
            # and all of the fork's attention takes 36 us a layer where it takes 31.
            current = torch.cuda.current_stream()
            self._beside.wait_stream(current)
            with torch.cuda.stream(self._beside):
                launch(*large)
            launch(*small)
            current.wait_stream(self._beside)
        if inputs.needs_merge:
            kernels.merge_parts[(rows, heads)](
                results,
                sums,
                inputs.parts,
                out,
                inputs.parts.stride(0),
                inputs.slots,
                inputs.own_slots,
                HEADS=heads,
                HEAD_DIM=self._head_dim,
                DIM=triton.next_power_of_2(self._head_dim),
                PARTS=_MERGED_PARTS,
                num_warps=_MERGE_WARPS,
            )
        return out


def _partial_products(y: Tensor, weight: Tensor, parts: int) -> Tensor:
    """float32 [parts, rows, columns], whose sum over the parts is `y` [rows, depth] times `weight` [columns, depth]."""
    left = y.view(len(y), parts, -1).transpose(0, 1)
    right = weight.view(len(weight), parts, -1).permute(1, 2, 0)
    if y.dtype == torch.float32 or y.device.type != "cuda":
        return torch.bmm(left.float(), right.float())
    return torch.bmm(left, right, out_dtype=torch.float32)
