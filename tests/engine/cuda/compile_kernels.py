"""Compiles the kernels for an H100 or H200 (sm_90), which needs no GPU: `python -m tests.engine.cuda.compile_kernels`.

Shapes of Qwen3-8B. Prints a line for each: its name, bytes of shared memory, registers of a thread, and bytes that a
thread spills. Alignments are declared as Triton finds them when it is launched.
"""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from asterism.workers.engine.cuda import kernels, pointwise
from asterism.workers.engine.cuda.plan import LARGE_QUERIES, TILE_TOKENS

TARGET: Final = GPUTarget("cuda", 90, 32)
BF16, F32, I32 = "*bf16", "*fp32", "*i32"

ATTEND: Final = {
    **{"q": BF16, "keys": BF16, "values": BF16, "tables": I32, "tiles": I32, "limits": I32, "sums": F32},
    **dict.fromkeys(("q_stride", "table_stride", "tile_stride", "limit_stride"), "i32"),
    **dict.fromkeys(("block_stride", "head_stride", "slots"), "i32"),
    "scale": "fp32",
}
ATTEND_SIZES: Final = {
    **{"HEADS": 32, "GROUP": 4, "HEAD_DIM": 128, "DIM": 128},
    **{"TILE_TOKENS": TILE_TOKENS, "BLOCK_TOKENS": 16},
}
MERGE: Final = {
    **{"results": F32, "sums": F32, "parts": I32, "out": BF16},
    **dict.fromkeys(("parts_stride", "slots", "own_slots"), "i32"),
}
TURN: Final = {
    **{"qkv": BF16, "cosines": F32, "sines": F32, "q_norm": BF16, "k_norm": BF16, "records": I32},
    **{"q": BF16, "keys": BF16, "values": BF16, "eps": "fp32"},
    **dict.fromkeys(("record_stride", "block_stride", "head_stride"), "i32"),
}
UNALIGNED: Final = {"tiles", "limits", "parts", "records"}
ALIGNED_SIZES: Final = {"q_stride", "block_stride", "head_stride", "columns", "depth"}


def compiled(kernel: Any, types: Mapping[str, str], sizes: Mapping[str, object], warps: int, stages: int = 3) -> str:
    names: list[str] = kernel.arg_names
    aligned = {name for name, kind in types.items() if kind.startswith("*")} - UNALIGNED | (ALIGNED_SIZES & set(types))
    source = ASTSource(
        fn=kernel,
        signature={name: types.get(name, "constexpr") for name in names},
        constexprs={(names.index(name),): value for name, value in sizes.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    built = triton.compile(source, target=TARGET, options={"num_warps": warps, "num_stages": stages})
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(built.asm["cubin"])
        file.flush()
        tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        usage = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = re.findall(r"REG:(\d+) STACK:(\d+)", usage)[-1]
    return f"{kernel.__name__} shared {built.metadata.shared} registers {registers} spilled {stack}"


def main() -> None:
    for results, queries, warps, looks_ahead, sees_all, window in (
        (F32, 16, 4, False, True, 0),
        (BF16, 16, 4, False, True, 0),
        (F32, 16, 4, False, False, 0),
        (F32, 16, 4, False, False, 4096),
        (F32, LARGE_QUERIES, 8, True, True, 0),
        (F32, LARGE_QUERIES, 8, True, False, 0),
        (BF16, LARGE_QUERIES, 8, True, False, 0),
        (F32, LARGE_QUERIES, 8, True, False, 4096),
    ):
        sizes = {**ATTEND_SIZES, "QUERIES": queries, "WINDOW": window, "LOOKS_AHEAD": looks_ahead, "SEES_ALL": sees_all}
        print(compiled(kernels.attend_tiles, {**ATTEND, "results": results}, sizes, warps))
    print(compiled(kernels.merge_parts, MERGE, {"HEADS": 32, "HEAD_DIM": 128, "DIM": 128, "PARTS": 16}, 4))
    norm = {"x": BF16, "weight": BF16, "out": BF16, "eps": "fp32"}
    print(compiled(pointwise.rms_norm, norm, {"SIZE": 4096, "WIDTH": 4096}, 8))
    add = {**norm, "products": F32, "part_stride": "i32"}
    print(compiled(pointwise.add_and_norm, add, {"SIZE": 4096, "WIDTH": 4096, "PARTS": 2}, 8))
    print(compiled(pointwise.silu_product, {"gate_up": BF16, "out": BF16}, {"SIZE": 12288, "WIDTH": 1024}, 4))
    heads = {"HEADS": 32, "KV_HEADS": 8, "HALF": 64, "WIDTH": 64, "BLOCK_TOKENS": 16}
    for has_norm in (True, False):
        print(compiled(pointwise.turn_and_store, TURN, {**heads, "HAS_NORM": has_norm}, 1))


if __name__ == "__main__":
    main()
