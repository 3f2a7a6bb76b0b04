"""The engine that computes: on the event loop, requests are checked and tokenised; `engine_thread.py` does the rest."""

import asyncio
import atexit
import queue
import threading
import time
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from asterism.orchestrator.core.errors import Overloaded
from asterism.workers.engine.answer_memo import AnswerMemo, IdMemo, Ids
from asterism.workers.engine.batch_sequence import check_fits
from asterism.workers.engine.computer import ComputerFactory, default_blocks, make_computer
from asterism.workers.engine.engine_thread import Cancel, Close, Command, EngineThread, Mailbox, Outbox, Submit
from asterism.workers.engine.errors import EngineClosed, InvalidRequest
from asterism.workers.engine.folder import ModelFolder
from asterism.workers.engine.metrics import EngineStats
from asterism.workers.engine.plain_chat import plain_chat
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

INLINE_CHARACTERS: Final = 20_000
"""What a call brings up to this length is tokenised on the event loop: about 2 ms, a trip to a thread takes 0.1 ms."""

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
        self._unknown: str | None = getattr(model.tokenizer.model, "unk_token", None)
        self._unknown_id = None if self._unknown is None else model.tokenizer.token_to_id(self._unknown)
        self._samplers = Samplers(model.tokenizer, vocab_size=config.vocab_size, end_ids=config.eos_token_ids)
        self._live: set[str] = set()
        self._unsent: dict[str, bool] = {}
        """The live ones whose prompts are still being read here, and whether they were cancelled meanwhile."""
        self._memo = AnswerMemo()
        self._read: IdMemo[str] = IdMemo()
        """Prompts and segments of them, as the tokenizer reads them: a text that forks asks again and again."""
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
        side = _LoopSide(loop, self._memo)
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
        mine = {request.id for request in requests}
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
                    yield event
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
        """Token ids of prompts that the engine can compute; what several of them have is read once."""
        segments = dict.fromkeys(part for each in requests for part in _segments(each))
        read: dict[str, Ids] = {}
        # What some answer said is read when its place is known: there it may have the ids that were decoded.
        wanted = [part for part in segments if not self._memo.knows(part)]
        while True:
            read |= await self._read_texts(wanted)
            found = [self._find_ids(_segments(each), read) for each in requests]
            wanted = list(dict.fromkeys(each for each in found if isinstance(each, str)))
            if not wanted:
                break
        prompts = [each for each in found if not isinstance(each, str)]
        for request, token_ids in zip(requests, prompts, strict=True):
            if not token_ids:
                raise InvalidRequest("prompt", "has no tokens")
            check_prompt_length(len(token_ids), self._profile.context_tokens)
            check_fits(len(token_ids), request.max_tokens, context_tokens=self._profile.context_tokens, blocks=blocks)
        return prompts

    def _find_ids(self, segments: Iterable[str], read: Mapping[str, Ids]) -> list[int] | str:
        """A prompt's token ids, or the first of its segments that has to be read for them."""
        token_ids: list[int] = []
        for segment in segments:
            ids = self._memo.find(token_ids, segment) or read.get(segment)
            if ids is None:
                return segment
            token_ids += ids
        return token_ids

    async def _read_texts(self, texts: Sequence[str]) -> dict[str, Ids]:
        """Texts as the tokenizer reads them."""
        read = {text: ids for text in texts if (ids := self._read.find(text)) is not None}
        unread = [text for text in texts if text not in read]
        if sum(map(len, unread)) > INLINE_CHARACTERS:
            encoded = await asyncio.to_thread(self._encode_all, unread)
        else:
            encoded = self._encode_all(unread)
        for text, ids in encoded.items():
            self._read.remember(text, ids)
        return read | encoded

    def _encode_all(self, texts: Iterable[str]) -> dict[str, Ids]:
        return {text: tuple(self._encode(text)) for text in texts}

    def _encode(self, prompt: str) -> list[int]:
        """Token ids of a segment. A word unknown to the model is refused: the answer would be about something else."""
        try:
            encoding = self._model.tokenizer.encode(prompt)
        except Exception as error:  # tokenizers raises bare Exception for what a model has no token for
            raise InvalidRequest("prompt", str(error)) from error
        ids: list[int] = encoding.ids
        if self._unknown_id is not None and self._unknown_id in ids:
            for token_id, (begin, end) in zip(ids, encoding.offsets, strict=True):
                # The unknown token by its own name is fine: a model may have written it.
                if token_id == self._unknown_id and prompt[begin:end] != self._unknown:
                    raise InvalidRequest("prompt", f"has {prompt[begin:end]!r}, which the model has no token for")
        return ids


def _segments(request: GenerationRequest) -> tuple[str, ...]:
    if request.messages:
        return (plain_chat(request.messages),)
    return (request.prompt,) if isinstance(request.prompt, str) else request.prompt
