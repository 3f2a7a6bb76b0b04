"""The engine over HTTP before servers of all kinds: a socket that answers with canned bytes plays them."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from asterism.orchestrator.core.errors import AsterismError, Misconfigured, Overloaded
from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.http_engine import HttpEngine
from asterism.workers.engine.seam import GenerationRequest
from tests.engine.conftest import Collect

ASK = GenerationRequest(id="a", prompt="say something", max_tokens=40)
MODELS = json.dumps({"object": "list", "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "x"}]})


def http(status: str, body: str, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return ("\r\n".join([*lines, f"content-length: {len(body.encode())}", "connection: close", "", ""]) + body).encode()


def events(*values: object, is_whole: bool = True) -> bytes:
    said = "".join(f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n" for value in values)
    answer = http("200 OK", said, content_type="text/event-stream")
    return answer if is_whole else answer.replace(b"content-length: ", b"content-length: 9")


def text(said: str, finish: str | None = None, **others: object) -> dict[str, object]:
    choice = {"index": 0, "text": said, "finish_reason": finish, "logprobs": None, **others}
    return {"id": "c", "object": "text_completion", "created": 0, "model": "m", "choices": [choice]}


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[HttpEngine]:
    """An engine whose server gives every completion this answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if length:
            await reader.readexactly(int(length[1]))
        writer.write(answer if head.startswith(b"POST") else http("200 OK", MODELS, content_type="application/json"))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        engine = HttpEngine(f"http://127.0.0.1:{port}/v1", context_tokens=100)
        await engine.start()
        yield engine
        await engine.close()


ERROR = json.dumps({"error": {"message": "no", "type": "x", "param": "top_k", "code": 400}})


@pytest.mark.parametrize(
    ("answer", "is_expected"),
    [
        (http("429 Too Many", ERROR, retry_after="7"), lambda e: isinstance(e, Overloaded) and e.retry_after_s == 7),
        (http("429 Too Many", ERROR), lambda e: isinstance(e, Overloaded) and e.retry_after_s == 1),
        (http("503 No", "", retry_after="Wed, 21 Oct 2026 07:28:00 GMT"), lambda e: isinstance(e, Overloaded)),
        (http("400 Bad", ERROR), lambda e: isinstance(e, InvalidRequest) and (e.field, e.reason) == ("top_k", "no")),
        (http("422 Bad", "<html>"), lambda e: isinstance(e, InvalidRequest) and e.field == "request"),
    ],
)
async def test_refusals_of_a_server(answer: bytes, is_expected: Callable[[AsterismError], bool]) -> None:
    async with answering(answer) as engine:
        with pytest.raises(AsterismError) as refused:
            await anext(engine.generate([ASK]))
        # The id is free again.
        with pytest.raises(AsterismError):
            await anext(engine.generate([ASK]))
    assert is_expected(refused.value)


@pytest.mark.parametrize(
    ("answer", "stops", "expected"),
    [
        (events(text("a"), text("b", "length"), "[DONE]"), (), ("ab", "length", None, 2)),
        (events(text("a"), text("", "stop"), "[DONE]"), (), ("a", "end", None, 1)),
        (events(text("a"), text("", "stop"), "[DONE]"), ("x",), ("a", "stop", "x", 1)),
        (events(text("a", "stop", stop_reason="y"), "[DONE]"), ("x", "y"), ("a", "stop", "y", 1)),
        (events(text("a", "stop", stop_reason=None), "[DONE]"), ("x",), ("a", "end", None, 1)),
        (events(text("a", "stop", matched_stop=151645), "[DONE]"), ("x",), ("a", "end", None, 1)),
        (events(text("a", "stop"), "[DONE]"), ("x", "y"), ("a", "error", None, 1)),
        (events(text("a", "content_filter"), "[DONE]"), (), ("a", "error", None, 1)),
        (events(text("a", "abort"), "[DONE]"), (), ("a", "cancelled", None, 1)),
        (events(text("a"), "[DONE]"), (), ("a", "error", None, 1)),
        (events(text("a"), {"error": {"message": "out of memory"}}), (), ("a", "error", None, 1)),
        (events(text("a"), "no json"), (), ("a", "error", None, 1)),
        (events(text("a"), is_whole=False), (), ("a", "error", None, 1)),
        (b"garbage\r\n\r\n", (), ("", "error", None, 0)),
        (b"", (), ("", "error", None, 0)),
    ],
)
async def test_answers_of_servers_of_all_kinds(
    collect: Collect, answer: bytes, stops: tuple[str, ...], expected: tuple[str, str, str | None, int]
) -> None:
    async with answering(answer) as engine:
        said, end = (await collect(engine, [replace(ASK, stop=stops)]))["a"]
    assert (said, end.finish_reason, end.stop, end.tokens) == expected
    assert (end.error is not None) == (end.finish_reason == "error")


async def test_a_context_that_no_server_names_has_to_be_named() -> None:
    async with answering(b"") as engine:
        url = engine.profile.device
        with pytest.raises(Misconfigured) as refused:
            await HttpEngine(url).start()
    assert refused.value.setting == "context_tokens"
