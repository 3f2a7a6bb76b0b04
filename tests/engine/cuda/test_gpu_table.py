"""The benchmark for GPUs: its floor is the published one, and it runs from end to end on a tiny shape."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from tests.bench.gpu_table import QWEN3_8B, Plan, floor_bytes, table
from tests.engine.conftest import TINY

TINY_PLAN = Plan(
    config=replace(TINY, qk_norm=True, tie_word_embeddings=False),
    device=torch.device("cpu"),
    dtype=torch.float32,
    batches=(1, 3),
    context=24,
    steps=4,
    prefix=144,
    threads=3,
    thread_tokens=3,
    prompt_chunk=64,
)


@pytest.mark.parametrize(("batch", "ms"), [(1, 3.54), (32, 4.22), (256, 9.14)])
def test_the_floor_of_qwen3_8b_at_4_3_terabytes_a_second(batch: int, ms: float) -> None:
    assert 1e3 * floor_bytes(QWEN3_8B, torch.bfloat16, [640] * batch) / 4.3e12 == pytest.approx(ms, abs=0.02)


def test_a_shared_prefix_counts_once() -> None:
    apart = floor_bytes(TINY, torch.float32, [100] * 4)
    assert apart - floor_bytes(TINY, torch.float32, [100] * 4, shared=60) == 3 * 60 * 2 * 2 * 2 * 8 * 4


def test_the_table_of_a_tiny_shape() -> None:
    lines = table(replace(TINY_PLAN, bandwidth=1e9, has_transformers=False))
    assert [line.split(":")[0].strip() for line in lines[2:4]] == ["batch   1", "batch   3"]
    assert all("not run" in line for line in lines[2:4])
    assert "prefix 144, 3 threads of 3" in lines[4]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    ran = subprocess.run([sys.executable, "-m", "tests.bench.gpu_table"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "no GPU" in ran.stderr
