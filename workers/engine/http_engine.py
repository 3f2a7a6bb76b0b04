"""The engine on another machine: any server of OpenAI's APIs of chats or completions, streamed.

vLLM, SGLang, llama.cpp, Ollama, hosted ones, ours; `http_dialects.py` knows what they call things. None is trusted:
what it says is bounded, and what makes no sense is an error with words.

A request of the seam is a request of HTTP. What they share is computed once where the server caches prefixes: of
requests whose prompts begin alike, the others are sent when the first one's prompt has been computed.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from asterism.orchestrator.core.errors import Misconfigured, Unreachable
from asterism.workers.engine.errors import EngineClosed, describe
from asterism.workers.engine.http_bounds import bound_response
from asterism.workers.engine.http_call import NO_LIMITS, Accepted, Again, Caller, Exchange, News, Refused, ServerLimits
from asterism.workers.engine.http_dialects import DIALECT_OF, Api, Dialect
from asterism.workers.engine.http_stream import FREE, Price, Reading
from asterism.workers.engine.metrics import EngineStats
from asterism.workers.engine.plain_chat import end_of_turn, in_turns, request_text
from asterism.workers.engine.seam import (
    EngineEvent,
    EngineProfile,
    GenerationEnd,
    GenerationRequest,
    check_requests,
)

if TYPE_CHECKING:
    from openai.types import Model

SHARED_CHARACTERS: Final = 32
"""Prompts that are alike up to here count as forks of one prefix."""


class HttpEngine:
    """An `Engine` over the completion server at a base URL, which ends in `/v1`."""

    def __init__(
        self,
        base_url: str,
        *,
        model: str | None = None,
        credential: str | None = None,
        context_tokens: int | None = None,
        api: Api | None = None,
        dialect: Dialect | None = None,
        has_schemas: bool | None = None,
        price: Price = FREE,
        limits: ServerLimits = NO_LIMITS,
    ) -> None:
        """Without `model` the server must have one model only. `context_tokens` is what it says where it says it.

        `api` names the only one to use: prompts are then what the user says, or conversations prompts in their plain
        form; without it each goes to its own. `dialect` and `has_schemas` (whether it can constrain an answer by a JSON
        schema) are found out where they are not given, the latter with the first refusal.
        """
        self._base_url = base_url
        self._model = model
        self._credential = credential
        self._context_tokens = context_tokens
        self._api: Api | None = api
        self._dialect: Dialect | None = dialect
        self._has_schemas = has_schemas
        self._price = price
        self._limits = limits
        self._places = asyncio.Semaphore(limits.max_sequences)
        self._caller: Caller | None = None
        self._was_started = False
        self._live: dict[str, Exchange] = {}
        self._asked = self._cached = self._generated = 0
        self._cost = 0.0

    @property
    def profile(self) -> EngineProfile:
        """Complete after `start`."""
        return EngineProfile(
            model=self._model or "",
            context_tokens=self._context_tokens or 0,
            max_sequences=self._limits.max_sequences,
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
            cost=self._cost,
        )

    async def start(self) -> None:
        """Finds the model. Raises `Unreachable`, or `Misconfigured` where the server does not have what was named."""
        if self._was_started:
            raise EngineClosed("an engine starts once")
        self._was_started = True
        # Half a second to import: a worker that never speaks to a server never pays it.
        from httpx2 import HTTPError
        from openai import APIError, AsyncOpenAI, DefaultAsyncHttpxClient, Timeout

        client = AsyncOpenAI(
            base_url=self._base_url,
            api_key=self._credential or "none",
            timeout=Timeout(self._limits.first_token_s, connect=self._limits.connect_s),
            # Nothing is unpacked that is small on the way and large here.
            default_headers={"Accept-Encoding": "identity"},
            http_client=DefaultAsyncHttpxClient(
                # A server that is elsewhere is named where it is: no credential follows it there.
                follow_redirects=False,
                timeout=Timeout(self._limits.first_token_s, connect=self._limits.connect_s),
                event_hooks={"response": [bound_response]},
            ),
            # What asked for the text decides about another try.
            max_retries=0,
        )
        try:
            async with asyncio.timeout(self._limits.first_token_s):
                offered = {model.id: model async for model in client.models.list()}
            self._choose(offered)
        except BaseException as error:
            await client.close()
            match error:
                case Misconfigured():
                    raise
                case APIError():
                    raise Unreachable(self._base_url, f"its models cannot be listed: {error.message}") from error
                case TimeoutError():
                    raise Unreachable(self._base_url, "its list of models does not end") from error
                case HTTPError() | AttributeError() | LookupError() | TypeError() | ValueError():
                    raise Unreachable(
                        self._base_url, f"its list of models makes no sense: {describe(error)}"
                    ) from error
                case _:
                    raise
        self._caller = Caller(
            client,
            self._base_url,
            self._model or "",
            api=self._api,
            dialect=self._dialect or "plain",
            has_schemas=self._has_schemas,
            limits=self._limits,
        )

    def _choose(self, offered: "Mapping[str, Model]") -> None:
        model = self._model or (next(iter(offered)) if len(offered) == 1 else "")
        if model not in offered:
            said = "is not given" if self._model is None else f"is {self._model!r}"
            raise Misconfigured("model", f"{said}; the server at {self._base_url} has {sorted(offered)}")
        self._model = model
        if self._dialect is None:
            self._dialect = DIALECT_OF.get(offered[model].owned_by, "plain")
        if self._context_tokens is None:
            context = (offered[model].model_extra or {}).get("max_model_len")
            if not isinstance(context, int):
                raise Misconfigured("context_tokens", f"the server at {self._base_url} does not say it: name it")
            self._context_tokens = context

    async def generate(self, requests: Sequence[GenerationRequest]) -> AsyncGenerator[EngineEvent, None]:
        caller = self._caller
        if caller is None:
            raise EngineClosed("it is not running")
        check_requests(requests, self._live)
        asked = {request.id: request for request in requests}
        mine = {
            exchange.request.id: exchange
            for exchange in forked([self._as_sent(each) for each in requests], self._price)
        }
        free = max(1, self._limits.max_sequences - len(self._live))
        self._live |= mine
        news: asyncio.Queue[News] = asyncio.Queue()  # never holds more than an item for each token that was asked for
        # Tasks without a group, for a TaskGroup around a `yield` wraps the closing of its generator. They end below.
        for exchange in mine.values():
            exchange.task = asyncio.create_task(self._converse(caller, exchange, news))
            exchange.task.add_done_callback(partial(_conclude, exchange, news))
        try:
            held = list[EngineEvent]()
            # Those that wait for a place, or for another one's prompt, are decided about later.
            undecided = set([each for each, exchange in mine.items() if exchange.waits_for is None][:free])
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
                        self._cost += event.cost
                    yield end_of_turn(event, asked[event.request_id])
        finally:
            for request_id in mine:
                del self._live[request_id]
            await _end_tasks(mine.values())

    def _as_sent(self, request: GenerationRequest) -> GenerationRequest:
        most = self._limits.max_tokens
        if most is not None:
            request = replace(request, max_tokens=min(most, request.max_tokens))
        return in_turns(request) if self._api == "completions" else request

    async def cancel(self, request_ids: Collection[str]) -> None:
        for request_id in request_ids:
            exchange = self._live.get(request_id)
            if exchange is not None and exchange.task is not None:
                exchange.is_cancelled = True
                exchange.task.cancel()

    async def close(self) -> None:
        caller, self._caller = self._caller, None
        live = list(self._live.values())
        await self.cancel([exchange.request.id for exchange in live])
        await _end_tasks(live)
        if caller is not None:
            await caller.close()

    async def _converse(self, caller: Caller, exchange: Exchange, news: "asyncio.Queue[News]") -> None:
        """One request, asked for as often as patience allows. Leaving it, in whatever way, closes its stream."""
        if exchange.waits_for is not None:
            await exchange.waits_for.wait()
        async with self._places:
            tries = 0
            while True:
                tries += 1
                end = await caller.attempt(exchange, news)
                if not isinstance(end, Again):
                    news.put_nowait(end)
                    return
                delay_s = self._limits.patience.delay_s(tries, end.asked_s, random.random())
                if delay_s is None:
                    news.put_nowait(end.otherwise)
                    return
                exchange.reading = Reading(exchange.request, self._price)
                await asyncio.sleep(delay_s)


def forked(requests: Sequence[GenerationRequest], price: Price) -> list[Exchange]:
    """The requests' exchanges, in order; of those that begin alike, all but the first wait for the first."""
    firsts = dict[str, Exchange]()
    exchanges = list[Exchange]()
    for request in requests:
        beginning = request_text(request)[:SHARED_CHARACTERS]
        first = firsts.get(beginning) if len(beginning) == SHARED_CHARACTERS else None
        exchange = Exchange(Reading(request, price), None if first is None else first.has_begun)
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
