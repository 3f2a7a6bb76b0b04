"""Serves a program's asks for text: forks decode side by side, each thread streams under its id, ends are joined."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, assert_never

from asterism.agents.asks import (
    CancelBranches,
    Chat,
    Clock,
    ClockReading,
    Close,
    Fork,
    Forked,
    Generate,
    Generated,
    Join,
    Listen,
    Open,
    TextAsk,
    TextReply,
    segments_of,
)
from asterism.orchestrator.core.errors import AsterismError, InvalidField
from asterism.orchestrator.core.events import Chunk
from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.seam import EngineEvent, GenerationChunk, GenerationEnd, GenerationRequest
from asterism.workers.requesting import bearable, finished, prompt_request, request_for
from asterism.workers.text_streams import EngineLoad, StreamChunk, TextStreams

MAX_LIVE: Final = 256
"""Texts of one attempt that decode at the same time."""
MAX_UNJOINED: Final = 4096
"""Ends of one attempt that wait to be joined: a program that forks and never joins must not fill the memory."""


@dataclass(slots=True)
class _Thread:
    """A text that still decodes."""

    name: str
    group: int
    texts: list[str] = field(default_factory=list)
    tokens: int = 0


class ThreadDesk:
    """Owned by one attempt. Its tasks are children of `children`; `stop` ends them."""

    def __init__(self, load: EngineLoad, name: str, stream: StreamChunk, children: asyncio.TaskGroup) -> None:
        self._load = load
        self._engine = load.engine
        self._name = name
        self._stream = stream
        self._children = children
        self._streams = TextStreams(load, name, stream, children)
        self._tasks: set[asyncio.Task[None]] = set()
        self._live: dict[str, _Thread] = {}
        self._ended: list[Generated] = []
        self._refusals: dict[int, AsterismError] = {}
        self._changed = asyncio.Event()
        self._requests = 0
        self._groups = 0

    async def serve(self, ask: TextAsk) -> TextReply:
        """Do what is asked; raises what the engine refuses it with."""
        match ask:
            case Generate() | Chat():
                forked = self._fork([request_for(self._next_id(), ask)], [ask.thread])
                return await self._join(forked.group)
            case Open(opened):
                return self._streams.open(opened)
            case Listen(stream):
                return await self._streams.listen(stream)
            case Close(stream):
                await self._streams.close(stream)
                return None
            case Fork(prefix, branches):
                shared = segments_of(prefix)
                requests = [
                    prompt_request(self._next_id(), (*shared, *segments_of(branch.suffix)), branch.sampling)
                    for branch in branches
                ]
                return self._fork(requests, [branch.thread for branch in branches])
            case Join(group):
                return await self._join(self._known(group))
            case CancelBranches(group, _, threads):
                return await self._cancel(self._known(group), threads)
            case Clock():
                return ClockReading(asyncio.get_running_loop().time(), self._load.free_slots)
            case _:
                assert_never(ask)

    def stop(self) -> None:
        """Cancel what still decodes; the tasks end in a moment."""
        for task in self._tasks:
            task.cancel()
        self._streams.stop()

    def _known(self, group: int | None) -> int | None:
        if group is not None and not 0 <= group < self._groups:
            raise InvalidField("group", f"{group} is not the number of a fork of this program")
        return group

    def _next_id(self) -> str:
        self._requests += 1
        return f"{self._name}:{self._requests}"

    def _fork(self, requests: Sequence[GenerationRequest], names: Sequence[str]) -> Forked:
        if len(self._live) + len(names) > MAX_LIVE:
            raise InvalidField("fork.branches", f"{len(self._live)} branches decode already; {MAX_LIVE} in all")
        if len(self._ended) + len(names) > MAX_UNJOINED:
            raise InvalidField("fork.branches", f"{len(self._ended)} branches ended and were never joined")
        group = self._groups
        self._groups += 1
        threads = {request.id: _Thread(name, group) for request, name in zip(requests, names, strict=True)}
        self._live |= threads
        self._load.live += len(threads)
        task = self._children.create_task(self._collect(group, requests, threads))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return Forked(group=group, prompt_tokens=0)

    async def _join(self, group: int | None) -> Generated | None:
        while True:
            for index, ended in enumerate(self._ended):
                if group is None or ended.group == group:
                    return self._ended.pop(index)
            refused = next((number for number in self._refusals if group in (None, number)), None)
            if refused is not None:
                # A fork that was refused stays refused for whoever joins it; joining all tells of it once.
                raise self._refusals[refused] if group is not None else self._refusals.pop(refused)
            if not any(group in (None, thread.group) for thread in self._live.values()):
                return None
            await self._next_change()

    async def _cancel(self, group: int | None, threads: tuple[str, ...]) -> tuple[Generated, ...]:
        named = frozenset(threads)
        stopped = [
            (request_id, thread)
            for request_id, thread in self._live.items()
            if group in (None, thread.group) and (not named or thread.name in named)
        ]
        request_ids = [request_id for request_id, _ in stopped]
        await self._engine.cancel(request_ids)
        while any(request_id in self._live for request_id in request_ids):
            await self._next_change()
        if group is not None and group in self._refusals:
            raise self._refusals[group]
        keys = {(thread.group, thread.name) for _, thread in stopped}
        cut_off = tuple(one for one in self._ended if _is_cut(one, keys))
        self._ended = [one for one in self._ended if not _is_cut(one, keys)]
        return cut_off

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _collect(self, group: int, requests: Sequence[GenerationRequest], threads: dict[str, _Thread]) -> None:
        """Take what the engine yields until every branch has ended; a refusal is kept for whoever joins."""
        try:
            async with aclosing(self._engine.generate(requests)) as events:
                await self._take(events)
        except InvalidRequest as refusal:
            reason = bearable(refusal, requests)
            if reason is None:
                self._refusals[group] = refusal
            else:
                for request_id in [request_id for request_id in threads if request_id in self._live]:
                    thread = threads[request_id]
                    self._end(request_id, Generated(thread.name, "", reason, None, 0, 0, 0, group=group))
        except AsterismError as refusal:
            self._refusals[group] = refusal
        finally:
            for request_id in threads:
                if self._live.pop(request_id, None) is not None:
                    self._load.live -= 1
            self._changed.set()

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
                    model = self._engine.profile.model
                    self._end(
                        event.request_id,
                        finished(thread.name, thread.texts, event, model=model, group=thread.group),
                    )
                case _:
                    assert_never(event)

    def _end(self, request_id: str, ended: Generated) -> None:
        del self._live[request_id]
        self._load.live -= 1
        self._ended.append(ended)
        self._changed.set()


def _is_cut(ended: Generated, keys: set[tuple[int, str]]) -> bool:
    return ended.finish_reason == "cancelled" and (ended.group, ended.thread) in keys
