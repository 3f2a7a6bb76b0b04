"""The engine on another machine: any server of OpenAI's completion API (vLLM, SGLang, llama.cpp, ours), streamed.

A request of the seam is a request of HTTP. What they share is computed once where the server caches prefixes: of
requests whose prompts begin alike, the others are sent when the first one's prompt has been computed.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from asterism.orchestrator.core.errors import AsterismError, Misconfigured, Unreachable
from asterism.workers.engine.errors import EngineClosed
from asterism.workers.engine.http_stream import Reading, extra_fields, refusal
from asterism.workers.engine.metrics import EngineStats
from asterism.workers.engine.plain_chat import request_text
from asterism.workers.engine.seam import (
    EngineEvent,
    EngineProfile,
    GenerationEnd,
    GenerationRequest,
    check_requests,
)

if TYPE_CHECKING:
    from openai import AsyncOpenAI

SHARED_CHARACTERS: Final = 32
"""Prompts that are alike up to here count as forks of one prefix."""

CONNECT_S: Final = 10.0


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


News = EngineEvent | Accepted | Refused


class HttpEngine:
    """An `Engine` over the completion server at a base URL, which ends in `/v1`."""

    def __init__(
        self,
        base_url: str,
        *,
        model: str | None = None,
        credential: str | None = None,
        context_tokens: int | None = None,
        max_sequences: int = 64,
        silence_s: float = 600.0,
    ) -> None:
        """`model` defaults to the server's only one, `context_tokens` to what the server says (vLLM's does).

        After `silence_s` without a byte the server counts as lost.
        """
        self._base_url = base_url
        self._model = model
        self._credential = credential
        self._context_tokens = context_tokens
        self._max_sequences = max_sequences
        self._silence_s = silence_s
        self._client: AsyncOpenAI | None = None
        self._was_started = False
        self._live: dict[str, Exchange] = {}
        self._asked = self._cached = self._generated = 0

    @property
    def profile(self) -> EngineProfile:
        """Complete after `start`."""
        return EngineProfile(
            model=self._model or "",
            context_tokens=self._context_tokens or 0,
            max_sequences=self._max_sequences,
            device=self._base_url,
            parameters=0,
        )

    def stats(self) -> EngineStats:
        """What can be seen from here: requests of ours, and tokens of those that have ended."""
        return EngineStats(
            num_requests_running=len(self._live),
            prefix_cache_queries=self._asked,
            prefix_cache_hits=self._cached,
            generation_tokens=self._generated,
        )

    async def start(self) -> None:
        """Finds the model. Raises `Unreachable`, or `Misconfigured` where the server does not have what was named."""
        if self._was_started:
            raise EngineClosed("an engine starts once")
        self._was_started = True
        # Half a second to import: a worker that never speaks to a server never pays it.
        from openai import APIError, AsyncOpenAI, Timeout

        client = AsyncOpenAI(
            base_url=self._base_url,
            api_key=self._credential or "none",
            timeout=Timeout(self._silence_s, connect=CONNECT_S),
            # What asked for the text decides about another try.
            max_retries=0,
        )
        try:
            offered = {model.id: model.model_extra or {} async for model in client.models.list()}
            self._choose(offered)
        except APIError as error:
            await client.close()
            raise Unreachable(self._base_url, f"its models cannot be listed: {error.message}") from error
        except Misconfigured:
            await client.close()
            raise
        self._client = client

    def _choose(self, offered: Mapping[str, Mapping[str, object]]) -> None:
        model = self._model or (next(iter(offered)) if len(offered) == 1 else "")
        if model not in offered:
            raise Misconfigured("model", f"is {self._model!r}; the server at {self._base_url} has {sorted(offered)}")
        self._model = model
        if self._context_tokens is None:
            context = offered[model].get("max_model_len")
            if not isinstance(context, int):
                raise Misconfigured("context_tokens", f"the server at {self._base_url} does not say it: name it")
            self._context_tokens = context

    async def generate(self, requests: Sequence[GenerationRequest]) -> AsyncGenerator[EngineEvent, None]:
        client = self._client
        if client is None:
            raise EngineClosed("it is not running")
        check_requests(requests, self._live)
        mine = {exchange.request.id: exchange for exchange in forked(requests)}
        self._live |= mine
        news: asyncio.Queue[News] = asyncio.Queue()  # never holds more than an item for each token that was asked for
        # Tasks without a group, for a TaskGroup around a `yield` wraps the closing of its generator. They end below.
        for exchange in mine.values():
            exchange.task = asyncio.create_task(self._converse(client, exchange, news))
            exchange.task.add_done_callback(partial(_conclude, exchange, news))
        try:
            held = list[EngineEvent]()
            undecided = {request_id for request_id, exchange in mine.items() if exchange.waits_for is None}
            while mine:
                item = await news.get()
                may_refuse = bool(undecided)
                undecided.discard(item.request_id)
                if isinstance(item, Refused):
                    if may_refuse:
                        raise item.error
                    item = mine[item.request_id].reading.failed(item.error.message)
                if not isinstance(item, Accepted):
                    held.append(item)
                # Nothing is said until all that were sent are accepted, so that one that is refused refuses the batch.
                while held and not undecided:
                    event = held.pop(0)
                    if isinstance(event, GenerationEnd):
                        del mine[event.request_id], self._live[event.request_id]
                        self._asked += event.prompt_tokens
                        self._cached += event.cached_tokens
                        self._generated += event.tokens
                    yield event
        finally:
            for request_id in mine:
                del self._live[request_id]
            await _end_tasks(mine.values())

    async def cancel(self, request_ids: Collection[str]) -> None:
        for request_id in request_ids:
            exchange = self._live.get(request_id)
            if exchange is not None and exchange.task is not None:
                exchange.is_cancelled = True
                exchange.task.cancel()

    async def close(self) -> None:
        client, self._client = self._client, None
        live = list(self._live.values())
        await self.cancel([exchange.request.id for exchange in live])
        await _end_tasks(live)
        if client is not None:
            await client.close()

    async def _converse(self, client: "AsyncOpenAI", exchange: Exchange, news: "asyncio.Queue[News]") -> None:
        """One request of HTTP. Leaving it, in whatever way, closes its stream."""
        from openai import APIError, APIStatusError

        request, reading = exchange.request, exchange.reading
        if exchange.waits_for is not None:
            await exchange.waits_for.wait()
        try:
            stream = await client.completions.create(
                model=self._model or "",
                prompt=request_text(request),
                # Servers do not agree on 0. A token more is computed with the prompt, and forgotten.
                max_tokens=max(1, request.max_tokens),
                temperature=request.temperature,
                top_p=request.top_p,
                presence_penalty=request.presence_penalty,
                frequency_penalty=request.frequency_penalty,
                logprobs=request.logprobs,
                seed=request.seed,
                stop=list(request.stop) or None,
                stream=True,
                extra_body=extra_fields(request),
            )
            async with stream:
                news.put_nowait(Accepted(request.id))
                async for completion in stream:
                    exchange.has_begun.set()
                    for chunk in reading.take(completion):
                        news.put_nowait(chunk)
            news.put_nowait(reading.end())
        except APIStatusError as error:
            news.put_nowait(Refused(request.id, refusal(error)))
        except APIError as error:
            news.put_nowait(reading.failed(f"the server at {self._base_url}: {error.message}"))


def forked(requests: Sequence[GenerationRequest]) -> list[Exchange]:
    """The requests' exchanges, in order; of those that begin alike, all but the first wait for the first."""
    firsts = dict[str, Exchange]()
    exchanges = list[Exchange]()
    for request in requests:
        beginning = request_text(request)[:SHARED_CHARACTERS]
        first = firsts.get(beginning) if len(beginning) == SHARED_CHARACTERS else None
        exchange = Exchange(Reading(request), None if first is None else first.has_begun)
        firsts.setdefault(beginning, exchange)
        exchanges.append(exchange)
    return exchanges


def _conclude(exchange: Exchange, news: "asyncio.Queue[News]", task: asyncio.Task[None]) -> None:
    """Says the end of an exchange that did not say it itself: it was cancelled, or an error was nobody's.

    Also lets those go on that wait for its prompt; a task that is cancelled before its first step runs nothing itself.
    """
    exchange.has_begun.set()
    if task.cancelled():
        if exchange.is_cancelled:
            news.put_nowait(exchange.reading.cancelled())
    elif (error := task.exception()) is not None:
        news.put_nowait(exchange.reading.failed(f"{type(error).__name__}: {error}"))


async def _end_tasks(exchanges: Iterable[Exchange]) -> None:
    tasks = [exchange.task for exchange in exchanges if exchange.task is not None]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
