"""What stands between the products of a layer, one Triton kernel each: at batch 1 a step is bound by their number.

Arithmetic is in float32, rounded where torch would round: a product of two bfloat16 is the same either way, and
Triton's interpreter has no other.
"""

import triton
import triton.language as tl


@triton.jit
def store_normed(
    wide,  # float32 [WIDTH]: a row, and 0 behind its end
    weight,  # [SIZE]
    target,  # where the row begins that is written
    column,  # [WIDTH]
    eps,
    SIZE: tl.constexpr,
):
    """The row, normed."""
    is_there = column < SIZE
    normed = wide * tl.rsqrt(tl.sum(wide * wide, 0) / SIZE + eps)
    scale = tl.load(weight + column, mask=is_there, other=0.0).to(tl.float32)
    kind = target.dtype.element_ty
    tl.store(target + column, (normed.to(kind).to(tl.float32) * scale).to(kind), mask=is_there)


@triton.jit
def rms_norm(
    x,  # [rows, SIZE]
    weight,  # [SIZE]
    out,  # [rows, SIZE]
    eps,
    SIZE: tl.constexpr,
    WIDTH: tl.constexpr,  # SIZE up to a power of two
):
    """One program a row."""
    at = tl.program_id(0).to(tl.int64) * SIZE
    column = tl.arange(0, WIDTH)
    is_there = column < SIZE
    wide = tl.load(x + at + column, mask=is_there, other=0.0).to(tl.float32)
    store_normed(wide, weight, out + at, column, eps, SIZE)


@triton.jit
def add_and_norm(
    products,  # float32 [PARTS, rows, SIZE]
    x,  # [rows, SIZE]: the products are added to it
    weight,  # [SIZE]
    out,  # [rows, SIZE]: x, normed
    part_stride,
    eps,
    PARTS: tl.constexpr,
    SIZE: tl.constexpr,
    WIDTH: tl.constexpr,  # SIZE up to a power of two
):
    """The sum of what a split product left, of x, and the norm of both. One program a row."""
    at = tl.program_id(0).to(tl.int64) * SIZE
    column = tl.arange(0, WIDTH)
    is_there = column < SIZE
    total = tl.load(x + at + column, mask=is_there, other=0.0).to(tl.float32)
    for part in tl.static_range(PARTS):
        total += tl.load(products + part * part_stride + at + column, mask=is_there, other=0.0)
    kind = out.dtype.element_ty
    tl.store(x + at + column, total.to(kind), mask=is_there)
    store_normed(total.to(kind).to(tl.float32), weight, out + at, column, eps, SIZE)


@triton.jit
def silu_product(
    gate_up,  # [rows, 2 * SIZE]
    out,  # [rows, SIZE]
    SIZE: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """silu of the first half times the second. One program: a row, WIDTH columns."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    is_there = column < SIZE
    gate = tl.load(gate_up + row * 2 * SIZE + column, mask=is_there, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * SIZE + SIZE + column, mask=is_there, other=0.0).to(tl.float32)
    kind = out.dtype.element_ty
    silu = (gate / (1.0 + tl.exp(-gate))).to(kind).to(tl.float32)
    tl.store(out + row * SIZE + column, (silu * up).to(kind), mask=is_there)


@triton.jit
def turn_and_store(
    qkv,  # [rows, (HEADS + 2 * KV_HEADS) * 2 * HALF]
    cosines,  # float32 [positions, HALF]
    sines,
    q_norm,  # [2 * HALF], not read without HAS_NORM
    k_norm,
    records,  # int32 [rows, ...]: the second number is the position, the third where its keys and values go
    q,  # [rows, HEADS * 2 * HALF]
    keys,  # [blocks, KV_HEADS, BLOCK_TOKENS, 2 * HALF]
    values,
    record_stride,
    block_stride,
    head_stride,
    eps,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    WIDTH: tl.constexpr,  # HALF up to a power of two
    HAS_NORM: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
):
    """One program: a row, and one of its heads: queries, then keys, then values.

    Queries and keys are normed where the model does, turned, and put into `q` and `keys`; values go to `values`.
    """
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    pair = tl.arange(0, WIDTH)
    is_there = pair < HALF
    source = qkv + (row * (HEADS + 2 * KV_HEADS) + head) * 2 * HALF
    first = tl.load(source + pair, mask=is_there, other=0.0)
    second = tl.load(source + HALF + pair, mask=is_there, other=0.0)
    slot = tl.load(records + row * record_stride + 2).to(tl.int64)
    place = (slot // BLOCK_TOKENS) * block_stride + (slot % BLOCK_TOKENS) * 2 * HALF
    if head >= HEADS + KV_HEADS:
        target = values + place + (head - HEADS - KV_HEADS) * head_stride
        tl.store(target + pair, first, mask=is_there)
        tl.store(target + HALF + pair, second, mask=is_there)
    else:
        kind = qkv.dtype.element_ty
        a, b = first.to(tl.float32), second.to(tl.float32)
        if HAS_NORM:
            norm = q_norm
            if head >= HEADS:
                norm = k_norm
            shrunk = tl.rsqrt((tl.sum(a * a, 0) + tl.sum(b * b, 0)) / (2 * HALF) + eps)
            first_scale = tl.load(norm + pair, mask=is_there, other=0.0).to(tl.float32)
            second_scale = tl.load(norm + HALF + pair, mask=is_there, other=0.0).to(tl.float32)
            a = ((a * shrunk).to(kind).to(tl.float32) * first_scale).to(kind).to(tl.float32)
            b = ((b * shrunk).to(kind).to(tl.float32) * second_scale).to(kind).to(tl.float32)
        position = tl.load(records + row * record_stride + 1)
        cos = tl.load(cosines + position * HALF + pair, mask=is_there, other=0.0)
        sin = tl.load(sines + position * HALF + pair, mask=is_there, other=0.0)
        turned_first = (a * cos - b * sin).to(kind)
        turned_second = (b * cos + a * sin).to(kind)
        if head < HEADS:
            target = q + (row * HEADS + head) * 2 * HALF
            tl.store(target + pair, turned_first, mask=is_there)
            tl.store(target + HALF + pair, turned_second, mask=is_there)
        else:
            target = keys + place + (head - HEADS) * head_stride
            tl.store(target + pair, turned_first, mask=is_there)
            tl.store(target + HALF + pair, turned_second, mask=is_there)
