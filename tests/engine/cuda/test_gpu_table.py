"""The benchmark for GPUs: its floor is the published one, and it runs from end to end on a tiny shape."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.bench.gpu_engine import QWEN3_8B, Plan
from tests.bench.gpu_table import floor_bytes, table
from tests.bench.gpu_transformers import Ask, measure
from tests.engine.conftest import TINY
from tests.engine.cuda.conftest import DEVICE

TINY_PLAN = Plan(
    config=replace(TINY, qk_norm=True, tie_word_embeddings=False),
    device=DEVICE,
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
    lines = list(table(replace(TINY_PLAN, bandwidth=1e9, transformers_s=0)))
    assert [line.split(":")[0].strip() for line in lines[2:4]] == ["batch   1", "batch   3"]
    assert "prefix 144, 3 threads of 3" in lines[4]
    assert lines[5].startswith("all of it took")


def test_transformers_that_comes_too_late_is_a_line_of_the_table() -> None:
    lines = list(table(replace(TINY_PLAN, bandwidth=1e9, transformers_s=0.01)))
    assert lines[-2].strip() == "batch 1, 3: not measured: its 0.01 s were up"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_transformers_that_fails_is_a_line_of_the_table() -> None:
    # Prompts of no tokens, which it has no use for.
    plan = replace(TINY_PLAN, bandwidth=1e9, batches=(1,), context=2, transformers_s=150)
    lines = list(table(plan))
    assert lines[-2].strip().startswith("batch 1: not measured: ")
    assert "were up" not in lines[-2]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_transformers_is_measured() -> None:
    ask = Ask.of(TINY_PLAN.config, dtype="float32", device="cpu", batches=(1, 3), context=24, steps=8)
    found = dict(measure(ask))
    assert found.keys() == {1, 3}
    assert all(ms > 0 for ms in found.values())


def test_the_profile_of_a_tiny_shape(triton_operations: Any) -> None:
    lines = list(table(replace(TINY_PLAN, bandwidth=1e9, transformers_s=0), profile=True))
    text = "\n".join(lines)
    assert "batch 3: layout" in text
    assert "  1 rows: " in text
    assert "Error" not in text
    fork = next(number for number, line in enumerate(lines) if line.startswith("attention of the fork"))
    assert all(float(us) > 0 for us in lines[fork + 1].rpartition(": ")[2].split(" | "))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    ran = subprocess.run([sys.executable, "-m", "tests.bench.gpu_table"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "no GPU" in ran.stderr
