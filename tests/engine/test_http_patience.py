"""The engine over HTTP before servers that fail, stall, refuse and lie: a socket that answers by turns plays them."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from asterism.orchestrator.core.errors import Overloaded, Unauthenticated, Unreachable
from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.http_bounds import MAX_BODY_BYTES, MAX_EVENT_BYTES
from asterism.workers.engine.http_call import ServerLimits
from asterism.workers.engine.http_engine import HttpEngine
from asterism.workers.engine.http_retry import Patience
from asterism.workers.engine.http_stream import Price
from asterism.workers.engine.seam import GenerationRequest, Grammar
from tests.engine.conftest import Collect
from tests.engine.test_conversation import talk
from tests.engine.test_http_peers import ERROR, MODELS, events, http

CHAT = GenerationRequest(id="a", messages=talk("be kind", "hello"), max_tokens=40)
HURRY = Patience(retries=3, first_s=0.001, most_s=0.1)
BUSY = http("429 Too Many", ERROR)
BAD = http("400 Bad", ERROR)


def said(text: str | None, finish: str | None = None, *, delta: Any = None, **others: object) -> dict[str, object]:
    choice = {"index": 0, "delta": delta or {"content": text}, "finish_reason": finish, "logprobs": None}
    return {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice], **others}


USAGE = {"prompt_tokens": 1000, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 400}}
FINE = events(said("", delta={"role": "assistant", "content": ""}), said("fi"), said("ne", "stop"), "[DONE]")
COSTLY = events(said("fine", "stop"), {**said(None), "choices": [], "usage": USAGE}, "[DONE]")


class Server:
    """Gives its answers in turn, the last one for ever; None: it never answers."""

    def __init__(self, answers: Sequence[bytes | None], models: bytes | None = None) -> None:
        self.answers = answers
        self.models = models if models is not None else http("200 OK", MODELS, content_type="application/json")
        self.bodies: list[dict[str, Any]] = []
        self.live = 0
        self.most_live = 0
        self.has_left = asyncio.Event()
        self.gate: asyncio.Event | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if not head.startswith(b"POST"):
            writer.write(self.models)
        elif length:
            self.bodies.append(json.loads(await reader.readexactly(int(length[1]))))
            self.live += 1
            self.most_live = max(self.most_live, self.live)
            if self.gate is not None:
                await self.gate.wait()
            answer = self.answers[min(len(self.bodies), len(self.answers)) - 1]
            if answer is None:
                await reader.read()
                self.has_left.set()
            else:
                writer.write(answer)
            self.live -= 1
        await writer.drain()
        writer.close()


@asynccontextmanager
async def before(server: Server, **options: Any) -> AsyncIterator[HttpEngine]:
    options = {"context_tokens": 100, "limits": ServerLimits(patience=HURRY), **options}
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        engine = HttpEngine(f"http://127.0.0.1:{port}/v1", **options)
        await engine.start()
        yield engine
        await engine.close()


@pytest.mark.parametrize(
    "failure",
    [
        BUSY,
        http("503 No", ""),
        http("529 No", ""),
        b"",
        b"garbage\r\n\r\n",
        events(is_whole=False),
        events(said(""), is_whole=False),
        events({"error": {"message": "come back", "code": 503}}),
    ],
)
async def test_a_server_that_fails_before_it_said_anything_is_asked_again(collect: Collect, failure: bytes) -> None:
    server = Server([failure, failure, FINE])
    async with before(server) as engine:
        text, end = (await collect(engine, [CHAT]))["a"]
    assert (text, end.finish_reason) == ("fine", "end")
    assert len(server.bodies) == 3
    assert server.bodies[0] == server.bodies[2]


@pytest.mark.parametrize(
    "failure", [events(said("half"), is_whole=False), events(said("half"), {"error": {"message": "no", "code": 503}})]
)
async def test_a_text_that_has_begun_is_not_asked_for_again(collect: Collect, failure: bytes) -> None:
    server = Server([failure, FINE])
    async with before(server) as engine:
        text, end = (await collect(engine, [CHAT]))["a"]
    assert (text, end.finish_reason) == ("half", "error")
    assert len(server.bodies) == 1


async def test_patience_ends(collect: Collect) -> None:
    server = Server([BUSY])
    async with before(server) as engine:
        with pytest.raises(Overloaded):
            await collect(engine, [CHAT])
        assert len(server.bodies) == 4
        server.answers = [b""]
        _, end = (await collect(engine, [CHAT]))["a"]
    assert end.finish_reason == "error"
    assert len(server.bodies) == 8


async def test_a_server_that_asks_for_too_long_is_given_up_at_once(collect: Collect) -> None:
    server = Server([http("429 Too Many", ERROR, retry_after="7")])
    async with before(server) as engine:
        with pytest.raises(Overloaded) as refused:
            await collect(engine, [CHAT])
    assert refused.value.retry_after_s == 7
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [(BAD, InvalidRequest), (http("404 No", ERROR), InvalidRequest), (http("401 No", ERROR), Unauthenticated)],
)
async def test_a_refusal_is_no_failure(collect: Collect, answer: bytes, error: type[Exception]) -> None:
    server = Server([answer])
    async with before(server) as engine:
        with pytest.raises(error):
            await collect(engine, [CHAT])
    assert len(server.bodies) == 1


async def test_silence_before_the_first_token_is_a_failure(collect: Collect) -> None:
    server = Server([None, FINE])
    limits = ServerLimits(patience=HURRY, first_token_s=0.2)
    async with before(server, limits=limits) as engine:
        text, _ = (await collect(engine, [CHAT]))["a"]
        await server.has_left.wait()
    assert text == "fine"


async def test_silence_between_two_tokens_ends_the_text(collect: Collect) -> None:
    begun = events(said("half")).replace(b"content-length: ", b"content-length: 9")

    class Stalls(Server):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(begun if head.startswith(b"POST") else self.models)
            await writer.drain()
            await reader.read()  # until the other side leaves
            writer.close()

    limits = ServerLimits(patience=HURRY, token_s=0.2)
    async with before(Stalls([]), limits=limits) as engine:
        text, end = (await collect(engine, [CHAT]))["a"]
    assert (text, end.finish_reason) == ("half", "error")
    assert "said nothing for 0.2 s" in (end.error or "")


async def test_a_cancel_closes_the_stream(collect: Collect) -> None:
    server = Server([None])
    async with before(server) as engine:
        asking = asyncio.ensure_future(collect(engine, [CHAT]))
        while not server.bodies:  # noqa: ASYNC110 - the socket says nothing to wait for
            await asyncio.sleep(0)
        await engine.cancel(["a"])
        _, end = (await asking)["a"]
        await server.has_left.wait()
    assert end.finish_reason == "cancelled"


async def test_so_many_are_asked_for_at_once_and_no_more(collect: Collect) -> None:
    server = Server([FINE])
    server.gate = asyncio.Event()
    different = [replace(CHAT, id=f"{number}", messages=talk(f"{number}", "hello")) for number in range(7)]
    async with before(server, limits=ServerLimits(max_sequences=2)) as engine:
        asking = asyncio.ensure_future(collect(engine, different))
        while server.live < 2:  # noqa: ASYNC110 - the socket says nothing to wait for
            await asyncio.sleep(0)
        server.gate.set()
        answers = await asking
    assert {text for text, _ in answers.values()} == {"fine"}
    assert server.most_live == 2


async def test_an_answer_is_no_longer_than_the_settings_allow(collect: Collect) -> None:
    server = Server([FINE])
    async with before(server, limits=ServerLimits(max_tokens=5)) as engine:
        await collect(engine, [CHAT])
        await collect(engine, [replace(CHAT, max_tokens=3)])
    assert [body["max_tokens"] for body in server.bodies] == [5, 3]


async def test_what_a_server_charges_is_counted(collect: Collect) -> None:
    async with before(Server([COSTLY]), price=Price(prompt=1.0, cached=0.1, answer=10.0)) as engine:
        _, end = (await collect(engine, [CHAT]))["a"]
        await collect(engine, [CHAT])
        assert end.cost == pytest.approx(0.0006 + 0.00004 + 0.00003)
        assert engine.stats().cost == pytest.approx(2 * end.cost)


async def test_thoughts_are_no_text_and_count(collect: Collect) -> None:
    thinking = events(
        said(None, delta={"reasoning_content": "well"}), said(None, delta={"reasoning": "so"}), said("fine", "stop")
    )
    async with before(Server([thinking])) as engine:
        text, end = (await collect(engine, [CHAT]))["a"]
    assert (text, end.tokens) == ("fine", 3)


class Schemas:
    """A request under a JSON schema, before servers that know it, do not know it, and find it wrong."""

    BOUND = replace(CHAT, grammar=Grammar("json_schema", '{"type": "integer"}'))


async def test_a_character_that_a_server_cuts_in_two_is_whole_and_half_of_one_is_replaced(collect: Collect) -> None:
    server = Server([events(said("a\ud83d"), said("\ude00"), said("\ud83d"), said("b\ud83d", "stop"), "[DONE]")])
    async with before(server) as engine:
        text, end = (await collect(engine, [CHAT]))["a"]
    assert (text, end.finish_reason) == ("a\U0001f600\ufffdb", "end")


@pytest.mark.parametrize("name", list(USAGE)[:2])
@pytest.mark.parametrize("count", [2**40, 1.5, -1, "3"])
async def test_a_number_of_tokens_that_makes_no_sense_is_an_error(collect: Collect, name: str, count: object) -> None:
    server = Server([events(said("fine"), {**said(None), "choices": [], "usage": {**USAGE, name: count}}, "[DONE]")])
    async with before(server) as engine:
        _, end = (await collect(engine, [CHAT]))["a"]
    assert (end.finish_reason, end.tokens) == ("error", 1 if name == "completion_tokens" else 3)
    assert "a number of tokens is" in (end.error or "")


async def test_a_server_without_schemas_is_found_out_once(collect: Collect) -> None:
    server = Server([BAD, BAD, FINE])
    async with before(server) as engine:
        assert (await collect(engine, [Schemas.BOUND]))["a"][0] == "fine"
        assert (await collect(engine, [Schemas.BOUND]))["a"][0] == "fine"
    assert ["response_format" in body for body in server.bodies] == [True, True, False, False]
    assert server.bodies[1]["max_tokens"] == 1


async def test_a_schema_that_is_wrong_is_refused_where_others_are_not(collect: Collect) -> None:
    server = Server([BAD, FINE, BAD])
    async with before(server) as engine:
        for _ in range(2):
            with pytest.raises(InvalidRequest):
                await collect(engine, [Schemas.BOUND])
    assert ["response_format" in body for body in server.bodies] == [True, True, True]


@pytest.mark.parametrize("has_schemas", [True, False])
async def test_settings_know_whether_there_are_schemas(collect: Collect, has_schemas: bool) -> None:
    server = Server([FINE])
    async with before(server, has_schemas=has_schemas) as engine:
        await collect(engine, [Schemas.BOUND])
    assert ["response_format" in body for body in server.bodies] == [has_schemas]


HUGE = b"data: " + b"x" * (MAX_EVENT_BYTES + 1)


@pytest.mark.parametrize(
    "answer",
    [
        events("no json"),
        events([1]),
        events("1"),
        events({"choices": "x"}),
        events({"choices": [1]}),
        events({"choices": None}),
        events({}),
        events(said(None, delta={"content": 7})),
        events(said(None, delta=[1])),
        events({**said("x"), "usage": {"completion_tokens": "many"}}),
        events({**said("x"), "usage": 5}),
        events(said("x", finish="no such end")),
        events(said("x", finish=7)),  # type: ignore[arg-type]
        events({"error": "no"}),
        events({"error": {"message": {"a": 1}}}),
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + HUGE,
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n\r\n" + b"\x1f\x8b\x08",
        http("200 OK", "<html>", content_type="text/html"),
    ],
)
async def test_what_makes_no_sense_is_an_error_with_words(collect: Collect, answer: bytes) -> None:
    async with before(Server([answer]), limits=ServerLimits()) as engine:
        _, end = (await collect(engine, [CHAT]))["a"]
    assert end.finish_reason == "error"
    assert end.error


@pytest.mark.parametrize(
    "models",
    [
        http("200 OK", '{"data": 5}', content_type="application/json"),
        http("200 OK", "[1]", content_type="application/json"),
        http("200 OK", "<html>", content_type="text/html"),
        http("200 OK", "x" * (MAX_BODY_BYTES + 1), content_type="application/json"),
        http("307 Go", "", location="http://127.0.0.1:9/"),
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n\x1f\x8b",
        b"",
    ],
)
async def test_a_list_of_models_that_makes_no_sense_is_unreachable(models: bytes) -> None:
    with pytest.raises(Unreachable):
        async with before(Server([], models)):
            pass
