"""Chats through our server and our client of them: what travels, what is refused, what openai's own client sees."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import openai
import pytest
import pytest_asyncio

from asterism.workers.engine.folder import ModelFolder
from asterism.workers.engine.http_engine import HttpEngine
from asterism.workers.engine.http_server import serving
from asterism.workers.engine.plain_chat import TURN, plain_chat
from asterism.workers.engine.scripted import ScriptedEngine
from asterism.workers.engine.seam import Engine, EngineEvent, GenerationRequest, Grammar, Message
from asterism.workers.engine.torch_engine import TorchEngine
from tests.engine.conftest import Collect
from tests.engine.test_conversation import DIGITS, talk
from tests.engine.test_http import WatchedEngine, running

SAID = " one two three four"
TALK: Any = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "count"}]


@pytest_asyncio.fixture
async def behind() -> AsyncIterator[dict[str, Engine]]:
    engines: dict[str, Engine] = {
        "counting": ScriptedEngine(lambda request: SAID, context_tokens=50),
        "echoing/it": ScriptedEngine(lambda request: f" {request.messages[-1].text}"),
    }
    for engine in engines.values():
        await engine.start()
    yield engines
    for engine in engines.values():
        await engine.close()


@pytest_asyncio.fixture
async def client(behind: dict[str, Engine]) -> AsyncIterator[openai.AsyncOpenAI]:
    async with serving(behind) as url, openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


class TestServer:
    async def test_all_engines_are_listed_and_found_by_name(self, client: openai.AsyncOpenAI) -> None:
        assert [model.id async for model in client.models.list()] == ["counting", "echoing/it"]
        assert (await client.models.retrieve("echoing/it")).owned_by == "asterism"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("other")
        for model, said in (("counting", SAID), ("echoing/it", " count")):
            answer = await client.chat.completions.create(model=model, messages=TALK)
            assert answer.choices[0].message.content == said
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="other", messages=TALK)

    async def test_the_client_of_openai_streams(self, client: openai.AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(
            model="counting",
            messages=TALK,
            stream=True,
            logprobs=True,
            top_logprobs=1,
            stream_options={"include_usage": True},
        )
        opening, *said, ended, last = [chunk async for chunk in stream]
        assert opening.choices[0].delta.role == "assistant"
        assert [chunk.choices[0].delta.content for chunk in said] == [" one", " two", " three", " four"]
        logprobs = said[0].choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content is not None
        assert (logprobs.content[0].token, logprobs.content[0].bytes) == (" one", list(b" one"))
        assert logprobs.content[0].top_logprobs[0].token == " one"
        assert ended.choices[0].finish_reason == "stop"
        assert last.usage is not None
        assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (6, 4)
        assert {chunk.object for chunk in (opening, *said, ended, last)} == {"chat.completion.chunk"}
        assert {chunk.id for chunk in (opening, *said, ended, last)} == {opening.id}

    async def test_an_answer_comes_whole(self, client: openai.AsyncOpenAI) -> None:
        answer = await client.chat.completions.create(
            model="counting",
            messages=TALK,
            stop=" four",
            seed=3,
            temperature=0.5,
            logprobs=True,
        )
        (choice,) = answer.choices
        assert (choice.message.content, choice.message.role, choice.finish_reason) == (
            " one two three",
            "assistant",
            "stop",
        )
        assert (choice.model_extra or {})["stop_reason"] == " four"
        assert choice.logprobs is not None
        assert [each.token for each in choice.logprobs.content or ()] == [" one", " two", " three"]
        assert answer.object == "chat.completion"

    async def test_without_a_limit_the_context_is_the_limit(
        self, client: openai.AsyncOpenAI, behind: dict[str, Engine]
    ) -> None:
        limits: list[Any] = [{}, {"max_tokens": 2}, {"max_completion_tokens": 3}]
        for limit in limits:
            await client.chat.completions.create(model="counting", messages=TALK, **limit)
        engine = behind["counting"]
        assert isinstance(engine, ScriptedEngine)
        assert [request.max_tokens for request in engine.requests] == [50, 2, 3]

    async def test_parts_and_developers_are_understood(
        self, client: openai.AsyncOpenAI, behind: dict[str, Engine]
    ) -> None:
        messages: Any = [
            {"role": "developer", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]},
        ]
        await client.chat.completions.create(model="counting", messages=messages)
        engine = behind["counting"]
        assert isinstance(engine, ScriptedEngine)
        assert engine.requests[0].messages == (Message("system", "be kind"), Message("user", "one two"))

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({"type": "text"}, None),
            ({"type": "json_object"}, Grammar("json_schema", '{"type": "object"}')),
            (
                {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": {"type": "integer"}}},
                Grammar("json_schema", '{"type": "integer"}'),
            ),
        ],
    )
    @pytest.mark.parametrize("api", ["chat", "completions"])
    async def test_formats_are_grammars(
        self, client: openai.AsyncOpenAI, behind: dict[str, Engine], given: Any, expected: Grammar | None, api: str
    ) -> None:
        if api == "chat":
            await client.chat.completions.create(model="counting", messages=TALK, response_format=given)
        else:
            await client.completions.create(model="counting", prompt="x", extra_body={"response_format": given})
        engine = behind["counting"]
        assert isinstance(engine, ScriptedEngine)
        assert engine.requests[0].grammar == expected

    @pytest.mark.parametrize(
        ("change", "param"),
        [
            ({"messages": []}, "messages"),
            ({"messages": [{"role": "user", "content": " "}]}, "messages"),
            ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
            ({"messages": [{"role": "user"}]}, "messages"),
            ({"messages": [{"role": "user", "content": None}]}, "messages"),
            ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages"),
            ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 257}]}, "messages"),
            ({"messages": [{"role": "user", "content": "x"}] * 5000}, "messages"),
            ({"messages": [{"role": "user", "content": "word " * 100}]}, "prompt"),
            ({"messages": "x"}, "messages"),
            ({"prompt": "x"}, "prompt"),
            ({"tools": []}, "tools"),
            ({"n": 2}, "n"),
            ({"logprobs": 3}, "logprobs"),
            ({"top_logprobs": 3}, "top_logprobs"),
            ({"logprobs": True, "top_logprobs": 21}, "logprobs"),
            ({"max_tokens": -1}, "max_tokens"),
            ({"max_completion_tokens": "x"}, "max_completion_tokens"),
            ({"response_format": {"type": "xml"}}, "response_format"),
            ({"response_format": {"type": "json_schema"}}, "response_format"),
            ({"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}}, "structured_outputs"),
            ({"store": True}, "store"),
        ],
    )
    @pytest.mark.parametrize("stream", [False, True])
    async def test_bad_input_is_refused(
        self, client: openai.AsyncOpenAI, change: dict[str, Any], param: str, stream: bool
    ) -> None:
        body = {"model": "counting", "messages": TALK, "stream": stream, **change}
        with pytest.raises(openai.BadRequestError) as refused:
            await client.post("/chat/completions", body=body, cast_to=object)
        assert refused.value.param == param

    @pytest.mark.parametrize("stream", [True, False])
    async def test_a_client_that_leaves_cancels(self, stream: bool) -> None:
        engine = WatchedEngine(paced=True)
        await engine.start()
        async with (
            serving({"scripted": engine}) as url,
            openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
        ):
            body = {"model": "scripted", "messages": TALK, "stream": stream}
            asking = asyncio.ensure_future(client.post("/chat/completions", body=body, cast_to=object))
            await engine.allow(1)
            await engine.has_begun.wait()
            asking.cancel()
            await engine.is_over.wait()
        assert engine.stats().num_requests_running == 0
        await engine.close()


class WatchedTorchEngine(TorchEngine):
    """Says when a call of `generate` is over."""

    def __init__(self, model: ModelFolder) -> None:
        super().__init__(model)
        self.is_over = asyncio.Event()

    async def generate(self, requests: Sequence[GenerationRequest]) -> AsyncGenerator[EngineEvent, None]:
        try:
            async with aclosing(super().generate(requests)) as events:
                async for event in events:
                    yield event
        finally:
            self.is_over.set()


async def test_a_client_that_leaves_gives_its_blocks_back(tiny_model: ModelFolder, collect: Collect) -> None:
    engine = WatchedTorchEngine(replace(tiny_model, chat_template=DIGITS))
    await engine.start()
    messages: Any = [{"role": "user", "content": "tell me of the sea"}]
    async with (
        serving({"tiny": engine}) as url,
        openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        stream = await client.chat.completions.create(model="tiny", messages=messages, max_tokens=900, stream=True)
        said = [await anext(stream), await anext(stream)]
        assert said[1].choices[0].delta.content
        await stream.close()
        await engine.is_over.wait()
        # What comes to the engine later is looked at later.
        await collect(engine, [GenerationRequest(id="later", prompt="so", max_tokens=1)])
        stats = engine.stats()
        assert (stats.num_cancelled, stats.num_requests_running, stats.kv_cache_usage) == (1, 0, 0)
    await engine.close()


CHAT = GenerationRequest(id="a", messages=talk("be kind", "hello"), max_tokens=40)


class TestEngine:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"messages": talk("be kind", "hello", " hi", "and?")},
            {"temperature": 0.7, "top_k": 5, "top_p": 0.9, "min_p": 0.1, "seed": 2**62},
            {"repetition_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": -0.5, "logprobs": 3},
            {"stop": ("</Thread>", "\n"), "banned": ("<Answer>",), "priority": 3},
            {"grammar": Grammar("json_schema", '{"type": "integer"}')},
            {"grammar": Grammar("regex", "a|b")},
            {"grammar": Grammar("lark", 'start: "a"')},
        ],
    )
    async def test_a_conversation_arrives_as_it_was(self, collect: Collect, changes: dict[str, Any]) -> None:
        behind = ScriptedEngine(lambda request: SAID)
        request = replace(CHAT, **changes)
        async with running(behind) as engine:
            await collect(engine, [request])
        (arrived,) = behind.requests
        assert replace(arrived, id="a") == request

    async def test_where_there_are_completions_only_a_conversation_is_a_prompt(self, collect: Collect) -> None:
        behind = ScriptedEngine(lambda request: f" one{TURN} two")
        async with running(behind, api="completions") as engine:
            text, end = (await collect(engine, [CHAT]))["a"]
        (arrived,) = behind.requests
        assert (arrived.prompt, arrived.messages, arrived.stop) == (plain_chat(CHAT.messages), (), (TURN,))
        assert (text, end.finish_reason, end.stop) == (" one", "end", None)

    async def test_where_there_are_chats_only_a_prompt_is_what_the_user_says(self, collect: Collect) -> None:
        behind = ScriptedEngine(lambda request: SAID)
        async with running(behind, api="chat") as engine:
            await collect(engine, [replace(CHAT, messages=(), prompt=("go ", "on"))])
        assert behind.requests[0].messages == (Message("user", "go on"),)

    async def test_logprobs_arrive(self) -> None:
        async with running(ScriptedEngine(lambda request: SAID)) as engine:
            events = [event async for event in engine.generate([replace(CHAT, logprobs=1)])]
        assert [each.likeliest for event in events[:-1] for each in getattr(event, "logprobs", ())] == [
            ((token, 0.0),) for token in (" one", " two", " three", " four")
        ]

    async def test_an_error_of_the_engine_is_told(self) -> None:
        async with running(ScriptedEngine({})) as engine:
            *_, end = [event async for event in engine.generate([CHAT])]
        assert "the script has no answer" in (getattr(end, "error", "") or "")


async def test_a_conversation_goes_through_two_servers(collect: Collect) -> None:
    """A worker may offer what it asks of another one."""
    behind = ScriptedEngine(lambda request: f" {json.dumps([message.text for message in request.messages])}")
    async with running(behind) as near, serving({"far": near}) as url:
        far = HttpEngine(url)
        await far.start()
        text, end = (await collect(far, [CHAT]))["a"]
        await far.close()
    assert json.loads(text) == ["be kind", "hello"]
    assert (end.finish_reason, end.prompt_tokens) == ("end", 6)
