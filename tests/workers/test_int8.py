"""A worker that is told `dtype int8`: its engine answers, and a request says the same alone, in a batch and forked."""

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from asterism.orchestrator.core.ids import WorkerId
from asterism.workers.engine.folder import ModelFolder, save_folder
from asterism.workers.engine.native.library import is_available
from asterism.workers.engine.seam import Engine, GenerationChunk, GenerationEnd, GenerationRequest, TokenLogprob
from asterism.workers.model_sources import load_engine
from asterism.workers.settings import WorkSettings
from tests.engine.conftest import character_tokenizer, random_decoder

Said = dict[str, tuple[str, tuple[TokenLogprob, ...]]]

PREFIX = "what the threads of a fork share is longer than a block "
THREADS = [
    GenerationRequest(
        id=f"{n}", prompt=(PREFIX, f"thread {n}"), max_tokens=20, temperature=n % 3 * 0.7, seed=n, logprobs=3
    )
    for n in range(6)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = ModelFolder("tiny", random_decoder(seed=3, hidden_size=64), character_tokenizer())
    save_folder(tmp_path / "tiny", model.decoder, model.tokenizer)
    return tmp_path / "tiny"


def engine_of(folder: Path, dtype: str) -> Engine:
    return load_engine(
        folder, WorkSettings(join="127.0.0.1:1", name=WorkerId("w"), device="cpu", dtype=dtype, threads=2)
    )


async def said(engine: Engine, requests: list[GenerationRequest]) -> Said:
    """Texts, and logarithms of probabilities, which show each bit of the logits that they come from."""
    answers: Said = {request.id: ("", ()) for request in requests}
    async for event in engine.generate(requests):
        match event:
            case GenerationChunk(request_id=name, text=text, logprobs=logprobs):
                before, known = answers[name]
                answers[name] = (before + text, (*known, *logprobs))
            case GenerationEnd(finish_reason=reason):
                assert reason == "length"
    return answers


async def test_a_request_says_the_same_alone_in_a_batch_and_forked(folder: Path) -> None:
    if (reason := is_available()) is not None:
        pytest.skip(reason)
    alone = Said()
    for request in THREADS:
        engine = engine_of(folder, "int8")
        await engine.start()
        alone |= await said(engine, [request])
        await engine.close()
    engine = engine_of(folder, "int8")
    await engine.start()
    forked = await said(engine, THREADS)
    others = [replace(request, id=f"other {request.id}", prompt=f"{n} not alike") for n, request in enumerate(THREADS)]
    batched = await said(engine, [each for pair in zip(others, THREADS, strict=True) for each in pair])
    await engine.close()
    floats = engine_of(folder, "float32")
    await floats.start()
    exact = await said(floats, THREADS)
    await floats.close()

    assert all(len(logprobs) == 20 for _, logprobs in alone.values())
    assert forked == alone
    assert {name: answer for name, answer in batched.items() if name in alone} == alone
    assert all(exact[name][1] != logprobs for name, (_, logprobs) in alone.items()), "int8 is not float32"


async def test_without_a_compiler_the_worker_says_that_int8_cannot_be(folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "asterism.protocol.cli", "work"),
        *("--model", "tiny", "--model-dir", str(folder.parent), "--device", "cpu", "--dtype", "int8"),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "CC": "no-such-compiler"},
    )
    _, printed = await process.communicate()
    message = printed.decode()
    assert process.returncode == 2, message
    assert "dtype" in message
    assert "there is no C compiler 'no-such-compiler'" in message
    assert "Traceback" not in message
