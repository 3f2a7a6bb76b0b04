"""The engine that recites: texts from a script, for tests of everything above the seam. No torch, no clock, no tasks.

A token is a run of characters without white space, with the white space before it. Every token is certain: what shapes
a distribution changes nothing, a banned token is left out, and a grammar is not looked at.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from asterism.workers.engine.errors import EngineClosed
from asterism.workers.engine.metrics import EngineStats
from asterism.workers.engine.plain_chat import request_text
from asterism.workers.engine.prefix_tree import shared_prefix
from asterism.workers.engine.seam import (
    EngineEvent,
    EngineProfile,
    FinishReason,
    GenerationChunk,
    GenerationEnd,
    GenerationRequest,
    TokenLogprob,
    check_prompt_length,
    check_requests,
)
from asterism.workers.engine.stops import StopScanner

Script = Mapping[str, str] | Callable[[GenerationRequest], str]
"""The answer to each prompt; conversations are prompts in their plain form. One that a mapping does not have ends as
`error`."""

_TOKEN = re.compile(r"\s*\S+|\s+$")


def split_tokens(text: str) -> list[str]:
    """The tokens of a text; together they are the text."""
    return _TOKEN.findall(text)


@dataclass(slots=True)
class Recital:
    """A live request and where it stands."""

    request: GenerationRequest
    tokens: list[str]
    prompt: list[str]
    cached_tokens: int
    scanner: StopScanner
    position: int = 0
    unreported: list[str] = field(default_factory=list)
    """Tokens recited since the last chunk."""
    events: list[EngineEvent] = field(default_factory=list)
    is_cancelled: bool = False

    def step(self, context_tokens: int) -> bool:
        """Recites a token, or ends; False after the end."""
        if self.request.max_tokens == 0:
            return self.end("length")
        if self.position == len(self.tokens):
            return self.end("end")
        token = self.tokens[self.position]
        self.position += 1
        self.unreported.append(token)
        scanned = self.scanner.push(token)
        self._say(scanned.text)
        if scanned.stop is not None:
            return self.end("stop", stop=scanned.stop)
        if self.position >= self.request.max_tokens or len(self.prompt) + self.position >= context_tokens:
            return self.end("length")
        return True

    def end(self, reason: FinishReason, *, stop: str | None = None, error: str | None = None) -> bool:
        """Adds the last events of the request; False, for a caller that has to say so."""
        if reason != "stop":
            self._say(self.scanner.flush())
        self.events.append(
            GenerationEnd(
                request_id=self.request.id,
                finish_reason=reason,
                stop=stop,
                tokens=self.position,
                prompt_tokens=len(self.prompt),
                cached_tokens=self.cached_tokens,
                error=error,
            )
        )
        return False

    def _say(self, text: str) -> None:
        if not text:
            return
        tokens, self.unreported = self.unreported, []
        asked = self.request.logprobs
        logprobs = () if asked is None else tuple(TokenLogprob(each, 0.0, ((each, 0.0),)[:asked]) for each in tokens)
        self.events.append(
            GenerationChunk(request_id=self.request.id, text=text, tokens=len(tokens), logprobs=logprobs)
        )


class ScriptedEngine:
    """An `Engine` that needs no model. `paced=True` makes each step wait for a permit from `allow`."""

    def __init__(
        self,
        script: Script,
        *,
        model: str = "scripted",
        context_tokens: int = 4096,
        max_sequences: int = 16,
        paced: bool = False,
    ) -> None:
        self._script = script
        self._profile = EngineProfile(
            model=model, context_tokens=context_tokens, max_sequences=max_sequences, device="none", parameters=0
        )
        self._paced = paced
        self._permits = 0
        self._turn = asyncio.Condition()
        self._is_running = False
        self._live: dict[str, Recital] = {}
        self._seen: deque[list[str]] = deque(maxlen=max_sequences)
        self._cached = self._asked = self._recited = 0
        self.requests: list[GenerationRequest] = []
        """Every request that was accepted, in order: what a test may assert on."""

    @property
    def profile(self) -> EngineProfile:
        return self._profile

    def stats(self) -> EngineStats:
        """What the others count, as far as there is something to count without a clock and a memory."""
        return EngineStats(
            num_requests_running=len(self._live),
            prefix_cache_queries=self._asked,
            prefix_cache_hits=self._cached,
            generation_tokens=self._recited,
        )

    async def start(self) -> None:
        self._is_running = True

    async def allow(self, steps: int) -> None:
        """Lets that many steps happen; in a step each live request of one `generate` call recites a token."""
        async with self._turn:
            self._permits += steps
            self._turn.notify_all()

    async def generate(self, requests: Sequence[GenerationRequest]) -> AsyncGenerator[EngineEvent, None]:
        if not self._is_running:
            raise EngineClosed("it is not running")
        check_requests(requests, self._live)
        prompts = [split_tokens(request_text(request)) for request in requests]
        for prompt in prompts:
            check_prompt_length(len(prompt), self._profile.context_tokens)
        live = [self._open(request, prompt) for request, prompt in zip(requests, prompts, strict=True)]
        mine = {recital.request.id: recital for recital in live}
        self._live |= mine
        self.requests.extend(requests)
        try:
            while mine:
                may_recite = await self._next_turn(mine)
                for request_id, recital in list(mine.items()):
                    if recital.is_cancelled:
                        goes_on = recital.end("cancelled")
                    else:
                        goes_on = not may_recite or self._recite(recital)
                    events, recital.events = recital.events, []
                    if not goes_on:
                        del mine[request_id], self._live[request_id]
                        self._seen.append(recital.prompt + recital.tokens[: recital.position])
                    for event in events:
                        yield event
        finally:
            for request_id in mine:
                del self._live[request_id]

    async def cancel(self, request_ids: Collection[str]) -> None:
        async with self._turn:
            for request_id in request_ids:
                if request_id in self._live:
                    self._live[request_id].is_cancelled = True
            self._turn.notify_all()

    async def close(self) -> None:
        self._is_running = False
        await self.cancel(list(self._live))

    def _open(self, request: GenerationRequest, prompt: list[str]) -> Recital:
        known = [shared_prefix(prompt[:-1], tokens) for tokens in self._seen]
        self._seen.append(prompt)
        script = self._script
        text = script.get(request_text(request)) if isinstance(script, Mapping) else script(request)
        tokens = [token for token in split_tokens(text or "") if token.strip() not in request.banned]
        recital = Recital(request, tokens, prompt, max(known, default=0), StopScanner(request.stop))
        self._asked += len(prompt)
        self._cached += recital.cached_tokens
        if text is None:
            recital.end("error", error="the script has no answer to this prompt")
        return recital

    def _recite(self, recital: Recital) -> bool:
        if recital.events:  # the end that `_open` wrote
            return False
        before = recital.position
        goes_on = recital.step(self._profile.context_tokens)
        self._recited += recital.position - before
        return goes_on

    async def _next_turn(self, mine: Mapping[str, Recital]) -> bool:
        """True for a step; False when, before one was allowed, something was cancelled."""
        if not self._paced:
            await asyncio.sleep(0)  # others get their turn between two steps, as they do beside a real engine
            return True
        async with self._turn:
            await self._turn.wait_for(
                lambda: self._permits > 0 or any(recital.is_cancelled for recital in mine.values())
            )
            if any(recital.is_cancelled for recital in mine.values()):
                return False
            self._permits -= 1
            return True
