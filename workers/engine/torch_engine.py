"""The engine that computes: on the event loop, requests are checked and tokenised; `engine_thread.py` does the rest."""

import asyncio
import atexit
import queue
import threading
import time
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final

from asterism.orchestrator.core.errors import Overloaded
from asterism.workers.engine.answer_memo import AnswerMemo
from asterism.workers.engine.batch_sequence import check_fits
from asterism.workers.engine.computer import ComputerFactory, default_blocks, make_computer
from asterism.workers.engine.engine_thread import Cancel, Close, Command, EngineThread, Mailbox, Outbox, Submit
from asterism.workers.engine.errors import EngineClosed, InvalidRequest
from asterism.workers.engine.folder import ModelFolder
from asterism.workers.engine.metrics import EngineStats
from asterism.workers.engine.plain_chat import end_of_turn, in_turns
from asterism.workers.engine.prompt_reader import PromptReader
from asterism.workers.engine.samplers import Samplers
from asterism.workers.engine.seam import (
    EngineEvent,
    EngineProfile,
    GenerationEnd,
    GenerationRequest,
    check_prompt_length,
    check_requests,
)

MAX_LIVE_FACTOR: Final = 64
"""Requests that may wait per slot before the engine says `Overloaded`."""

EXIT_S: Final = 10.0
"""How long a process that ends without `close` waits for the step that is being computed."""


class _LoopSide:
    """What the OS thread reaches of the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, memo: AnswerMemo) -> None:
        self._loop = loop
        self._memo = memo
        self.is_ready: asyncio.Future[None] = loop.create_future()

    def started(self, error: BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits
            self._loop.call_soon_threadsafe(self._settle, error)

    def deliver(self, outbox: Outbox) -> None:
        self._loop.call_soon_threadsafe(self._post, outbox)

    def _settle(self, error: BaseException | None) -> None:
        if self.is_ready.done():  # who waited was cancelled
            return
        if error is None:
            self.is_ready.set_result(None)
        else:
            self.is_ready.set_exception(error)

    def _post(self, outbox: Outbox) -> None:
        # Answers first: who reads an end may send its text back at once.
        for decoded in outbox.answers:
            self._memo.remember(decoded)
        for mailbox, events in outbox.events.items():
            mailbox.put_nowait(tuple(events))


class TorchEngine:
    """An `Engine` over a loaded model folder."""

    def __init__(
        self,
        model: ModelFolder,
        *,
        max_sequences: int = 16,
        context_tokens: int | None = None,
        os_threads: int = 1,
        device: str = "cpu",
        kv_blocks: int | None = None,
        make_computer: ComputerFactory = make_computer,
    ) -> None:
        """`context_tokens` defaults to what the model was trained for, `kv_blocks` to enough for all sequences, within
        reason; `os_threads` is how many compute, on `device`, `cpu` or `cuda`. `make_computer` is called in the OS
        thread that uses what it gives.
        """
        config = model.decoder.config
        context_tokens = min(context_tokens or config.max_position_embeddings, config.max_position_embeddings)
        self._model = model
        self._os_threads = os_threads
        self._profile = EngineProfile(
            model=model.name,
            context_tokens=context_tokens,
            max_sequences=max_sequences,
            device=device,
            parameters=sum(parameter.numel() for parameter in model.decoder.parameters()),
        )
        self._reader = PromptReader(model)
        self._samplers = Samplers(model.tokenizer, vocab_size=config.vocab_size, end_ids=config.eos_token_ids)
        self._live: set[str] = set()
        self._unsent: dict[str, bool] = {}
        """The live ones whose prompts are still being read here, and whether they were cancelled meanwhile."""
        self._inbox: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._os_thread: threading.Thread | None = None
        self._make_computer = partial(
            make_computer,
            model.decoder,
            blocks=kv_blocks
            or default_blocks(config, max_sequences=max_sequences, context_tokens=context_tokens, device=device),
            context_tokens=context_tokens,
            max_sequences=max_sequences,
            os_threads=os_threads,
            device=device,
        )
        self._worker: EngineThread | None = None

    @property
    def profile(self) -> EngineProfile:
        return self._profile

    def stats(self) -> EngineStats:
        return EngineStats() if self._worker is None else self._worker.stats

    async def start(self) -> None:
        """Makes the computer; raises what that raises."""
        if self._os_thread is not None:
            raise EngineClosed("an engine starts once")
        loop = asyncio.get_running_loop()
        side = _LoopSide(loop, self._reader.answers)
        worker = EngineThread(
            self._model,
            self._profile,
            os_threads=self._os_threads,
            make_computer=self._make_computer,
            samplers=self._samplers,
            inbox=self._inbox,
            listener=side,
        )
        # A daemon: a process that is ending for another reason waits for a step, and not for all answers.
        self._os_thread = threading.Thread(target=worker.run, name=f"engine-{self._profile.model}", daemon=True)
        self._os_thread.start()
        atexit.register(self._leave)
        await side.is_ready
        self._worker, self._loop = worker, loop

    async def generate(self, requests: Sequence[GenerationRequest]) -> AsyncGenerator[EngineEvent, None]:
        if self._loop is None or self._worker is None:
            raise EngineClosed("it is not running")
        at = time.monotonic()
        check_requests(requests, self._live)
        limit = self._profile.max_sequences * MAX_LIVE_FACTOR
        if len(self._live) + len(requests) > limit:
            raise Overloaded(f"the engine holds {len(self._live)} of at most {limit} requests", retry_after_s=1.0)
        asked = {request.id: request for request in requests}
        requests = [self._in_turns(request) for request in requests]
        mine = set(asked)
        self._live |= mine
        self._unsent |= dict.fromkeys(mine, False)
        try:
            mailbox: Mailbox = asyncio.Queue()
            prompts = await self._tokenise(requests, self._worker.blocks)
            made = [await self._samplers.make(each, ids) for each, ids in zip(requests, prompts, strict=True)]
            if self._loop is None:
                raise EngineClosed("while the prompt was tokenised")
            self._inbox.put(Submit(tuple(requests), tuple(prompts), tuple(made), mailbox, at))
            if cancelled := {request_id for request_id in mine if self._unsent.pop(request_id)}:
                self._cancel(cancelled)
            while mine:
                for event in await mailbox.get():
                    if isinstance(event, GenerationEnd):
                        mine.discard(event.request_id)
                        self._live.discard(event.request_id)
                    yield end_of_turn(event, asked[event.request_id])
        finally:
            self._live -= mine
            for request_id in mine:
                self._unsent.pop(request_id, None)
            if mine:
                self._cancel(mine)

    async def cancel(self, request_ids: Collection[str]) -> None:
        self._unsent |= dict.fromkeys(self._unsent.keys() & set(request_ids), True)
        self._cancel(request_ids)

    def _cancel(self, request_ids: Collection[str]) -> None:
        self._inbox.put(Cancel(frozenset(request_ids), self.stats().num_steps))

    async def close(self) -> None:
        self._loop = None
        if self._os_thread is not None:
            self._inbox.put(Close())
            await asyncio.to_thread(self._os_thread.join)
            atexit.unregister(self._leave)

    def _leave(self) -> None:
        """At the exit of a process: an OS thread that still computes then dies inside of torch, and aborts it."""
        assert self._os_thread is not None
        self._inbox.put(Close())
        self._os_thread.join(EXIT_S)

    async def _tokenise(self, requests: Sequence[GenerationRequest], blocks: int) -> list[list[int]]:
        """Token ids of prompts that the engine can compute."""
        prompts = await self._reader.read(requests)
        for request, token_ids in zip(requests, prompts, strict=True):
            if not token_ids:
                raise InvalidRequest("prompt", "has no tokens")
            check_prompt_length(len(token_ids), self._profile.context_tokens)
            check_fits(len(token_ids), request.max_tokens, context_tokens=self._profile.context_tokens, blocks=blocks)
        return prompts

    def _in_turns(self, request: GenerationRequest) -> GenerationRequest:
        """A model that was taught no turns would write the other side's too: it stops where that one begins."""
        if not request.messages or self._model.chat_template is not None:
            return request
        return replace(request, stop=in_turns(request).stop)
