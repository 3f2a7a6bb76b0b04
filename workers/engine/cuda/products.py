"""Products of few rows with a weight as Triton kernels: bound by reading the weight, so all else rides along.

The norm before a product, the gate behind it and the residual sum cost nothing of their own here. At batch 1 a step is
bound by the number of its kernels as much as by memory.
"""

import triton
import triton.language as tl


@triton.jit
def one_row_product(
    x,  # [depth]
    weight,  # [columns, depth], of a gated product [2 * columns, depth]
    norm,  # [depth], not read without NORMS
    out,  # [columns]
    columns,
    depth,
    eps,
    NORMS: tl.constexpr,  # x is normed (RMSNorm) first
    GATES: tl.constexpr,  # silu of the first half of the product times the second
    ADDS: tl.constexpr,  # to what is in `out`
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """One program: COLUMNS columns. Sums are kept apart until the end, so that nothing waits inside the loop."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    is_column = column < columns
    lines = weight + column.to(tl.int64)[:, None] * depth
    upper = lines + columns.to(tl.int64) * depth
    sums = tl.zeros([COLUMNS, DEPTH], tl.float32)
    upper_sums = tl.zeros([COLUMNS, DEPTH], tl.float32)
    squares = tl.zeros([DEPTH], tl.float32)
    for start in range(0, depth, DEPTH):
        at = start + tl.arange(0, DEPTH)
        is_there = at < depth
        mask = is_column[:, None] & is_there[None, :]
        values = tl.load(x + at, mask=is_there, other=0.0).to(tl.float32)
        if NORMS:
            squares += values * values
            values = values * tl.load(norm + at, mask=is_there, other=0.0).to(tl.float32)
        sums += tl.load(lines + at[None, :], mask=mask, other=0.0).to(tl.float32) * values[None, :]
        if GATES:
            upper_sums += tl.load(upper + at[None, :], mask=mask, other=0.0).to(tl.float32) * values[None, :]
    product = tl.sum(sums, 1)
    shrunk = tl.rsqrt(tl.sum(squares, 0) / depth + eps)
    if NORMS:
        product = product * shrunk
    if GATES:
        factor = tl.sum(upper_sums, 1)
        if NORMS:
            factor = factor * shrunk
        product = product / (1.0 + tl.exp(-product)) * factor
    if ADDS:
        product = product + tl.load(out + column, mask=is_column, other=0.0).to(tl.float32)
    tl.store(out + column, product.to(out.dtype.element_ty), mask=is_column)


@triton.jit
def few_rows_product(
    x,  # [rows, depth]
    weight,  # [columns, depth], of a gated product [2 * columns, depth]
    norm,  # [depth], not read without NORMS
    out,  # [rows, columns]
    rows,
    columns,
    depth,
    eps,
    NORMS: tl.constexpr,
    GATES: tl.constexpr,
    ADDS: tl.constexpr,
    ROWS: tl.constexpr,  # at least `rows`, a power of two
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """The same for up to ROWS rows, by matrix units. One program: all rows, COLUMNS columns."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    is_column = column < columns
    row = tl.arange(0, ROWS)
    is_row = row < rows
    lines = weight + column.to(tl.int64)[:, None] * depth
    upper = lines + columns.to(tl.int64) * depth
    sums = tl.zeros([COLUMNS, ROWS], tl.float32)
    upper_sums = tl.zeros([COLUMNS, ROWS], tl.float32)
    squares = tl.zeros([ROWS], tl.float32)
    for start in range(0, depth, DEPTH):
        at = start + tl.arange(0, DEPTH)
        is_there = at < depth
        mask = is_column[:, None] & is_there[None, :]
        values = tl.load(x + row[:, None] * depth + at[None, :], mask=is_row[:, None] & is_there[None, :], other=0.0)
        if NORMS:
            wide = values.to(tl.float32)
            squares += tl.sum(wide * wide, 1)
            scale = tl.load(norm + at, mask=is_there, other=0.0).to(tl.float32)
            values = (wide * scale[None, :]).to(weight.dtype.element_ty)
        turned = tl.trans(values)
        sums += tl.dot(tl.load(lines + at[None, :], mask=mask, other=0.0), turned, input_precision="ieee")
        if GATES:
            upper_sums += tl.dot(tl.load(upper + at[None, :], mask=mask, other=0.0), turned, input_precision="ieee")
    product = sums
    shrunk = tl.rsqrt(squares / depth + eps)
    if NORMS:
        product = product * shrunk[None, :]
    if GATES:
        factor = upper_sums
        if NORMS:
            factor = factor * shrunk[None, :]
        product = product / (1.0 + tl.exp(-product)) * factor
    place = out + row[None, :] * columns + column[:, None]
    mask = is_column[:, None] & is_row[None, :]
    if ADDS:
        product = product + tl.load(place, mask=mask, other=0.0).to(tl.float32)
    tl.store(place, product.to(out.dtype.element_ty), mask=mask)
