"""The engine that computes: one OS thread owns torch, requests join and leave its batch between two steps."""

import asyncio
import queue
import threading
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import assert_never

import torch

from asterism.orchestrator.core.errors import Overloaded
from asterism.workers.engine.batch import Batch, BatchSequence, Produced
from asterism.workers.engine.cached_decoder import CachedDecoder
from asterism.workers.engine.errors import EngineClosed, InvalidRequest
from asterism.workers.engine.folder import ModelFolder
from asterism.workers.engine.sampler import Sampler
from asterism.workers.engine.samplers import Samplers
from asterism.workers.engine.sampling import Chosen, choose_tokens
from asterism.workers.engine.seam import (
    EngineEvent,
    EngineProfile,
    FinishReason,
    GenerationChunk,
    GenerationEnd,
    GenerationRequest,
    Prompt,
    TokenLogprob,
    check_prompt_length,
    check_requests,
)
from asterism.workers.engine.stops import Detokeniser, StopScanner

PREFILL_TOKENS = 256
"""Prompt tokens of one step. Larger gains nothing on a CPU, where a step of 256 tokens is bound by arithmetic."""

MAX_LIVE_FACTOR = 64
"""Requests that may wait per slot before the engine says `Overloaded`."""

INLINE_CHARACTERS = 20_000
"""Prompts up to this length are tokenised on the event loop: it takes about 2 ms, a trip to a thread 0.1 ms."""

FLUSH_S = 0.02
"""Text waits up to this long for more of it: a chunk of several tokens costs all who pass it on a fraction, and
nobody reads faster. An end never waits."""

Mailbox = asyncio.Queue[tuple[EngineEvent, ...]]
"""Of one `generate` call. Unbounded, but never holds more than a chunk for each token its requests asked for."""


@dataclass(frozen=True, slots=True)
class Submit:
    """Hand-off to the OS thread: checked requests with their prompts' token ids."""

    requests: tuple[GenerationRequest, ...]
    prompts: tuple[list[int], ...]
    samplers: tuple[Sampler, ...]
    mailbox: Mailbox


@dataclass(frozen=True, slots=True)
class Cancel:
    request_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Close:
    pass


Command = Submit | Cancel | Close


@dataclass(slots=True)
class Answer:
    """What the OS thread keeps for a live request beside its sequence."""

    request: GenerationRequest
    mailbox: Mailbox
    sequence: BatchSequence
    detokeniser: Detokeniser
    scanner: StopScanner
    sampler: Sampler
    unsaid_text: str = ""
    unsaid_tokens: int = 0
    """Decoded since the last chunk; `unsaid_text` is what may be shown of them."""
    unsaid_logprobs: list[TokenLogprob] = field(default_factory=list)
    dead_end: str | None = None
    """Why no token was left to choose."""

    def take_chunk(self) -> list[EngineEvent]:
        """What is to be said, at most one chunk."""
        if not self.unsaid_text:
            return []
        chunk = GenerationChunk(
            request_id=self.request.id,
            text=self.unsaid_text,
            tokens=self.unsaid_tokens,
            logprobs=tuple(self.unsaid_logprobs),
        )
        self.unsaid_text, self.unsaid_tokens, self.unsaid_logprobs = "", 0, []
        return [chunk]


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
    ) -> None:
        """`context_tokens` defaults to what the model was trained for; `os_threads` is how many torch uses."""
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
        self._inbox: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def profile(self) -> EngineProfile:
        return self._profile

    async def start(self) -> None:
        if self._loop is not None or self._thread is not None:
            raise EngineClosed("an engine starts once")
        self._loop = loop = asyncio.get_running_loop()
        worker = await asyncio.to_thread(
            EngineThread,
            self._model,
            self._profile,
            self._os_threads,
            self._samplers,
            self._inbox,
            loop.call_soon_threadsafe,
        )
        # A daemon: a process that is ending for another reason does not wait for the model.
        self._thread = threading.Thread(target=worker.run, name=f"engine-{self._profile.model}", daemon=True)
        self._thread.start()

    async def generate(self, requests: Sequence[GenerationRequest]) -> AsyncGenerator[EngineEvent, None]:
        if self._loop is None:
            raise EngineClosed("it is not running")
        check_requests(requests, self._live)
        limit = self._profile.max_sequences * MAX_LIVE_FACTOR
        if len(self._live) + len(requests) > limit:
            raise Overloaded(f"the engine holds {len(self._live)} of at most {limit} requests", retry_after_s=1.0)
        mine = {request.id for request in requests}
        self._live |= mine
        try:
            mailbox: Mailbox = asyncio.Queue()
            prompts = [await self._tokenise(request.prompt) for request in requests]
            made = [await self._samplers.make(each, ids) for each, ids in zip(requests, prompts, strict=True)]
            if self._loop is None:
                raise EngineClosed("while the prompt was tokenised")
            self._inbox.put(Submit(tuple(requests), tuple(prompts), tuple(made), mailbox))
            while mine:
                for event in await mailbox.get():
                    if isinstance(event, GenerationEnd):
                        mine.discard(event.request_id)
                        self._live.discard(event.request_id)
                    yield event
        finally:
            self._live -= mine
            if mine:
                self._inbox.put(Cancel(frozenset(mine)))

    async def cancel(self, request_ids: Collection[str]) -> None:
        self._inbox.put(Cancel(frozenset(request_ids)))

    async def close(self) -> None:
        self._loop = None
        if self._thread is not None:
            self._inbox.put(Close())
            await asyncio.to_thread(self._thread.join)

    async def _tokenise(self, prompt: Prompt) -> list[int]:
        segments = (prompt,) if isinstance(prompt, str) else prompt
        if sum(map(len, segments)) > INLINE_CHARACTERS:
            ids = await asyncio.to_thread(self._encode_all, segments)
        else:
            ids = self._encode_all(segments)
        if not ids:
            raise InvalidRequest("prompt", "has no tokens")
        check_prompt_length(len(ids), self._profile.context_tokens)
        return ids

    def _encode_all(self, segments: Sequence[str]) -> list[int]:
        return [token_id for segment in segments for token_id in self._encode(segment)]

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


class EngineThread:
    """The OS thread's side: `start` makes it, then only that thread touches it."""

    def __init__(
        self,
        model: ModelFolder,
        profile: EngineProfile,
        os_threads: int,
        samplers: Samplers,
        inbox: "queue.SimpleQueue[Command]",
        call_soon_threadsafe: Callable[..., object],
    ) -> None:
        self._model = model
        self._profile = profile
        self._os_threads = os_threads
        self._samplers = samplers
        self._inbox = inbox
        self._call_soon = call_soon_threadsafe
        # Built before the thread runs, so that a model that does not fit the memory fails `start` and nothing else.
        self._decoder = CachedDecoder(
            model.decoder,
            slots=profile.max_sequences + 1,
            context_tokens=profile.context_tokens,
            device=torch.device(profile.device),
        )
        self._answers: dict[str, Answer] = {}
        self._ended: dict[Mailbox, list[EngineEvent]] = {}
        """Last chunks and ends that the event loop has not got yet."""
        self._flushed_at = time.monotonic()

    def run(self) -> None:
        """Supervises: an error ends the live requests with its text, and the batch starts again, empty.

        What is in the cache may be half written then; an empty batch reads none of it.
        """
        torch.set_num_threads(self._os_threads)
        while True:
            try:
                self._serve()
            except Exception as error:
                for answer in list(self._answers.values()):
                    self._end(answer, "error", error=f"{type(error).__name__}: {error}")
                self._flush()
            else:
                return

    def _serve(self) -> None:
        """Computes until told to close."""
        batch = Batch(
            slots=self._profile.max_sequences,
            context_tokens=self._profile.context_tokens,
            prefill_tokens=PREFILL_TOKENS,
            end_ids=frozenset(self._model.decoder.config.eos_token_ids),
        )
        while True:
            for command in self._take(wait=not self._answers):
                match command:
                    case Submit():
                        self._submit(batch, command)
                    case Cancel(request_ids):
                        self._cancel(batch, request_ids)
                    case Close():
                        self._cancel(batch, frozenset(self._answers))
                        self._flush()
                        return
                    case _:
                        assert_never(command)
            step = batch.next_step()
            if step is not None:
                answers = [self._answers[sequence.request_id] for sequence in step.sequences]
                wanted = zip(answers, step.samples, strict=True)
                samplers = [answer.sampler if samples else None for answer, samples in wanted]
                chosen = choose_tokens(self._decoder.compute(step), samplers)
                self._note(step.sequences, chosen)
                for produced in batch.advance(step, chosen.token_ids):
                    self._report(batch, produced)
            self._flush()

    def _take(self, *, wait: bool) -> Iterable[Command]:
        """Every command that is there; the first one is waited for when there is nothing else to do."""
        if wait:
            yield self._inbox.get()
        while True:
            try:
                yield self._inbox.get_nowait()
            except queue.Empty:
                return

    def _submit(self, batch: Batch, submit: Submit) -> None:
        sequences: list[BatchSequence] = []
        for request, prompt, sampler in zip(submit.requests, submit.prompts, submit.samplers, strict=True):
            sequence = BatchSequence(request.id, prompt, request.max_tokens)
            self._answers[request.id] = Answer(
                request=request,
                mailbox=submit.mailbox,
                sequence=sequence,
                detokeniser=Detokeniser(self._decode, prompt),
                scanner=StopScanner(request.stop),
                sampler=sampler,
            )
            sequences.append(sequence)
        batch.submit(sequences)

    def _decode(self, token_ids: Sequence[int]) -> str:
        # Special tokens are kept: markup of reasoning threads is made of them.
        return self._model.tokenizer.decode(token_ids, skip_special_tokens=False)

    def _cancel(self, batch: Batch, request_ids: Collection[str]) -> None:
        for request_id in request_ids:
            answer = self._answers.get(request_id)
            if answer is not None:
                batch.finish(request_id)
                self._end(answer, "cancelled")

    def _note(self, sequences: Sequence[BatchSequence], chosen: Chosen) -> None:
        """Keeps what came with the tokens; a row that no token was left for ends."""
        for row, logprobs in chosen.logprobs.items():
            self._answers[sequences[row].request_id].unsaid_logprobs.append(self._samplers.name(logprobs))
        for row, error in chosen.errors.items():
            self._answers[sequences[row].request_id].dead_end = error

    def _report(self, batch: Batch, produced: Produced) -> None:
        answer = self._answers[produced.sequence.request_id]
        if answer.dead_end is not None or not answer.request.max_tokens:
            del answer.sequence.token_ids[-1:]
            batch.finish(answer.request.id)
            self._end(answer, "error" if answer.dead_end else "length", error=answer.dead_end)
            return
        answer.unsaid_tokens += 1
        if produced.finish == "end":
            batch.finish(answer.request.id)
            self._end(answer, "end")
            return
        scanned = answer.scanner.push(answer.detokeniser.push(produced.token_id))
        answer.unsaid_text += scanned.text
        if scanned.stop is not None:
            batch.finish(answer.request.id)
            self._end(answer, "stop", stop=scanned.stop)
        elif produced.finish == "length":
            batch.finish(answer.request.id)
            self._end(answer, "length")

    def _end(
        self,
        answer: Answer,
        reason: FinishReason,
        *,
        stop: str | None = None,
        error: str | None = None,
    ) -> None:
        """Shows what was held back, unless a stop string or an error ended the text, and ends the request."""
        del self._answers[answer.request.id]
        if reason not in {"stop", "error"}:
            answer.unsaid_text += answer.scanner.push(answer.detokeniser.flush()).text + answer.scanner.flush()
        end = GenerationEnd(
            request_id=answer.request.id,
            finish_reason=reason,
            stop=stop,
            tokens=answer.sequence.generated_tokens,
            prompt_tokens=answer.sequence.prompt_tokens,
            cached_tokens=answer.sequence.cached_tokens,
            error=error,
        )
        self._ended.setdefault(answer.mailbox, []).extend((*answer.take_chunk(), end))

    def _flush(self) -> None:
        """Hands what there is to the event loop with one wake-up, if something ended or was said long enough ago."""
        now = time.monotonic()
        if not self._ended and now - self._flushed_at < FLUSH_S:
            return
        self._flushed_at = now
        outbox, self._ended = self._ended, {}
        for answer in self._answers.values():
            if chunk := answer.take_chunk():
                outbox.setdefault(answer.mailbox, []).extend(chunk)
        if not outbox:
            return
        try:
            self._call_soon(_deliver, outbox)
        except RuntimeError:
            # The loop has been closed under us: nobody listens any more, so there is nothing left to do.
            self._inbox.put(Close())


def _deliver(outbox: dict[Mailbox, list[EngineEvent]]) -> None:
    for mailbox, events in outbox.items():
        mailbox.put_nowait(tuple(events))
