"""The Triton kernels give what plain torch gives, and plain torch what attention is by its definition."""

import math
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from asterism.workers.engine.cuda.inputs import send
from asterism.workers.engine.cuda.operations import Operations, TorchOperations
from asterism.workers.engine.cuda.plan import Tiling, lay_out, padded_size
from asterism.workers.engine.cuda.weights import Projection, Weights
from asterism.workers.engine.rope import YarnScaling
from asterism.workers.engine.step import BLOCK_TOKENS, Chunk, Step
from tests.engine.conftest import random_decoder
from tests.engine.cuda.conftest import DEVICE
from tests.engine.cuda.steps import blocks_of, steps

SHAPES = [
    pytest.param(4, 2, 8, None, id="grouped"),
    pytest.param(7, 1, 16, None, id="a group of seven"),
    pytest.param(2, 2, 12, 37, id="no power of two, a window"),
]


def both(
    module: Any, decoder: Any, window: int | None, dtype: torch.dtype, **options: Any
) -> tuple[Operations, Operations]:
    weights = Weights.of(decoder, positions=512, device=DEVICE, dtype=dtype)
    config = decoder.config
    traits = {"kv_heads": config.num_key_value_heads, "head_dim": config.head_dim, "window": window, "eps": 1e-6}
    return module.TritonOperations(weights, **traits, **options), TorchOperations(weights, **traits)


def assert_close_in(dtype: torch.dtype, ours: Tensor, plain: Tensor) -> None:
    """A rounding or two of the last place apart."""
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(ours, plain, rtol=2 * eps, atol=4 * eps)


def naive(q: Tensor, kv: Tensor, step: Step, window: int | None) -> Tensor:
    """Attention row by row over the gathered keys and values."""
    heads, kv_heads, size = q.shape[1] // kv.shape[-1], kv.shape[2], kv.shape[-1]
    rows: list[Tensor] = []
    for chunk in step.chunks:
        gathered = kv[:, torch.tensor(list(chunk.blocks))].transpose(2, 3).reshape(2, -1, kv_heads, size).float()
        for offset in range(len(chunk.token_ids)):
            at = chunk.start + offset
            first = 0 if window is None else max(0, at + 1 - window)
            keys, values = (side.repeat_interleave(heads // kv_heads, dim=1)[first : at + 1] for side in gathered)
            query = q[len(rows)].float().view(heads, size)
            shares = torch.softmax(torch.einsum("hd,phd->hp", query, keys) / math.sqrt(size), dim=-1)
            rows.append(torch.einsum("hp,phd->hd", shares, values).flatten())
    return torch.stack(rows)


@pytest.mark.parametrize(("heads", "kv_heads", "size", "window"), SHAPES)
@settings(
    max_examples=4,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # interpreted kernels are slow, and shrinking runs hundreds
)
@given(data=st.data())
def test_attention_over_any_step(
    triton_operations: Any, heads: int, kv_heads: int, size: int, window: int | None, data: st.DataObject
) -> None:
    is_padded = data.draw(st.booleans())
    step = data.draw(steps(max_context=200, decodes_only=is_padded))
    decoder = random_decoder(1, num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=size)
    ours, plain = both(triton_operations, decoder, window, torch.float32)
    scratch = blocks_of(step)
    tiling = Tiling(kv_heads, heads // kv_heads, window, data.draw(st.sampled_from([1, 8, 64])))
    layout = lay_out(step, tiling, scratch=scratch, size=padded_size(len(step.chunks)) if is_padded else None)
    inputs = send(layout, DEVICE)
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(len(layout.records), heads * size, generator=generator).to(DEVICE)
    kv = torch.randn(2, scratch + 1, kv_heads, BLOCK_TOKENS, size, generator=generator).to(DEVICE)
    expected = plain.attend(q, kv, inputs)
    torch.testing.assert_close(ours.attend(q, kv, inputs), expected, rtol=1e-5, atol=1e-5)
    rows = sum(len(chunk.token_ids) for chunk in step.chunks)
    torch.testing.assert_close(expected[:rows].cpu(), naive(q.cpu(), kv.cpu(), step, window), rtol=1e-5, atol=1e-5)


# Triton's interpreter multiplies the bits of matrices of bfloat16, so those need the real thing.
@pytest.mark.parametrize("dtype", [torch.float16, pytest.param(torch.bfloat16, marks=pytest.mark.gpu)])
def test_attention_in_half_precision(triton_operations: Any, dtype: torch.dtype) -> None:
    tails = [range(9 + 3 * thread, 12 + 3 * thread) for thread in range(3)]
    forked = [Chunk([1], 180 + n, [*range(9), *tail], True, 9 * (n > 0)) for n, tail in enumerate(tails)]
    step = Step((), (*forked, Chunk([1] * 20, 30, [40, 41, 42, 43], True)))
    ours, plain = both(triton_operations, random_decoder(1), None, dtype)
    layout = lay_out(step, Tiling(2, 2, None, 8), scratch=50)
    assert [tile.end for tile in layout.large_tiles] == [50, 144]
    inputs = send(layout, DEVICE)
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(len(layout.records), 32, generator=generator).to(DEVICE, dtype)
    kv = torch.randn(2, 51, 2, BLOCK_TOKENS, 8, generator=generator).to(DEVICE, dtype)
    # The shares are rounded before they weigh the values: as everywhere that matrix units compute attention.
    assert_close_in(dtype, ours.attend(q, kv, inputs), plain.attend(q, kv, inputs))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "traits",
    [{}, {"qk_norm": True, "head_dim": 12}, {"rope_scaling": YarnScaling(4.0, 16, 2.0, 0.25, 1.3, True)}],
    ids=["plain", "normed", "yarn"],
)
def test_queries_and_keys_are_normed_turned_and_stored(
    triton_operations: Any, traits: dict[str, Any], dtype: torch.dtype
) -> None:
    decoder = random_decoder(2, **traits)
    config = decoder.config
    ours, plain = both(triton_operations, decoder, None, dtype)
    layer = Weights.of(decoder, positions=512, device=DEVICE, dtype=dtype).layers[0]
    step = Step((), (Chunk([1] * 20, 7, [4, 9], True), Chunk([2], 400, range(10, 36), True)))
    layout = lay_out(step, Tiling(2, 2, None, 4), scratch=99)
    inputs = send(layout, DEVICE)
    width = (config.num_attention_heads + 2 * config.num_key_value_heads) * config.head_dim
    qkv = torch.randn(len(layout.records), width, generator=torch.Generator().manual_seed(3)).to(DEVICE, dtype)
    stores = [
        torch.zeros(2, 100, config.num_key_value_heads, BLOCK_TOKENS, config.head_dim, dtype=dtype, device=DEVICE)
        for _ in range(2)
    ]
    queries = [operations.store(qkv, layer, kv, inputs) for operations, kv in zip((ours, plain), stores, strict=True)]
    assert_close_in(dtype, queries[0], queries[1])
    assert_close_in(dtype, stores[0], stores[1])
    assert int((stores[0] != 0).any(dim=-1).sum()) == 2 * config.num_key_value_heads * len(layout.records)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_operations_between_the_products(triton_operations: Any, dtype: torch.dtype) -> None:
    ours, plain = both(triton_operations, random_decoder(2), None, dtype)
    generator = torch.Generator().manual_seed(3)
    x, weight = torch.randn(5, 48, generator=generator).to(DEVICE, dtype), torch.randn(48, generator=generator)
    gate_up = torch.randn(5, 2 * 1500, generator=generator).to(DEVICE, dtype)
    weight = weight.to(DEVICE, dtype)
    assert_close_in(dtype, ours.norm(x, weight), plain.norm(x, weight))
    assert_close_in(dtype, ours.gate(gate_up), plain.gate(gate_up))
    assert_close_in(dtype, plain.gate(gate_up), F.silu(gate_up[:, :1500]) * gate_up[:, 1500:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_a_product_in_parts_is_added_and_normed(triton_operations: Any, parts: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(DEVICE, dtype)

    ours, plain = both(triton_operations, random_decoder(2), None, dtype, product_parts=parts)
    y, weight, bias, norm = drawn(5, 64), drawn(48, 64) / 8, drawn(48), drawn(48)
    x = drawn(5, 48)
    for projection in (Projection(weight, None), Projection(weight, bias)):
        mine, theirs = x.clone(), x.clone()
        assert_close_in(
            dtype, ours.add_product(mine, y, projection, norm), plain.add_product(theirs, y, projection, norm)
        )
        assert_close_in(dtype, mine, theirs)
    many = triton_operations.MAX_SPLIT_ROWS + 1
    mine, theirs = drawn(many, 48).repeat(2, 1, 1)
    y = drawn(many, 64)
    projection = Projection(weight, None)
    assert_close_in(dtype, ours.add_product(mine, y, projection, norm), plain.add_product(theirs, y, projection, norm))


@pytest.mark.parametrize(
    ("columns", "depth", "processors", "parts"),
    [
        pytest.param(4096, 12_288, 132, 2, id="an H200 and Qwen3-8B"),
        pytest.param(4096, 4096, 132, 2, id="and what is behind attention"),
        pytest.param(1024, 12_288, 132, 8, id="few columns"),
        pytest.param(1024, 3072, 132, 2, id="short"),
        pytest.param(1000, 2049, 132, 1, id="odd"),
        pytest.param(24_576, 4096, 132, 1, id="enough columns"),
        pytest.param(16, 65_536, 1, 1, id="nothing to spare"),
    ],
)
def test_a_product_is_split_where_it_leaves_processors_idle(
    triton_operations: Any, columns: int, depth: int, processors: int, parts: int
) -> None:
    assert triton_operations.product_parts(columns, depth, processors) == parts
