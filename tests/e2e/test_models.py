"""A worker's models behind OpenAI's APIs, for openai's own client and for another worker, in real processes."""

import asyncio
import json
import signal
from typing import Any, cast

import openai
import pytest

from asterism.orchestrator.core.records import ConstellationEnded
from asterism.orchestrator.core.request import ConstellationState, Request
from asterism.protocol.client import AsyncClient
from tests.e2e.test_threads import BOARD, alone, free_address, star
from tests.processes import Fleet, attached

pytestmark = pytest.mark.timeout(240)

BOARD_TALK: Any = [{"role": "user", "content": BOARD}]


async def reachable(client: openai.AsyncOpenAI) -> list[str]:
    """The models, once the server is there: it starts before the worker attaches."""
    return [model.id async for model in client.models.list()]


async def check_chat(client: openai.AsyncOpenAI) -> None:
    """Streams an answer on the shipped model, and goes on with it."""
    stream = await client.chat.completions.create(
        model="countdown",
        messages=BOARD_TALK,
        max_tokens=24,
        stream=True,
        logprobs=True,
        temperature=0,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "<Outline>" in text or "<Parallel>" in text or "<Search>" in text, text
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens == 24
    assert usage.prompt_tokens == len(BOARD.split())
    again = await client.chat.completions.create(
        model="countdown",
        messages=[*BOARD_TALK, {"role": "assistant", "content": text}],
        max_tokens=4,
        temperature=0,
    )
    assert again.usage is not None
    assert again.usage.prompt_tokens_details is not None
    assert (again.usage.prompt_tokens_details.cached_tokens or 0) >= usage.prompt_tokens


async def test_a_workers_models_answer_other_programs_and_another_worker(running: Fleet) -> None:
    address = free_address()
    url = f"http://{address}/v1"
    secret = running.folder / "secret"
    secret.write_text("open-sesame\n")
    near = running.start_worker(
        "near", "--model", "countdown", "--serve-models", address, "--serve-models-token-file", str(secret)
    )
    async with AsyncClient(running.address) as orchestrator:
        await attached(orchestrator, 1)
        async with openai.AsyncOpenAI(base_url=url, api_key="open-sesame", max_retries=0) as client:
            assert await reachable(client) == ["countdown"]
            await check_chat(client)
        async with openai.AsyncOpenAI(base_url=url, api_key="wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError):
                await reachable(client)

        (running.folder / "worker.toml").write_text(
            f'[models.far]\nurl = "{url}"\nkey_file = "{secret}"\nprice = {{ answer = 10.0 }}\n'
        )
        running.start_worker("relay", "--model", "far")
        await attached(orchestrator, 2)
        assert {worker.profile.models for worker in await orchestrator.workers()} == {("countdown",), ("far",)}
        thinking = {**star("text", alone(40)), "requires": ["model:far"]}
        submitted = await orchestrator.submit(Request("plan", json.dumps({"stars": [thinking]})))
        *_, ended = [record async for record in orchestrator.watch(submitted.constellation)]
        assert isinstance(ended, ConstellationEnded)
        assert ended.state is ConstellationState.SUCCEEDED, ended.reason
        picture = await orchestrator.get(submitted.constellation)
        result = {str(name): one.result for name, one in picture.constellation.stars.items()}["text"]
        accounting = cast("dict[str, Any]", result)["accounting"]
        assert accounting["total_tokens"] == 40
        assert accounting["cost"] == pytest.approx(40 * 10 / 1e6)

    near.signal(signal.SIGTERM)
    assert await asyncio.to_thread(near.wait) == 0
    assert "open-sesame" not in near.read()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--serve-models", "0.0.0.0:8000"), "needs a credential"),
        (("--serve-models", "8000"), "HOST:PORT"),
        (("--serve-models", "TAKEN"), "cannot listen"),
        (("--config", "nowhere.toml"), "there is no file"),
    ],
)
def test_what_cannot_be_served_is_refused_with_words(running: Fleet, flags: tuple[str, ...], said: str) -> None:
    flags = tuple(running.address if flag == "TAKEN" else flag for flag in flags)
    child = running.start("work", ["work", "--model", "none", "--name", "w", *flags])
    assert child.wait() == 2
    assert said in " ".join(child.read().split())
