"""Which device and number format a worker computes with, and what it says where there is no such thing."""

import pytest
import torch

from asterism.orchestrator.core.errors import Misconfigured
from asterism.workers.engine.computer import KV_BYTES, default_blocks, find_computer, find_device, find_dtype
from asterism.workers.engine.step import BLOCK_TOKENS
from tests.engine.conftest import TINY, random_decoder

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@NO_GPU
@pytest.mark.parametrize("wanted", ["cpu", "auto"])
def test_without_a_gpu_it_is_the_cpu(wanted: str) -> None:
    assert find_device(wanted) == "cpu"


@NO_GPU
def test_a_gpu_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(Misconfigured, match="device: torch finds no NVIDIA GPU"):
        find_device("cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("wanted", ["cuda", "auto"])
def test_with_a_gpu_it_is_the_gpu(wanted: str) -> None:
    assert find_device(wanted) == "cuda"


def test_number_formats() -> None:
    assert find_dtype("auto", "cpu") == find_dtype("float32", "cpu") == torch.float32
    assert find_dtype("auto", "cuda") == find_dtype("bfloat16", "cuda") == torch.bfloat16
    assert find_dtype("float32", "cuda") == torch.float32
    assert find_dtype("int8", "cpu") == torch.float32, "quantised by the computer"
    with pytest.raises(Misconfigured, match="dtype: is bfloat16; on a CPU"):
        find_dtype("bfloat16", "cpu")


def test_int8_on_a_gpu_is_refused_by_name() -> None:
    with pytest.raises(Misconfigured, match="dtype: is int8, which this engine computes in on a CPU only"):
        find_dtype("int8", "cuda")
    with pytest.raises(Misconfigured, match="dtype: is int8, which this engine computes in on a CPU only"):
        find_computer("int8")(
            random_decoder(1), blocks=1, context_tokens=16, max_sequences=1, os_threads=1, device="cuda"
        )


def test_a_gpu_is_asked_for_all_that_sequences_may_need() -> None:
    block = 2 * TINY.num_hidden_layers * TINY.num_key_value_heads * TINY.head_dim * BLOCK_TOKENS * 4
    many = 2 * KV_BYTES // block
    assert default_blocks(TINY, max_sequences=many, context_tokens=BLOCK_TOKENS) == KV_BYTES // block
    assert default_blocks(TINY, max_sequences=many, context_tokens=BLOCK_TOKENS, device="cuda") == many
