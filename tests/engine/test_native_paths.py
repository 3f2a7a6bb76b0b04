"""The compiled code for each set of instructions gives the same bits, and neither leaves its memory nor races."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from asterism.workers.engine.errors import NativeUnavailable
from asterism.workers.engine.native.build import FLAGS, build
from asterism.workers.engine.step import Step
from tests.engine.conftest import random_decoder
from tests.engine.natively import FOLDER, WEIGHTS, Memory, Sequence, Weights, built, computer

PROGRAM = Path(__file__).parent / "native_sanitized.py"


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("flags", [["NO_VNNI"], ["NO_AVX512"], ["PORTABLE"]], ids=lambda flags: flags[0])
def test_other_instructions_give_the_same_bits(flags: list[str], weights: Weights) -> None:
    decoder = random_decoder(41, hidden_size=100, intermediate_size=130, head_dim=20, qk_norm=True)
    other = built(*(f"-DASTERISM_{flag}" for flag in flags))
    best, plain = computer(decoder, weights), computer(decoder, weights, built=other, os_threads=2)
    memory, draws = Memory(64), random.Random(1)
    sequences = [Sequence(memory) for _ in range(7)]
    for rows in (30, 1, 1):
        step = Step((), tuple(each.chunk(draws.choices(range(38), k=rows + n)) for n, each in enumerate(sequences)))
        assert torch.equal(best.compute(step), plain.compute(step))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("sanitizer", "runtime"), [("address,undefined", "libasan.so"), ("thread", "libtsan.so")], ids=["memory", "races"]
)
@pytest.mark.parametrize("path", ["", "PORTABLE"], ids=["best", "portable"])
def test_sanitizers_find_nothing(sanitizer: str, runtime: str, path: str) -> None:
    compiler = os.environ.get("CC") or "cc"
    flags = ["-O1" if flag == "-O3" else flag for flag in FLAGS] + ["-g1", f"-fsanitize={sanitizer}"]
    flags += ["-fno-sanitize-recover=all"] + ([f"-DASTERISM_{path}"] if path else [])
    try:
        library = build(flags, folder=FOLDER)
    except NativeUnavailable as error:
        pytest.skip(error.message)
    printed = subprocess.run([compiler, f"-print-file-name={runtime}"], check=True, capture_output=True, text=True)
    preload = printed.stdout.strip()
    if not Path(preload).is_absolute():
        pytest.skip(f"the compiler has no {runtime}")
    # What Python itself leaves behind at its end is not our business.
    options = {"ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "ignore_noninstrumented_modules=1:exitcode=66"}
    environment = {**os.environ, **options, "LD_PRELOAD": preload, "OPENBLAS_NUM_THREADS": "1"}

    ended = subprocess.run(
        [sys.executable, str(PROGRAM), str(library)], env=environment, check=False, capture_output=True, text=True
    )

    assert (ended.returncode, ended.stdout) == (0, "ended\n"), ended.stderr[-4000:]
