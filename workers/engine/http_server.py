"""Engines of ours behind OpenAI's APIs: `/v1/chat/completions`, `/v1/completions`, streamed or whole, and `/v1/models`.

For programs that speak to such a server, and to measure what HTTP costs. A request names its model, and so its engine.
A client that goes away cancels what it asked for.
"""

import asyncio
import hmac
import socket
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
from asterism.workers.engine.http_answer import Answer, ChatForm, CompletionForm, Form
from asterism.workers.engine.http_body import ChatBody, CompletionBody, read_body
from asterism.workers.engine.seam import Engine, EngineEvent, GenerationRequest

MAX_BODY_BYTES: Final = 4 << 20
"""A prompt of a million tokens."""

REFUSAL_S: Final = 0.05
"""How long the status of a stream waits for the engine's first event or refusal, so that a refusal can be a status: one
takes well under a millisecond, unless a grammar is compiled. A later refusal is an event of the stream."""

SHUTDOWN_S: Final = 5
"""For answers to end when the server stops; the engine cancels them where it is closed first."""


def completion_app(engines: Mapping[str, Engine], *, credential: str | None = None) -> ASGIApp:
    """The ASGI application over engines that are running, by the names that clients give.

    With a credential, clients have to present it (Bearer).
    """

    async def models(request: Request) -> JSONResponse:
        try:
            check_credential(request, credential)
        except Unauthenticated as error:
            return refusal(error)
        return JSONResponse({"object": "list", "data": [model_json(name, each) for name, each in engines.items()]})

    async def model(request: Request) -> JSONResponse:
        name: str = request.path_params["name"]
        try:
            check_credential(request, credential)
            return JSONResponse(model_json(name, find_engine(engines, name)))
        except AsterismError as error:
            return refusal(error)

    routes = [
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/{name:path}", model, methods=["GET"]),
        Route("/v1/completions", Endpoint(engines, credential, CompletionBody, CompletionForm()), methods=["POST"]),
        Route("/v1/chat/completions", Endpoint(engines, credential, ChatBody, ChatForm()), methods=["POST"]),
    ]
    return Starlette(routes=routes)


@asynccontextmanager
async def serving(
    engines: Mapping[str, Engine], *, host: str = "127.0.0.1", port: int = 0, credential: str | None = None
) -> AsyncIterator[str]:
    """Serves on the running loop while the context is open; gives the base URL, that of port 0 with the one taken.

    Raises `OSError` where it cannot listen.
    """
    config = uvicorn.Config(
        completion_app(engines, credential=credential),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    server = _Server(config)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listening:
        # No TaskGroup: it would wrap what the body raises.
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            name = f"[{host}]" if ":" in host else host
            yield f"http://{name}:{listening.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            await task


class _Server(uvicorn.Server):
    """Leaves signals to the program that it is a part of."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Endpoint:
    """The endpoint of one of the APIs."""

    def __init__(
        self,
        engines: Mapping[str, Engine],
        credential: str | None,
        kind: type[CompletionBody] | type[ChatBody],
        form: Form,
    ) -> None:
        self._engines = engines
        self._credential = credential
        self._kind = kind
        self._form = form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        answer_id = f"{self._form.prefix}-{uuid.uuid4().hex}"
        try:
            check_credential(request, self._credential)
            asked = read_body(await read_bytes(request), self._kind)
            engine = find_engine(self._engines, asked.model)
            requests = asked.requests(answer_id, engine.profile.context_tokens)
        except AsterismError as error:
            await refusal(error)(scope, receive, send)
            return
        except ClientDisconnect:
            return
        answer = Answer(self._form, answer_id, asked.model, asked.options, requests, send)
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(_answer(engine, answer, requests, request, bool(asked.stream), send))
            leaving = group.create_task(_client_left(receive))
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            answering.cancel()
            leaving.cancel()


async def _answer(
    engine: Engine,
    answer: Answer,
    requests: Sequence[GenerationRequest],
    request: Request,
    is_streamed: bool,
    send: Send,
) -> None:
    async with aclosing(engine.generate(requests)) as events, asyncio.TaskGroup() as group:
        beginning = group.create_task(_first(events))
        if is_streamed:
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
        elif is_streamed:
            await answer.stream(first, events)
        else:
            await (await answer.whole(first, events))(request.scope, request.receive, send)


def find_engine(engines: Mapping[str, Engine], model: str) -> Engine:
    """The engine of a model. Raises `NotFound`."""
    engine = engines.get(model)
    if engine is None:
        raise NotFound("model", model)
    return engine


def model_json(name: str, engine: Engine) -> dict[str, object]:
    """A model as the API lists it, with vLLM's name for the context."""
    context = engine.profile.context_tokens
    return {"id": name, "object": "model", "created": 0, "owned_by": "asterism", "max_model_len": context}


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


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
