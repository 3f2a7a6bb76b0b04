"""Steps in plain torch: the computer where no native one is, and the base of the one for CUDA.

On the CPU a row is bitwise the same in any company. What torch with MKL promises nowhere but keeps, and the tests
check: from 4 rows on, a product gives each row alike whatever their number and its place; positions appended to the
inner side of a product with weight 0, or behind -inf in a softmax, change nothing. So rows are filled up to multiples
of 4. Sums over a row are the row's own. What else rounds differently in vectors and in their remainders (SiLU, complex
products) is taken apart into operations that IEEE 754 defines to the bit, and exp.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asterism.workers.engine.decoder import Decoder, DecoderLayer
from asterism.workers.engine.rotary import rotary_tables
from asterism.workers.engine.step import BLOCK_TOKENS, BlockCopy, Chunk, Step

ROWS: Final = 4
"""Products take multiples of so many rows. With 1 to 3 MKL adds in another order; with two OS threads also with 5, 6,
7, 9, 10 and 11 (torch 2.13, EPYC with AVX-512)."""

MIN_PRODUCT: Final = 400
"""Batched products of fewer multiplications than that each are computed by a loop of torch's own, which adds in
another order (aten/src/ATen/native/LinearAlgebra.cpp)."""

TILE_ROWS: Final = (16, 64)
"""Rows of a prompt's chunk attend together, up to so many: fewer would gather keys too often, more look at many keys
that are hidden from most of them."""

KEYS: Final = 128
"""Values are added up by so many positions at a time: where MKL cuts a longer sum depends on its length (above 192)."""

MAX_SCORES: Final = 1 << 24
"""Attention scores, float32, that are there at one time: 64 MiB."""


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """The projections of a layer as the right side of a product, each [in, out], and its bias, if it has one.

    Each has the weight of the norm before it multiplied in, `qkv` and `gate_up` are the projections of those names
    side by side, and rotary pairs of queries and keys are neighbours. Queries are divided by the root of head_dim.
    Every size (hidden, of each head, of the feed-forward) is filled up with zeros to a multiple of 16.
    """

    qkv: tuple[Tensor, Tensor | None]
    qk_norm: Tensor | None
    """[heads + kv_heads, head size]"""
    output: tuple[Tensor, Tensor | None]
    gate_up: tuple[Tensor, Tensor | None]
    down: tuple[Tensor, Tensor | None]

    @staticmethod
    def of(layer: DecoderLayer) -> "LayerWeights":
        attention, mlp = layer.self_attn, layer.mlp
        size, scale = attention.head_dim, attention.head_dim**-0.5
        query_scale = scale if attention.q_norm is None else 1.0

        def stacked(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            """[all heads * filled head_dim, in]"""
            turned = _pairs_together(torch.cat((query * query_scale, key)), size)
            return _filled(torch.cat((turned, value)), size)

        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        bias = None
        if attention.q_proj.bias is not None:
            bias = stacked(*(projection.bias[:, None] for projection in projections))[:, 0]
        qk_norm = None
        if attention.q_norm is not None and attention.k_norm is not None:
            norms = (attention.q_norm.weight * scale).repeat(attention.heads), attention.k_norm.weight
            both = torch.cat((norms[0], norms[1].repeat(attention.kv_heads)))[:, None]
            qk_norm = _filled(_pairs_together(both, size), size).view(-1, filled(size))
        gate_up = torch.cat([_filled(part.weight, part.out_features) for part in (mlp.gate_proj, mlp.up_proj)])
        mlp_bias = None
        if mlp.gate_proj.bias is not None:
            biases = [_filled(part.bias[:, None], part.out_features) for part in (mlp.gate_proj, mlp.up_proj)]
            mlp_bias = torch.cat(biases)[:, 0]
        qkv = stacked(*(projection.weight for projection in projections)) * layer.input_layernorm.weight
        return LayerWeights(
            (right_side(qkv), bias),
            qk_norm,
            (right_side(_filled(attention.o_proj.weight.T, size).T), _find_bias(attention.o_proj)),
            (right_side(gate_up * layer.post_attention_layernorm.weight), mlp_bias),
            (right_side(mlp.down_proj.weight), _find_bias(mlp.down_proj)),
        )


def filled(size: int) -> int:
    """A size filled up to vectors of 16: with others MKL adds differently for few rows, and exp has remainders."""
    return size + -size % 16


def right_side(weight: Tensor) -> Tensor:
    """A weight [out, in] as the right side of a product, [filled in, filled out]."""
    rows, columns = weight.shape
    return F.pad(weight, (0, -columns % 16, 0, -rows % 16)).T.contiguous()


def _filled(weight: Tensor, size: int) -> Tensor:
    """[parts * size, n] as [parts * filled size, n], with zeros."""
    return F.pad(weight.reshape(-1, size, weight.shape[1]), (0, 0, 0, -size % 16)).flatten(0, 1)


def _find_bias(projection: nn.Linear) -> Tensor | None:
    bias: Tensor | None = projection.bias
    return None if bias is None else F.pad(bias, (0, -len(bias) % 16))


def _pairs_together(weight: Tensor, head_dim: int) -> Tensor:
    """Reorders the outputs of each head: dimensions i and i + head_dim / 2, which turn together, become neighbours.

    A score is a sum over the dimensions of a head, so it stays the same when queries and keys are reordered alike.
    """
    size = weight.shape[1]
    return weight.view(-1, 2, head_dim // 2, size).transpose(1, 2).reshape(-1, size)


@dataclass(frozen=True, slots=True)
class Tile:
    """Consecutive rows of one chunk: `rows` of them from `first` on among all rows, at positions from `start` on."""

    blocks: Sequence[int]
    first: int
    rows: int
    start: int

    @property
    def reach(self) -> int:
        """Blocks that its last row sees."""
        return (self.start + self.rows - 1) // BLOCK_TOKENS + 1


@dataclass(frozen=True, slots=True)
class Tiles:
    """Tiles that attend in one go, all filled up to the same number of rows and of blocks."""

    count: int
    rows: Tensor
    """Which row is each of theirs, [count * rows a tile]."""
    blocks: Tensor
    """[count * blocks a tile]"""
    hidden: Tensor
    """What is added to scores: 0 for what a row sees, else -inf. [count, 1, rows a tile, positions]"""


@dataclass(frozen=True, slots=True)
class Inputs:
    """A step as tensors. Rows are the tokens of all chunks, filled up to a multiple of ROWS."""

    token_ids: Tensor
    slots: Tensor
    """Where keys and values go: block * BLOCK_TOKENS + offset, for each row."""
    cos: Tensor
    """[rows, 1, head_dim]"""
    sin: Tensor
    tiles: tuple[Tiles, ...]
    order: Tensor
    """Which of the rows of all tiles is each row."""
    sampled: Tensor
    """Rows whose logits are wanted, filled up to a multiple of ROWS."""


class TorchStepComputer:
    """A `StepComputer` for the decoder of `decoder.py`; one OS thread uses it."""

    @torch.inference_mode()
    def __init__(self, decoder: Decoder, *, blocks: int, context_tokens: int, device: torch.device) -> None:
        config, size = decoder.config, filled(decoder.config.head_dim)
        decoder = decoder.to(device)
        self._config = config
        self._device = device
        self._blocks = blocks
        # A block more takes what rows that only fill up would write. Zeros and not empty: what is hidden is multiplied
        # by 0, and 0 * nan is nan.
        self._kv = torch.zeros(
            (config.num_hidden_layers, 2 * config.num_key_value_heads, blocks + 1, BLOCK_TOKENS, size),
            device=device,
        )
        embedding = decoder.model.embed_tokens.weight
        self._embedding = F.pad(embedding, (0, -embedding.shape[1] % 16)) if embedding.shape[1] % 16 else embedding
        self._layers = [LayerWeights.of(layer) for layer in decoder.model.layers if isinstance(layer, DecoderLayer)]
        self._head = right_side(decoder.lm_head.weight * decoder.model.norm.weight)
        cos, sin = (table.to(device) for table in rotary_tables(config, context_tokens))
        half, unturned = config.head_dim // 2, (0, size - config.head_dim)
        # Of a pair (x, y): x * cos - y * sin and y * cos + x * sin.
        signs = torch.tensor([-1.0, 1.0], device=device).repeat(half)
        self._cos = F.pad(cos[:, None, :half].repeat_interleave(2, dim=-1), unturned, value=1)
        self._sin = F.pad(sin[:, None, :half].repeat_interleave(2, dim=-1) * signs, unturned)
        # The query heads of one KV head stand as rows of one product.
        self._group = config.num_attention_heads // config.num_key_value_heads
        few = ROWS // math.gcd(self._group, ROWS)
        while few * self._group * size * BLOCK_TOKENS < MIN_PRODUCT:
            few *= 2
        self._tile_rows = tuple(sorted({few, *(size for size in TILE_ROWS if size > few)}))

    @property
    def blocks(self) -> int:
        return self._blocks

    @torch.inference_mode()
    def compute(self, step: Step) -> Tensor:
        """Logits, float32 [chunks that sample, vocab] on the device."""
        for copy in step.copies:
            self._copy(copy)
        inputs = self._inputs(step.chunks)
        x, size = F.embedding(inputs.token_ids, self._embedding), self._config.hidden_size
        for number, layer in enumerate(self._layers):
            attended = self._attend(number, self._turned(self._normed(x, size), layer, inputs), inputs)
            x = x + _product(attended, *layer.output)
            gate, up = _product(self._normed(x, size), *layer.gate_up).chunk(2, dim=-1)
            # SiLU(gate) * up
            x = x + _product(gate * up / torch.exp(-gate).add_(1), *layer.down)
        samples = sum(chunk.samples for chunk in step.chunks)
        return (self._normed(x[inputs.sampled], size) @ self._head)[:samples, : self._config.vocab_size]

    def _copy(self, copy: BlockCopy) -> None:
        self._kv[:, :, copy.target, : copy.tokens] = self._kv[:, :, copy.source, : copy.tokens]

    def _normed(self, x: Tensor, size: int) -> Tensor:
        """RMSNorm over `size` numbers without its weight, which is in what follows."""
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        normed: Tensor = x * norm.mul_(norm).mul_(1 / size).add_(self._config.rms_norm_eps).rsqrt_()
        return normed

    def _turned(self, normed: Tensor, layer: LayerWeights, inputs: Inputs) -> Tensor:
        """Queries, keys and values [rows, heads + 2 * kv_heads, head_dim], turned to their positions."""
        config = self._config
        qkv = _product(normed, *layer.qkv).view(len(normed), -1, filled(config.head_dim))
        turned = qkv[:, : -config.num_key_value_heads]
        if layer.qk_norm is not None:
            turned.copy_(self._normed(turned, config.head_dim) * layer.qk_norm)
        swapped = turned.reshape(*turned.shape[:-1], -1, 2).flip(-1).flatten(-2)
        turned.mul_(inputs.cos).add_(swapped.mul_(inputs.sin))
        return qkv

    def _attend(self, number: int, qkv: Tensor, inputs: Inputs) -> Tensor:
        """Keys and values are kept, then each row attends to what it sees: [rows, heads * head_dim]."""
        heads, kv_heads, size = qkv.shape[1] - self._kv.shape[1], self._config.num_key_value_heads, qkv.shape[2]
        kv = self._kv[number]
        kv.flatten(1, 2).index_copy_(1, inputs.slots, qkv[:, heads:].transpose(0, 1))
        outputs = []
        for tiles in inputs.tiles:
            count = tiles.count
            keys, values = kv.index_select(1, tiles.blocks).view(2, kv_heads * count, -1, size)
            q = qkv[:, :heads].index_select(0, tiles.rows).view(count, -1, kv_heads, self._group, size)
            q = q.permute(2, 0, 3, 1, 4).reshape(kv_heads * count, -1, size)
            scores = torch.bmm(q, keys.transpose(1, 2))
            by_tile = scores.view(kv_heads, count, self._group, *tiles.hidden.shape[2:])
            by_tile += tiles.hidden
            attended = _weighted(scores.softmax(dim=-1), values).view(kv_heads, count, self._group, -1, size)
            outputs.append(attended.permute(1, 3, 0, 2, 4).reshape(-1, heads * size))
        return torch.cat(outputs).index_select(0, inputs.order) if len(outputs) > 1 else outputs[0][inputs.order]

    def _inputs(self, chunks: Sequence[Chunk]) -> Inputs:
        token_ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        sampled: list[int] = []
        tiles: dict[tuple[int, int], list[Tile]] = {}
        for chunk in chunks:
            first, count = len(token_ids), len(chunk.token_ids)
            token_ids += chunk.token_ids
            span = range(chunk.start, chunk.start + count)
            positions += span
            slots += [chunk.blocks[at // BLOCK_TOKENS] * BLOCK_TOKENS + at % BLOCK_TOKENS for at in span]
            if chunk.samples:
                sampled.append(len(token_ids) - 1)
            for begin in range(0, count, self._tile_rows[-1]):
                rows = min(count - begin, self._tile_rows[-1])
                tile = Tile(chunk.blocks, first + begin, rows, chunk.start + begin)
                size = next(size for size in self._tile_rows if size >= rows)
                # Those whose reach differs by less than a factor of 2 go together.
                tiles.setdefault((size, tile.reach.bit_length()), []).append(tile)
        fill = -len(token_ids) % ROWS
        order = [0] * (len(token_ids) + fill)
        groups = [part for (size, _), group in tiles.items() for part in self._split(size, group)]
        done = 0
        for size, group in groups:
            for tile in group:
                order[tile.first : tile.first + tile.rows] = range(done, done + tile.rows)
                done += size
        where = self._tensor(positions + [0] * fill)
        return Inputs(
            token_ids=self._tensor(token_ids + [0] * fill),
            slots=self._tensor(slots + [self._blocks * BLOCK_TOKENS] * fill),
            cos=self._cos[where],
            sin=self._sin[where],
            tiles=tuple(self._tiles(size, group) for size, group in groups),
            order=self._tensor(order),
            sampled=self._tensor(sampled + sampled[-1:] * (-len(sampled) % ROWS)),
        )

    def _split(self, size: int, group: Sequence[Tile]) -> list[tuple[int, Sequence[Tile]]]:
        """Parts of a group of tiles of `size` rows whose scores fit the memory that they may take."""
        scores = size * max(tile.reach for tile in group) * BLOCK_TOKENS * self._config.num_attention_heads
        most = max(1, MAX_SCORES // scores)
        return [(size, group[begin : begin + most]) for begin in range(0, len(group), most)]

    def _tiles(self, size: int, group: Sequence[Tile]) -> Tiles:
        reach = max(tile.reach for tile in group)
        rows: list[int] = []
        blocks: list[int] = []
        for tile in group:
            # Rows that fill up are the last one once more.
            rows += range(tile.first, tile.first + tile.rows)
            rows += [tile.first + tile.rows - 1] * (size - tile.rows)
            blocks += tile.blocks[: tile.reach]
            blocks += [self._blocks] * (reach - tile.reach)
        starts = self._tensor([tile.start for tile in group])
        queries = (starts[:, None] + torch.arange(size, device=self._device))[:, None, :, None]
        keys = torch.arange(reach * BLOCK_TOKENS, device=self._device)
        is_hidden = keys > queries
        if self._config.sliding_window is not None:
            is_hidden |= keys <= queries - self._config.sliding_window
        hidden = torch.zeros(is_hidden.shape, device=self._device).masked_fill_(is_hidden, -torch.inf)
        return Tiles(len(group), self._tensor(rows), self._tensor(blocks), hidden)

    def _tensor(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self._device)


def _weighted(shares: Tensor, values: Tensor) -> Tensor:
    """`shares` [n, rows, positions] @ `values` [n, positions, head size], added up in one order at any length."""
    total = torch.bmm(shares[:, :, :KEYS], values[:, :KEYS])
    for begin in range(KEYS, shares.shape[2], KEYS):
        total += torch.bmm(shares[:, :, begin : begin + KEYS], values[:, begin : begin + KEYS])
    return total


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x @ weight if bias is None else x @ weight + bias
