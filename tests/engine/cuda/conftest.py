"""Triton's kernels: compiled where there is a GPU, else interpreted on the CPU."""

import importlib
import os
from typing import Any

import pytest
import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

if DEVICE.type == "cpu":
    # Read when Triton is first imported, by whomever: so not in a fixture.
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session")
def triton_operations() -> Any:
    """The module of `TritonOperations`."""
    pytest.importorskip("triton")
    return importlib.import_module("asterism.workers.engine.cuda.triton_operations")
