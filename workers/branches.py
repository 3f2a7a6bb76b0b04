"""The reasoning threads of one fork: decoded as one batch, streamed as they come, joined in the order of their ends."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import assert_never

from asterism.agents.asks import Generated
from asterism.orchestrator.core.errors import AsterismError
from asterism.orchestrator.core.events import Chunk
from asterism.workers.engine.seam import Engine, EngineEvent, GenerationChunk, GenerationEnd, GenerationRequest

StreamChunk = Callable[[Chunk], Awaitable[None]]
"""Takes streamed text; waits while the link has no room for more."""


@dataclass(slots=True)
class _Thread:
    """One branch that still decodes."""

    name: str
    texts: list[str] = field(default_factory=list)
    tokens: int = 0


class Branches:
    """Owned by the attempt that forked; `collect` must run as a child task for the others to make progress."""

    def __init__(
        self, engine: Engine, requests: Sequence[GenerationRequest], names: Sequence[str], stream: StreamChunk
    ) -> None:
        self._engine = engine
        self._requests = tuple(requests)
        self._live = {request.id: _Thread(name) for request, name in zip(requests, names, strict=True)}
        self._stream = stream
        self._ended: deque[Generated] = deque()
        self._changed = asyncio.Event()
        self._failure: AsterismError | None = None

    @property
    def live(self) -> int:
        """Branches that still decode."""
        return len(self._live)

    async def collect(self) -> None:
        """Take what the engine yields until every branch has ended; a refusal is kept for whoever joins."""
        try:
            async with aclosing(self._engine.generate(self._requests)) as events:
                await self._take(events)
        except AsterismError as refusal:
            self._failure = refusal
        self._live.clear()
        self._changed.set()

    async def join(self) -> Generated | None:
        """The next branch that ends, or None when none is left. Raises what the engine refused the fork with."""
        while not self._ended:
            if self._failure is not None:
                raise self._failure
            if not self._live:
                return None
            await self._next_change()
        return self._ended.popleft()

    async def cancel(self) -> tuple[Generated, ...]:
        """Stop the branches that still decode, and give their partial texts; those that ended before can be joined."""
        await self._engine.cancel(tuple(self._live))
        while self._live:
            await self._next_change()
        if self._failure is not None:
            raise self._failure
        cut_off = tuple(ended for ended in self._ended if ended.finish_reason == "cancelled")
        self._ended = deque(ended for ended in self._ended if ended.finish_reason != "cancelled")
        return cut_off

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _take(self, events: AsyncGenerator[EngineEvent, None]) -> None:
        async for event in events:
            thread = self._live[event.request_id]
            match event:
                case GenerationChunk():
                    thread.texts.append(event.text)
                    thread.tokens += event.tokens
                    await self._stream(Chunk(thread.name, event.text, event.tokens))
                case GenerationEnd():
                    unreported = event.tokens - thread.tokens
                    if unreported > 0:  # the stop string's and the end-of-text id's: no text, but work
                        await self._stream(Chunk(thread.name, "", unreported))
                    del self._live[event.request_id]
                    self._ended.append(
                        Generated(
                            thread=thread.name,
                            text="".join(thread.texts),
                            finish_reason=event.finish_reason,
                            stop=event.stop,
                            tokens=event.tokens,
                            prompt_tokens=event.prompt_tokens,
                            cached_tokens=event.cached_tokens,
                            model=self._engine.profile.model,
                        )
                    )
                    self._changed.set()
                case _:
                    assert_never(event)
