"""Attention over paged keys and values as Triton kernels; `plan.py` says what a tile, a part and a slot are.

Scores are in float32 and in powers of two; sums are kept as their logarithms to base 2.
"""

import triton
import triton.language as tl


@triton.jit
def with_scores(
    top,  # [queries]: the highest score so far, scaled
    total,  # [queries]: sum of the shares so far, of which the highest is 1
    scores,  # [queries, positions]: of one more tile; -inf where a query must not look
    scale,  # by which scores are still to be multiplied
    SEES_ALL: tl.constexpr,
):
    """Top and total with the tile in them, what values seen before shrink by, and shares of the tile's values."""
    new_top = tl.maximum(top, tl.max(scores, 1) * scale)
    base = new_top
    if not SEES_ALL:
        # A query that has seen nothing yet: its -inf must not meet another one.
        base = tl.where(new_top == float("-inf"), 0.0, new_top)
    shares = tl.exp2(scores * scale - base[:, None])
    shrunk = tl.exp2(top - base)
    return new_top, total * shrunk + tl.sum(shares, 1), shrunk[:, None], shares


@triton.jit
def whole_tile(source, at, dim, HEAD_DIM: tl.constexpr):
    """Keys or values [positions, dim] of positions that are all there."""
    place = source + at[:, None] + dim[None, :]
    if dim.shape[0] == HEAD_DIM:
        return tl.load(place)
    return tl.load(place, mask=(dim < HEAD_DIM)[None, :], other=0.0)


# Sizes that differ from step to step: a kernel for each kind of them would be compiled in the middle of an answer.
@triton.jit(do_not_specialize=["table_stride", "tile_stride", "slots"])
def attend_tiles(
    q,  # [rows, heads * HEAD_DIM], contiguous in a row
    keys,  # [blocks, kv_heads, BLOCK_TOKENS, HEAD_DIM]
    values,  # the same
    tables,  # int32 [chunks, at least blocks of a chunk]
    tiles,  # int32 [tiles, 7]
    limits,  # int32 [rows]: positions that a row may see
    results,  # [rows, SLOTS, HEADS, HEAD_DIM]
    sums,  # float32 [rows, SLOTS, HEADS]
    q_stride,
    table_stride,
    tile_stride,
    limit_stride,
    block_stride,
    head_stride,
    slots,
    scale,  # of a score, with log2(e) in it
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    DIM: tl.constexpr,  # HEAD_DIM up to a power of two
    WINDOW: tl.constexpr,  # 0: none
    QUERIES: tl.constexpr,  # of a tile, a power of two
    TILE_TOKENS: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    LOOKS_AHEAD: tl.constexpr,  # block numbers are read a turn before the keys and values that they lead to
    SEES_ALL: tl.constexpr,  # each row sees every position of its tile
):
    """One program: one tile, one KV head, one part."""
    tile = tiles + tl.program_id(0) * tile_stride
    kv_head = tl.program_id(1)
    part = tl.program_id(2)
    first_row = tl.load(tile)
    rows = tl.load(tile + 1)
    table = tables + tl.load(tile + 2) * table_stride
    end = tl.load(tile + 4)
    split_tokens = tl.load(tile + 5)
    begin = tl.load(tile + 3) + part * split_tokens
    slot = tl.load(tile + 6) + part
    if (rows == 0) | (begin >= end):
        return
    end = tl.minimum(end, begin + split_tokens)

    query = tl.arange(0, QUERIES)
    is_query = query < rows * GROUP
    row = first_row + query // GROUP
    head = kv_head * GROUP + query % GROUP
    dim = tl.arange(0, DIM)
    is_dim = dim < HEAD_DIM
    q_at = row.to(tl.int64) * q_stride + head * HEAD_DIM
    q_tile = tl.load(q + q_at[:, None] + dim[None, :], mask=is_query[:, None] & is_dim[None, :], other=0.0)
    limit = tl.load(limits + row * limit_stride, mask=is_query, other=0)

    top = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    mixed = tl.zeros([QUERIES, DIM], tl.float32)
    if LOOKS_AHEAD and SEES_ALL:
        # Whole tiles by themselves: masks, and what they cost, are for the last. A load whose address another load of
        # its turn gives is never under way in the turn before, so a tile's block numbers are read in the one ahead.
        whole = begin + (end - begin) // TILE_TOKENS * TILE_TOKENS
        position = begin + tl.arange(0, TILE_TOKENS)
        block = tl.load(table + position // BLOCK_TOKENS, mask=position < end, other=0)
        for start in range(begin, whole, TILE_TOKENS):
            position = start + tl.arange(0, TILE_TOKENS)
            at = block.to(tl.int64) * block_stride + kv_head * head_stride + (position % BLOCK_TOKENS) * HEAD_DIM
            after = position + TILE_TOKENS
            block = tl.load(table + after // BLOCK_TOKENS, mask=after < end, other=0)
            k = whole_tile(keys, at, dim, HEAD_DIM)
            scores = tl.dot(q_tile, tl.trans(k), input_precision="ieee")
            top, total, shrunk, shares = with_scores(top, total, scores, scale, SEES_ALL)
            v = whole_tile(values, at, dim, HEAD_DIM)
            mixed = tl.dot(shares.to(v.dtype), v, mixed * shrunk, input_precision="ieee")
        if whole < end:
            position = whole + tl.arange(0, TILE_TOKENS)
            is_there = position < end
            at = block.to(tl.int64) * block_stride + kv_head * head_stride + (position % BLOCK_TOKENS) * HEAD_DIM
            mask = is_there[:, None] & is_dim[None, :]
            k = tl.load(keys + at[:, None] + dim[None, :], mask=mask, other=0.0)
            scores = tl.dot(q_tile, tl.trans(k), input_precision="ieee")
            scores = tl.where(is_there[None, :], scores, float("-inf"))
            top, total, shrunk, shares = with_scores(top, total, scores, scale, SEES_ALL)
            v = tl.load(values + at[:, None] + dim[None, :], mask=mask, other=0.0)
            mixed = tl.dot(shares.to(v.dtype), v, mixed * shrunk, input_precision="ieee")
    else:
        # On an H200, at a batch of 256, the form above took tiles of few queries 190 us a layer, and this one 176.
        if LOOKS_AHEAD:
            position = begin + tl.arange(0, TILE_TOKENS)
            block = tl.load(table + position // BLOCK_TOKENS, mask=position < end, other=0)
        for start in range(begin, end, TILE_TOKENS):
            position = start + tl.arange(0, TILE_TOKENS)
            is_there = position < end
            if not LOOKS_AHEAD:
                block = tl.load(table + position // BLOCK_TOKENS, mask=is_there, other=0)
            at = block.to(tl.int64) * block_stride + kv_head * head_stride + (position % BLOCK_TOKENS) * HEAD_DIM
            if LOOKS_AHEAD:
                after = position + TILE_TOKENS
                block = tl.load(table + after // BLOCK_TOKENS, mask=after < end, other=0)
            mask = is_there[:, None] & is_dim[None, :]
            k = tl.load(keys + at[:, None] + dim[None, :], mask=mask, other=0.0)
            is_seen = is_there[None, :]
            if not SEES_ALL:
                is_seen = is_seen & (position[None, :] < limit[:, None])
                if WINDOW > 0:
                    is_seen = is_seen & (position[None, :] + WINDOW >= limit[:, None])
            scores = tl.dot(q_tile, tl.trans(k), input_precision="ieee") * scale
            scores = tl.where(is_seen, scores, float("-inf"))
            top, total, shrunk, shares = with_scores(top, total, scores, 1.0, SEES_ALL)
            v = tl.load(values + at[:, None] + dim[None, :], mask=mask, other=0.0)
            mixed = mixed * shrunk + tl.dot(shares.to(v.dtype), v, input_precision="ieee")

    has_seen = total > 0.0
    mixed = mixed / tl.where(has_seen, total, 1.0)[:, None]
    place = (row.to(tl.int64) * slots + slot) * HEADS + head
    tl.store(
        results + place[:, None] * HEAD_DIM + dim[None, :],
        mixed.to(results.dtype.element_ty),
        mask=is_query[:, None] & is_dim[None, :],
    )
    tl.store(
        sums + place, tl.where(has_seen, top + tl.log2(tl.where(has_seen, total, 1.0)), float("-inf")), mask=is_query
    )


@triton.jit(do_not_specialize=["slots", "own_slots"])
def merge_parts(
    results,  # float32 [rows, slots, HEADS, HEAD_DIM]
    sums,  # float32 [rows, slots, HEADS]
    parts,  # int32 [rows, 2]: how many own and how many shared parts a row has
    out,  # [rows, HEADS, HEAD_DIM]
    parts_stride,
    slots,
    own_slots,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    DIM: tl.constexpr,
    PARTS: tl.constexpr,  # a power of two
):
    """One program: one row, one head. Parts weigh by their sums; those of shared stretches stand behind `own_slots`."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    own = tl.load(parts + row * parts_stride)
    shared = tl.load(parts + row * parts_stride + 1)
    dim = tl.arange(0, DIM)
    is_dim = dim < HEAD_DIM
    top = tl.full([1], float("-inf"), tl.float32)
    total = tl.zeros([1], tl.float32)
    mixed = tl.zeros([DIM], tl.float32)
    # Several at a time, so that their loads are under way together.
    for start in range(0, own + shared, PARTS):
        part = start + tl.arange(0, PARTS)
        is_part = part < own + shared
        slot = part + (own_slots - own) * (part >= own).to(tl.int32)
        place = (row * slots + slot) * HEADS + head
        part_sums = tl.load(sums + place, mask=is_part, other=float("-inf"))
        part_results = tl.load(
            results + place[:, None] * HEAD_DIM + dim[None, :], mask=is_part[:, None] & is_dim[None, :], other=0.0
        )
        new_top = tl.maximum(top, tl.max(part_sums, 0))
        base = tl.where(new_top == float("-inf"), 0.0, new_top)
        shrunk = tl.exp2(top - base)
        weight = tl.exp2(part_sums - base)
        total = total * shrunk + tl.sum(weight, 0)
        mixed = mixed * shrunk + tl.sum(weight[:, None] * part_results, 0)
        top = new_top
    mixed = mixed / tl.where(total > 0.0, total, 1.0)
    tl.store(out + (row * HEADS + head) * HEAD_DIM + dim, mixed.to(out.dtype.element_ty), mask=is_dim)
