"""The benchmark of reasoning threads runs from end to end, here on the CPU, and says how to mend a wrong device."""

import subprocess
import sys

import pytest
import torch

from asterism.workers.engine.folder import load_folder
from asterism.workers.engine.torch_engine import TorchEngine
from asterism.workers.training.boards import HELD_BACK, read_boards
from asterism.workers.training.evaluate import SHIPPED
from tests.bench.gpu_threads import ROWS, gains, steps


async def test_threads_and_one_text_on_held_back_boards() -> None:
    engine = TorchEngine(load_folder(SHIPPED), max_sequences=32, context_tokens=640)
    await engine.start()
    try:
        lines = await gains(engine, read_boards(HELD_BACK)[:400:80])
    finally:
        await engine.close()
    assert lines[0].startswith("5 boards: one text solves ")
    assert "threads 5" in lines[0]
    assert lines[-1].startswith("gain ")


def test_a_line_for_each_number_of_rows() -> None:
    assert len(list(steps(load_folder(SHIPPED), "cpu"))) == len(ROWS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_to_take() -> None:
    ran = subprocess.run([sys.executable, "-m", "tests.bench.gpu_threads"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "device" in ran.stderr
    assert "take cpu" in ran.stderr
