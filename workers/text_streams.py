"""Texts that a program listens to while they are written: one task each, pieces that coalesce, ends that are kept."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, TypeAlias, assert_never

from asterism.agents.asks import Chat, Generate, Generated, Opened, Piece
from asterism.orchestrator.core.errors import AsterismError, InvalidField
from asterism.orchestrator.core.events import Chunk
from asterism.workers.engine.errors import EngineClosed, InvalidRequest
from asterism.workers.engine.seam import Engine, GenerationChunk, GenerationEnd, GenerationRequest
from asterism.workers.requesting import bearable, finished, request_for

StreamChunk: TypeAlias = Callable[[Chunk], Awaitable[None]]
"""Takes streamed text; waits while the link has no room for more."""

MAX_STREAMS: Final = 64
"""Of one attempt that are open at the same time. A text is kept until its end was heard, and no longer than that."""


class EngineLoad:
    """How many sequences the programs of this worker have in an engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.live = 0

    @property
    def free_slots(self) -> int:
        """Sequences that would decode at once, and not wait; a hint, for others may ask in the next moment."""
        return max(0, self.engine.profile.max_sequences - self.live)


@dataclass(slots=True)
class _Stream:
    thread: str
    request: GenerationRequest
    texts: list[str] = field(default_factory=list)
    tokens: int = 0
    heard: int = 0
    """How many of `texts` were given as pieces."""
    ended: Generated | None = None
    refusal: AsterismError | None = None
    has_changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class TextStreams:
    """Owned by one attempt. Its tasks are children of `children`; `stop` ends them."""

    def __init__(self, load: EngineLoad, name: str, stream: StreamChunk, children: asyncio.TaskGroup) -> None:
        self._load = load
        self._engine = load.engine
        self._name = name
        self._stream = stream
        self._children = children
        self._open: dict[int, _Stream] = {}
        self._opened = 0

    def open(self, ask: Generate | Chat) -> Opened:
        """Begin a text. Raises InvalidField where too many are open."""
        if len(self._open) >= MAX_STREAMS:
            raise InvalidField("open", f"{MAX_STREAMS} streams are open already; close one, or listen to its end")
        number = self._opened
        self._opened += 1
        stream = _Stream(ask.thread, request_for(f"{self._name}:s{number}", ask))
        self._open[number] = stream
        stream.task = self._children.create_task(self._write(stream))
        return Opened(number)

    async def listen(self, number: int) -> Piece | Generated:
        """What has come, or the end. Raises InvalidField for a stream that is not open, and what the engine refused."""
        stream = self._open.get(number)
        if stream is None:
            raise InvalidField("listen.stream", f"{number} is not the number of an open stream")
        while True:
            if stream.heard < len(stream.texts):
                piece = "".join(stream.texts[stream.heard :])
                stream.heard = len(stream.texts)
                return Piece(piece)
            if stream.ended is not None or stream.refusal is not None:
                del self._open[number]
                if stream.ended is not None:
                    return stream.ended
                assert stream.refusal is not None
                raise stream.refusal
            stream.has_changed.clear()
            await stream.has_changed.wait()

    async def close(self, number: int) -> None:
        """Stop a stream, and wait until its request is out of the engine. Raises InvalidField where it never was."""
        if not 0 <= number < self._opened:
            raise InvalidField("close.stream", f"{number} is not the number of a stream of this program")
        stream = self._open.pop(number, None)
        if stream is not None and stream.task is not None:
            stream.task.cancel()
            await asyncio.wait({stream.task})

    def stop(self) -> None:
        """Cancel what is still being written; the tasks end in a moment."""
        for stream in self._open.values():
            if stream.task is not None:
                stream.task.cancel()

    async def _write(self, stream: _Stream) -> None:
        """Take what the engine yields until the end; a refusal is kept for whoever listens."""
        self._load.live += 1
        try:
            await self._take(stream)
            if stream.ended is None:
                stream.refusal = EngineClosed("it ended a request without saying how")
        except InvalidRequest as refusal:
            reason = bearable(refusal, [stream.request])
            if reason is None:
                stream.refusal = refusal
            else:
                stream.ended = Generated(stream.thread, "", reason, None, 0, 0, 0)
        except AsterismError as refusal:
            stream.refusal = refusal
        finally:
            self._load.live -= 1
            stream.has_changed.set()

    async def _take(self, stream: _Stream) -> None:
        async with aclosing(self._engine.generate([stream.request])) as events:
            async for event in events:
                match event:
                    case GenerationChunk():
                        stream.texts.append(event.text)
                        stream.tokens += event.tokens
                        stream.has_changed.set()
                        await self._stream(Chunk(stream.thread, event.text, event.tokens))
                    case GenerationEnd():
                        stream.ended = finished(stream.thread, stream.texts, event, model=self._engine.profile.model)
                        stream.has_changed.set()
                        unreported = event.tokens - stream.tokens
                        if unreported > 0:  # the stop string's and the end-of-text id's: no text, but work
                            await self._stream(Chunk(stream.thread, "", unreported))
                    case _:
                        assert_never(event)
