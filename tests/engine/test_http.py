"""The completion server and the engine that speaks to one: what travels, what is refused, and what is lost."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import openai
import pytest
import pytest_asyncio

from asterism.orchestrator.core.errors import Misconfigured, Unreachable
from asterism.workers.engine.folder import ModelFolder
from asterism.workers.engine.http_engine import HttpEngine
from asterism.workers.engine.http_server import MAX_BODY_BYTES, completion_app, serving
from asterism.workers.engine.scripted import ScriptedEngine
from asterism.workers.engine.seam import (
    Engine,
    EngineEvent,
    GenerationChunk,
    GenerationEnd,
    GenerationRequest,
    Grammar,
    TokenLogprob,
)
from asterism.workers.engine.torch_engine import TorchEngine
from tests.engine.conftest import CHARACTERS, Collect, character_tokenizer, random_decoder

ASK = GenerationRequest(id="a", prompt="say something", max_tokens=40)
WORDS = "one two three four"


class WatchedEngine(ScriptedEngine):
    """Says when a call of `generate` is over."""

    def __init__(self, **options: Any) -> None:
        super().__init__(lambda request: f" {WORDS}", **options)
        self.has_begun = asyncio.Event()
        self.is_over = asyncio.Event()

    async def generate(self, requests: Sequence[GenerationRequest]) -> AsyncGenerator[EngineEvent, None]:
        try:
            async with aclosing(super().generate(requests)) as events:
                async for event in events:
                    self.has_begun.set()
                    yield event
        finally:
            self.is_over.set()


@asynccontextmanager
async def running(behind: Engine, **options: Any) -> AsyncIterator[HttpEngine]:
    """An engine over HTTP before another one."""
    await behind.start()
    async with serving({behind.profile.model: behind}) as url:
        engine = HttpEngine(url, **options)
        await engine.start()
        yield engine
        await engine.close()
    await behind.close()


@pytest_asyncio.fixture
async def recited() -> AsyncIterator[tuple[ScriptedEngine, str]]:
    engine = ScriptedEngine(lambda request: f" {WORDS}")
    await engine.start()
    async with serving({"scripted": engine}) as url:
        yield engine, url
    await engine.close()


@pytest_asyncio.fixture
async def client(recited: tuple[ScriptedEngine, str]) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=recited[1], api_key="none", max_retries=0) as client:
        yield client


class TestServer:
    async def test_the_models_are_listed(self, client: openai.AsyncOpenAI) -> None:
        (model,) = [model async for model in client.models.list()]
        assert (model.id, (model.model_extra or {})["max_model_len"]) == ("scripted", 4096)

    async def test_the_client_of_openai_streams(self, client: openai.AsyncOpenAI) -> None:
        stream = await client.completions.create(
            model="scripted", prompt="go", stream=True, logprobs=1, stream_options={"include_usage": True}
        )
        said = [completion async for completion in stream]

        assert [choice.text for completion in said for choice in completion.choices] == [
            " one",
            " two",
            " three",
            " four",
            "",
        ]
        assert said[0].choices[0].logprobs is not None
        assert said[0].choices[0].logprobs.top_logprobs == [{" one": 0.0}]
        assert said[-2].choices[0].finish_reason == "stop"
        usage = said[-1].usage
        assert usage is not None
        assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (1, 4, 5)

    async def test_a_completion_has_an_id_of_its_own(self, client: openai.AsyncOpenAI) -> None:
        ids = list[str]()
        for prompt in ("go", "go", ["go", "on"]):
            whole = await client.completions.create(model="scripted", prompt=prompt)
            stream = await client.completions.create(model="scripted", prompt=prompt, stream=True)
            (streamed,) = {completion.id async for completion in stream}
            ids += [whole.id, streamed]

        assert len(set(ids)) == 6
        assert all(re.fullmatch("cmpl-[0-9a-f]{32}", each) for each in ids)

    async def test_an_answer_comes_whole(self, client: openai.AsyncOpenAI) -> None:
        completion = await client.completions.create(
            model="scripted", prompt=["go on", "stop it"], stop=[" four", "nine"], logprobs=0
        )
        assert [choice.text for choice in completion.choices] == [" one two three"] * 2
        assert [choice.index for choice in completion.choices] == [0, 1]
        assert {(choice.model_extra or {})["stop_reason"] for choice in completion.choices} == {" four"}
        logprobs = completion.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.tokens == [" one", " two", " three"]
        assert completion.usage is not None
        assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (4, 8)

    async def test_prompts_of_one_body_share_their_beginning(self, client: openai.AsyncOpenAI) -> None:
        completion = await client.completions.create(model="scripted", prompt=["a b c d", "a b c e"])
        assert completion.usage is not None
        assert completion.usage.prompt_tokens_details is not None
        assert completion.usage.prompt_tokens_details.cached_tokens == 3

    @pytest.mark.parametrize(
        ("change", "param"),
        [
            ({"temperature": -1}, "temperature"),
            ({"temperature": "hot"}, "temperature"),
            ({"max_tokens": -2}, "max_tokens"),
            ({"max_tokens": 1.5}, "max_tokens"),
            ({"prompt": []}, "prompt"),
            ({"prompt": ["a"] * 65}, "prompt"),
            ({"prompt": [1, 2]}, "prompt"),
            ({"prompt": " "}, "prompt"),
            ({"prompt": "word " * 5000}, "prompt"),
            ({"n": 2}, "n"),
            ({"echo": True}, "echo"),
            ({"suffix": "x"}, "suffix"),
            ({"logit_bias": {}}, "logit_bias"),
            ({"stop": [""]}, "stop"),
            ({"stop": ["x"] * 17}, "stop"),
            ({"logprobs": 21}, "logprobs"),
            ({"bad_words": [""]}, "banned"),
            ({"structured_outputs": {"regex": "a", "grammar": "b"}}, "structured_outputs"),
            ({"structured_outputs": {"choice": ["a"]}}, "structured_outputs"),
            ({"stream_options": {"more": True}}, "stream_options"),
        ],
    )
    @pytest.mark.parametrize("stream", [False, True])
    async def test_bad_input_is_refused(
        self, client: openai.AsyncOpenAI, change: dict[str, Any], param: str, stream: bool
    ) -> None:
        body = {"model": "scripted", "prompt": "go", "stream": stream, **change}
        with pytest.raises(openai.BadRequestError) as refused:
            await client.post("/completions", body=body, cast_to=object)
        assert refused.value.param == param

    async def test_another_model_is_not_found(self, client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.NotFoundError):
            await client.completions.create(model="other", prompt="go")

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"model": 1}'])
    async def test_what_is_no_body_is_refused(self, client: openai.AsyncOpenAI, body: bytes) -> None:
        with pytest.raises(openai.BadRequestError):
            await client.post("/completions", content=body, cast_to=object)

    async def test_a_body_is_bounded(self, client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="more than"):
            await client.completions.create(model="scripted", prompt="x" * (MAX_BODY_BYTES + 1))

    async def test_a_credential_is_asked_for(self) -> None:
        engine = ScriptedEngine(lambda request: " fine")
        await engine.start()
        async with serving({"scripted": engine}, credential="secret") as url:
            async with openai.AsyncOpenAI(base_url=url, api_key="wrong", max_retries=0) as client:
                with pytest.raises(openai.AuthenticationError):
                    await client.completions.create(model="scripted", prompt="go")
            with pytest.raises(Unreachable):
                await HttpEngine(url, credential="wrong").start()
            allowed = HttpEngine(url, credential="secret")
            await allowed.start()
            assert [event async for event in allowed.generate([ASK])]
            await allowed.close()
        await engine.close()

    async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error(self) -> None:
        coming = iter(({"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}))
        said: list[object] = []

        async def receive() -> dict[str, Any]:
            return next(coming)

        async def send(message: object) -> None:
            said.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/completions", "query_string": b"", "headers": []}
        await completion_app({"scripted": ScriptedEngine({})})(scope, receive, send)
        assert said == []

    @pytest.mark.parametrize("stream", [True, False])
    async def test_a_client_that_leaves_cancels(self, stream: bool) -> None:
        engine = WatchedEngine(paced=True)
        await engine.start()
        async with (
            serving({"scripted": engine}) as url,
            openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
        ):
            body = {"model": "scripted", "prompt": "go", "stream": stream}
            asking = asyncio.ensure_future(client.post("/completions", body=body, cast_to=object))
            await engine.allow(1)
            await engine.has_begun.wait()
            asking.cancel()
            await engine.is_over.wait()
        await engine.close()

    async def test_an_engine_that_has_closed_is_unavailable(self, recited: tuple[ScriptedEngine, str]) -> None:
        await recited[0].close()
        async with openai.AsyncOpenAI(base_url=recited[1], api_key="none", max_retries=0) as client:
            with pytest.raises(openai.InternalServerError) as refused:
                await client.completions.create(model="scripted", prompt="go")
        assert refused.value.status_code == 503

    async def test_an_error_of_the_engine_is_told(self) -> None:
        async with running(ScriptedEngine({})) as engine:
            *_, end = [event async for event in engine.generate([ASK])]
        assert isinstance(end, GenerationEnd)
        assert end.finish_reason == "error"
        assert "the script has no answer" in (end.error or "")


class TestEngine:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"temperature": 0.7, "top_k": 5, "top_p": 0.9, "min_p": 0.1, "seed": 2**62},
            {"repetition_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": -0.5, "logprobs": 3},
            {"stop": ("</Thread>", "\n"), "banned": ("<Answer>",), "priority": 3},
            {"grammar": Grammar("json_schema", '{"type": "integer"}')},
            {"grammar": Grammar("regex", "a|b")},
            {"grammar": Grammar("lark", 'start: "a"')},
            {"prompt": ("two ", "segments")},
        ],
    )
    async def test_a_request_arrives_as_it_was(self, collect: Collect, changes: dict[str, Any]) -> None:
        behind = ScriptedEngine(lambda request: f" {WORDS}")
        request = replace(ASK, **changes)
        async with running(behind) as engine:
            await collect(engine, [request])
        (arrived,) = behind.requests
        prompt = request.prompt if isinstance(request.prompt, str) else "".join(request.prompt)
        assert replace(arrived, id="a") == replace(request, prompt=prompt)

    async def test_answers_are_those_of_the_engine_behind(self, collect: Collect, tiny_model: ModelFolder) -> None:
        ending = ModelFolder("ending", random_decoder(1, eos_token_ids=(CHARACTERS.index("9"),)), character_tokenizer())
        requests = [
            replace(ASK, id="greedy"),
            replace(ASK, id="drawn", temperature=1.2, top_k=9, seed=5, presence_penalty=1.0),
            replace(ASK, id="bound", grammar=Grammar("regex", "[1-5]{3} (apples|pears)"), temperature=1.0, seed=2),
            replace(ASK, id="stopped", stop=("e", "a ")),
        ]
        behind = TorchEngine(ending)
        async with running(behind) as engine:
            over_http, direct = await collect(engine, requests), await collect(behind, requests)
        for name, (said, end) in direct.items():
            # The second time the prompts were in the cache.
            assert over_http[name] == (said, replace(end, cached_tokens=over_http[name][1].cached_tokens))

    async def test_logprobs_arrive(self, tiny_model: ModelFolder) -> None:
        async def logprobs(engine: Engine) -> list[TokenLogprob]:
            events = [event async for event in engine.generate([replace(ASK, logprobs=3, temperature=1.0)])]
            return [each for event in events if isinstance(event, GenerationChunk) for each in event.logprobs]

        behind = TorchEngine(tiny_model)
        async with running(behind) as engine:
            over_http, direct = await logprobs(engine), await logprobs(behind)
        assert len(direct) == ASK.max_tokens
        for arrived, sent in zip(over_http, direct, strict=True):
            assert (arrived.token, [token for token, _ in arrived.likeliest]) == (
                sent.token,
                [token for token, _ in sent.likeliest],
            )
            # The second time the prompt was in the cache, so its last token was computed in another shape.
            assert arrived.logprob == pytest.approx(sent.logprob, abs=1e-4)

    async def test_forks_wait_for_their_prefix(self, collect: Collect) -> None:
        behind = ScriptedEngine(lambda request: f" {WORDS}")
        prefix = "what all of them have in common, at some length; "
        requests = [replace(ASK, id=f"{n}", prompt=f"{prefix}thread {n}") for n in range(5)]
        async with running(behind) as engine:
            answers = await collect(engine, [*requests, replace(ASK, id="other")])
        assert [end.cached_tokens for _, end in answers.values()] == [0, *[11] * 4, 0]

    async def test_a_fork_that_waits_is_cancelled(self) -> None:
        was_asked = asyncio.Event()

        def script(request: GenerationRequest) -> str:
            was_asked.set()
            return f" {WORDS}"

        behind = ScriptedEngine(script, paced=True)
        prefix = "what all of them have in common, at some length; "
        ends: dict[str, GenerationEnd] = {}
        async with running(behind) as engine:
            events = engine.generate([replace(ASK, id=f"{n}", prompt=f"{prefix}thread {n}") for n in range(2)])
            first = asyncio.ensure_future(anext(events))
            await was_asked.wait()
            await engine.cancel(["1"])
            await behind.allow(5)
            async for event in _after(await first, events):
                if isinstance(event, GenerationEnd):
                    ends[event.request_id] = event
        assert ends["0"].finish_reason == "end"
        assert (ends["1"].finish_reason, ends["1"].tokens) == ("cancelled", 0)
        assert len(behind.requests) == 1

    async def test_nobody_at_the_address_is_unreachable(self) -> None:
        with pytest.raises(Unreachable):
            await HttpEngine("http://127.0.0.1:9/v1").start()

    async def test_a_server_without_the_model_is_misconfigured(self, recited: tuple[ScriptedEngine, str]) -> None:
        with pytest.raises(Misconfigured, match="other") as refused:
            await HttpEngine(recited[1], model="other").start()
        assert refused.value.setting == "model"


async def _after(first: EngineEvent, events: AsyncGenerator[EngineEvent, None]) -> AsyncIterator[EngineEvent]:
    yield first
    async for event in events:
        yield event
