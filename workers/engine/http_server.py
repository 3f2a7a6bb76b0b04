"""Any engine of ours behind OpenAI's completion API: `/v1/completions`, streamed or whole, and `/v1/models`.

For programs that speak to a completion server, and to measure what HTTP costs. A client that goes away cancels what it
asked for.
"""

import asyncio
import hmac
import json
import socket
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from asterism.orchestrator.core.errors import AsterismError, InvalidField, NotFound, Overloaded, Unauthenticated
from asterism.workers.engine.errors import EngineClosed, InvalidRequest
from asterism.workers.engine.http_body import (
    CompletionBody,
    chunk_choice,
    end_choice,
    logprobs_json,
    read_body,
    usage,
    usage_so_far,
)
from asterism.workers.engine.seam import (
    Engine,
    EngineEvent,
    GenerationChunk,
    GenerationEnd,
    GenerationRequest,
    TokenLogprob,
)

MAX_BODY_BYTES: Final = 4 << 20
"""A prompt of a million tokens."""

REFUSAL_S: Final = 0.05
"""How long the status of a stream waits for the engine's first event or refusal, so that a refusal can be a status: one
takes well under a millisecond, unless a grammar is compiled. A later refusal is an event of the stream."""

SHUTDOWN_S: Final = 5
"""For answers to end when the server stops; the engine cancels them where it is closed first."""


def completion_app(engine: Engine, *, credential: str | None = None) -> ASGIApp:
    """The ASGI application over an engine that is running; with a credential, clients have to present it (Bearer)."""

    async def models(request: Request) -> JSONResponse:
        try:
            check_credential(request, credential)
        except Unauthenticated as error:
            return refusal(error)
        profile = engine.profile
        model = {"id": profile.model, "object": "model", "created": 0, "owned_by": "asterism"}
        # vLLM's name for the context.
        return JSONResponse({"object": "list", "data": [{**model, "max_model_len": profile.context_tokens}]})

    routes = [
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/completions", Completions(engine, credential), methods=["POST"]),
    ]
    return Starlette(routes=routes)


@asynccontextmanager
async def serving(
    engine: Engine, *, host: str = "127.0.0.1", port: int = 0, credential: str | None = None
) -> AsyncIterator[str]:
    """Serves on the running loop while the context is open; gives the base URL, that of port 0 with the one taken."""
    config = uvicorn.Config(
        completion_app(engine, credential=credential),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    server = _Server(config)
    with socket.create_server((host, port)) as listening:
        # No TaskGroup: it would wrap what the body raises.
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield f"http://{host}:{listening.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            await task


class _Server(uvicorn.Server):
    """Leaves signals to the program that it is a part of."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Completions:
    """The endpoint of `/v1/completions`."""

    def __init__(self, engine: Engine, credential: str | None) -> None:
        self._engine = engine
        self._credential = credential

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            check_credential(request, self._credential)
            asked = read_body(await read_bytes(request), self._engine.profile.model)
            completion_id = f"cmpl-{uuid.uuid4().hex}"
            requests = asked.requests(completion_id)
        except AsterismError as error:
            await refusal(error)(scope, receive, send)
            return
        except ClientDisconnect:
            return
        answer = Answer(completion_id, asked, requests, send)
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(self._answer(answer, requests, request, send))
            leaving = group.create_task(_client_left(receive))
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            answering.cancel()
            leaving.cancel()

    async def _answer(
        self, answer: "Answer", requests: Sequence[GenerationRequest], request: Request, send: Send
    ) -> None:
        async with aclosing(self._engine.generate(requests)) as events, asyncio.TaskGroup() as group:
            beginning = group.create_task(_first(events))
            if answer.is_streamed:
                await asyncio.wait({beginning}, timeout=REFUSAL_S)
                if not beginning.done():
                    await answer.start()
            first = await beginning
            if isinstance(first, AsterismError):
                if answer.has_started:
                    await answer.say({"error": error_json(first)})
                    await answer.finish()
                else:
                    await refusal(first)(request.scope, request.receive, send)
            elif answer.is_streamed:
                await answer.stream(first, events)
            else:
                await (await whole(answer, first, events))(request.scope, request.receive, send)


class Answer:
    """What is said about one body."""

    def __init__(
        self, completion_id: str, asked: CompletionBody, requests: Sequence[GenerationRequest], send: Send
    ) -> None:
        self.has_started = False
        self.is_streamed = asked.stream
        self.numbers = {request.id: number for number, request in enumerate(requests)}
        self._options = asked.options
        self._send = send
        self._envelope = {
            "id": completion_id,
            "object": "text_completion",
            "created": int(time.time()),
            "model": asked.model,
        }

    def completion(self, choices: Sequence[Mapping[str, object]], **others: object) -> dict[str, object]:
        return {**self._envelope, "choices": choices, **others}

    async def start(self) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        self.has_started = True

    async def say(self, value: Mapping[str, object]) -> None:
        """One server-sent event."""
        data = b"data: " + json.dumps(value).encode() + b"\n\n"
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self) -> None:
        await self._send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})

    async def stream(self, first: EngineEvent, events: AsyncGenerator[EngineEvent, None]) -> None:
        if not self.has_started:
            await self.start()
        said = dict.fromkeys(self.numbers, 0)
        ends = list[GenerationEnd]()
        async for event in _with_first(first, events):
            number = self.numbers[event.request_id]
            if isinstance(event, GenerationChunk):
                said[event.request_id] += event.tokens
                choice, so_far = chunk_choice(number, event), usage_so_far(said[event.request_id])
            elif event.finish_reason == "error":
                await self.say({"error": failure_json(event)})
                break
            else:
                ends.append(event)
                choice, so_far = end_choice(number, event), usage([event])
            continuous = {"usage": so_far} if self._options.continuous_usage_stats else {}
            await self.say(self.completion([choice], **continuous))
        else:
            if self._options.include_usage:
                await self.say(self.completion([], usage=usage(ends)))
        await self.finish()


async def whole(answer: Answer, first: EngineEvent, events: AsyncGenerator[EngineEvent, None]) -> JSONResponse:
    """The answer in one piece, to a client that did not ask for a stream."""
    texts = dict.fromkeys(answer.numbers, "")
    logprobs: dict[str, list[TokenLogprob]] = {request_id: [] for request_id in texts}
    ends = dict[str, GenerationEnd]()
    async for event in _with_first(first, events):
        if isinstance(event, GenerationChunk):
            texts[event.request_id] += event.text
            logprobs[event.request_id].extend(event.logprobs)
        elif event.finish_reason == "error":
            return JSONResponse({"error": failure_json(event)}, status_code=500)
        else:
            ends[event.request_id] = event
    choices = [
        {
            **end_choice(number, ends[request_id]),
            "text": texts[request_id],
            "logprobs": logprobs_json(logprobs[request_id]) if logprobs[request_id] else None,
        }
        for request_id, number in answer.numbers.items()
    ]
    return JSONResponse(answer.completion(choices, usage=usage(list(ends.values()))))


def check_credential(request: Request, credential: str | None) -> None:
    """Raises `Unauthenticated` for a client that did not present the credential, where one is wanted."""
    if credential is None:
        return
    scheme, _, presented = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(presented.encode(), credential.encode()):
        raise Unauthenticated("present the server's credential: Authorization: Bearer ...")


async def read_bytes(request: Request) -> bytes:
    """The body. Raises `InvalidRequest` for one that is too long, before it is all there."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise InvalidRequest("body", f"has more than {MAX_BODY_BYTES} bytes")
    return bytes(body)


def refusal(error: AsterismError) -> JSONResponse:
    headers = {"retry-after": f"{error.retry_after_s:g}"} if isinstance(error, Overloaded) else None
    return JSONResponse({"error": error_json(error)}, status_code=_status(error), headers=headers)


def error_json(error: AsterismError) -> dict[str, object]:
    """An error as OpenAI's API writes one: `param` is the field."""
    if isinstance(error, InvalidField):
        return {"message": error.reason, "type": "invalid_request_error", "param": error.field, "code": _status(error)}
    if isinstance(error, NotFound):
        return {"message": error.message, "type": "NotFoundError", "param": error.kind, "code": _status(error)}
    return {"message": error.message, "type": type(error).__name__, "param": None, "code": _status(error)}


def failure_json(end: GenerationEnd) -> dict[str, object]:
    return {"message": end.error, "type": "server_error", "param": None, "code": 500}


def _status(error: AsterismError) -> int:
    match error:
        case InvalidField():
            return 400
        case NotFound():
            return 404
        case Unauthenticated():
            return 401
        case Overloaded():
            return 429
        case EngineClosed():
            return 503
        case _:
            return 500


async def _first(events: AsyncGenerator[EngineEvent, None]) -> EngineEvent | AsterismError:
    """The engine's first event, or why it refused."""
    try:
        return await anext(events)
    except AsterismError as error:
        return error


async def _with_first(
    first: EngineEvent, events: AsyncGenerator[EngineEvent, None]
) -> AsyncGenerator[EngineEvent, None]:
    yield first
    async for event in events:
        yield event


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
