"""One request of HTTP to a completion server: what is sent, how its stream is read, and whether to ask again."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, cast

from asterism.orchestrator.core.errors import AsterismError, Overloaded
from asterism.workers.engine.errors import InvalidRequest, describe
from asterism.workers.engine.http_dialects import Api, Dialect, extra_fields
from asterism.workers.engine.http_retry import RETRIED, Patience
from asterism.workers.engine.http_stream import Reading, failed_code, refusal, retry_after_s
from asterism.workers.engine.seam import EngineEvent, GenerationEnd, GenerationRequest, Grammar, Message, prompt_text

if TYPE_CHECKING:
    from openai import AsyncOpenAI, AsyncStream
    from openai.types import Completion
    from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

PROBE: Final = (Message("user", "1"),)
ANY: Final = Grammar(
    "json_schema", '{"type": "object", "properties": {}, "required": [], "additionalProperties": false}'
)
"""Asks for little, to see whether a server constrains answers at all."""


@dataclass(slots=True)
class Exchange:
    """A live request."""

    reading: Reading
    waits_for: asyncio.Event | None
    """Set when the prompt of the request that it shares a beginning with has been computed."""
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    is_cancelled: bool = False

    @property
    def request(self) -> GenerationRequest:
        return self.reading.request


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server has begun to answer."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The server will not answer."""

    request_id: str
    error: AsterismError


@dataclass(frozen=True, slots=True)
class Again:
    """Nothing was said, and another try may do."""

    otherwise: GenerationEnd | Refused
    """How it ends where there is no other try."""
    asked_s: float | None = None
    """How long the server asks to wait."""


News = EngineEvent | Accepted | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """How much is asked of a server, and how long for."""

    max_sequences: int = 64
    """Requests that it is sent at the same time; others wait here."""
    max_tokens: int | None = None
    """Of one answer, whatever a request asks for; it ends as `length` there."""
    connect_s: float = 10.0
    first_token_s: float = 600.0
    """From the request to its first event: a busy server lets it wait, and a long prompt takes its time."""
    token_s: float = 120.0
    """Between two events."""
    patience: Patience = field(default_factory=lambda: Patience(retries=0))


NO_LIMITS: Final = ServerLimits()


class Caller:
    """Asks one model of one server."""

    def __init__(
        self,
        client: "AsyncOpenAI",
        base_url: str,
        model: str,
        *,
        api: Api | None,
        dialect: Dialect,
        has_schemas: bool | None,
        limits: ServerLimits,
    ) -> None:
        self._client = client
        self._base_url = base_url
        self._model = model
        self._api: Api | None = api
        self._dialect: Dialect = dialect
        self._has_schemas = has_schemas
        self._limits = limits

    async def close(self) -> None:
        await self._client.close()

    async def attempt(self, exchange: Exchange, news: "asyncio.Queue[News]") -> "GenerationEnd | Refused | Again":
        """One request of HTTP: how it ended, or that it is worth another one, which is only where nothing was said."""
        from httpx2 import HTTPError
        from openai import APIConnectionError, APIError, APIStatusError

        request, reading = exchange.request, exchange.reading
        has_heard = has_said = False
        try:
            async with asyncio.timeout(self._limits.first_token_s) as silence:
                async with await self._ask(request) as stream:
                    news.put_nowait(Accepted(request.id))
                    async for completion in stream:
                        has_heard = True
                        exchange.has_begun.set()
                        silence.reschedule(asyncio.get_running_loop().time() + self._limits.token_s)
                        for chunk in reading.take(completion):
                            has_said = True
                            news.put_nowait(chunk)
            return reading.end()
        except InvalidRequest as error:
            return Refused(request.id, error)
        except APIStatusError as error:
            refused = Refused(request.id, refusal(error))
            if isinstance(refused.error, Overloaded):
                return Again(refused, retry_after_s(error)) if error.status_code in RETRIED else refused
            if await self._lacks_schemas(request):
                return await self.attempt(exchange, news)
            return refused
        except TimeoutError:
            wait_s = self._limits.token_s if has_heard else self._limits.first_token_s
            end = reading.failed(f"the server at {self._base_url} has said nothing for {wait_s:g} s")
            return end if has_said else Again(end)
        except (APIError, HTTPError) as error:
            end = reading.failed(f"the server at {self._base_url}: {error}")
            is_lost = isinstance(error, APIConnectionError | HTTPError) or failed_code(error) in RETRIED
            return Again(end) if is_lost and not has_said else end
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            # The client of openai builds what it gives without checking it.
            return reading.failed(f"the server at {self._base_url} sent what is no event: {describe(error)}")

    async def _ask(self, request: GenerationRequest) -> "AsyncStream[Completion] | AsyncStream[ChatCompletionChunk]":
        api: Api = self._api or ("chat" if request.messages else "completions")
        dialect = self._dialect
        extra_body = extra_fields(request, dialect, api, has_schemas=self._has_schemas is not False)
        if api == "completions":
            return await self._client.completions.create(
                model=self._model,
                prompt=prompt_text(request.prompt),
                temperature=request.temperature,
                top_p=request.top_p,
                presence_penalty=request.presence_penalty,
                frequency_penalty=request.frequency_penalty,
                logprobs=request.logprobs,
                seed=request.seed,
                stop=list(request.stop) or None,
                stream=True,
                extra_body=extra_body,
            )
        return await self._client.chat.completions.create(
            model=self._model,
            messages=chat_messages(request),
            temperature=request.temperature,
            top_p=request.top_p,
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
            logprobs=None if request.logprobs is None else True,
            top_logprobs=request.logprobs,
            seed=request.seed,
            stop=list(request.stop) or None,
            stream=True,
            extra_body=extra_body,
        )

    async def _lacks_schemas(self, request: GenerationRequest) -> bool:
        """Whether a request was refused for its schema by a server that has none at all: asked once, and remembered."""
        from openai import APIError, APIStatusError

        if request.grammar is None or request.grammar.kind != "json_schema" or self._has_schemas is not None:
            return False
        probe = replace(
            request,
            prompt="1" if request.prompt else "",
            messages=request.messages and PROBE,
            grammar=ANY,
            max_tokens=1,
        )
        try:
            async with await self._ask(probe) as stream:
                async for _ in stream:
                    pass
        except APIStatusError as error:
            # What is wrong with a busy server is not known.
            self._has_schemas = None if error.status_code in RETRIED else False
        except (APIError, InvalidRequest):
            return False
        else:
            self._has_schemas = True
        return self._has_schemas is False


def chat_messages(request: GenerationRequest) -> "list[ChatCompletionMessageParam]":
    """A conversation as the API has it; a prompt is what the user says."""
    messages = request.messages or (Message("user", prompt_text(request.prompt)),)
    return [cast("ChatCompletionMessageParam", {"role": each.role, "content": each.text}) for each in messages]
