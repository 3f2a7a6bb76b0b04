"""The OS thread that owns torch: it takes commands between two steps, and hands what was decoded to the event loop."""

import asyncio
import queue
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol, assert_never

import torch

from asterism.workers.engine.answer import Answer
from asterism.workers.engine.answer_memo import Decoded
from asterism.workers.engine.batch_sequence import BatchSequence, Produced
from asterism.workers.engine.computer import StepComputer
from asterism.workers.engine.errors import describe
from asterism.workers.engine.folder import ModelFolder
from asterism.workers.engine.metrics import EngineStats, TokenMeter
from asterism.workers.engine.sampler import Sampler
from asterism.workers.engine.samplers import Samplers
from asterism.workers.engine.sampling import Chosen, choose_tokens
from asterism.workers.engine.scheduler import Scheduler
from asterism.workers.engine.seam import EngineEvent, EngineProfile, FinishReason, GenerationEnd, GenerationRequest
from asterism.workers.engine.stops import Detokeniser

PREFILL_TOKENS: Final = 256
"""Prompt tokens of a step beside those that decode. Larger gains nothing on a CPU, where a step of 256 tokens is bound
by arithmetic."""

FLUSH_S: Final = 0.02
"""Text waits up to this long for more of it: a chunk of several tokens costs all who pass it on a fraction, and
nobody reads faster. An end never waits."""

LINGER_S: Final = 0.002
"""How long the next step waits, at most, for who got an answer that a stop string ended: a program goes on from it, and
would miss a whole step otherwise. Half the time of the last step at most, so that it cannot cost more than it gains."""

GPU_PREFILL_TOKENS: Final = 1024
"""The same on a GPU, where fewer leave most of it idle. A guess, not measured."""

Mailbox = asyncio.Queue[tuple[EngineEvent, ...]]
"""Of one `generate` call. Unbounded, but never holds more than a chunk for each token its requests asked for."""


@dataclass(frozen=True, slots=True)
class Submit:
    """Hand-off to the OS thread: checked requests with their prompts' token ids."""

    requests: tuple[GenerationRequest, ...]
    prompts: tuple[list[int], ...]
    samplers: tuple[Sampler, ...]
    mailbox: Mailbox
    at: float
    """When they came, on time.monotonic()."""


@dataclass(frozen=True, slots=True)
class Cancel:
    request_ids: frozenset[str]
    at_step: int
    """Steps that were done when it was said."""


@dataclass(frozen=True, slots=True)
class Close:
    pass


Command = Submit | Cancel | Close


@dataclass(frozen=True, slots=True)
class Outbox:
    """What the event loop gets at one time."""

    events: dict[Mailbox, list[EngineEvent]] = field(default_factory=dict)
    answers: list[Decoded] = field(default_factory=list)
    """Those that ended."""


class Listener(Protocol):
    """The event loop's side. Each call comes from the OS thread and returns at once; RuntimeError: nobody listens."""

    def started(self, error: BaseException | None) -> None: ...

    def deliver(self, outbox: Outbox) -> None: ...


class EngineThread:
    """Only the thread that calls `run` touches it, but for `stats` and `blocks`."""

    def __init__(
        self,
        model: ModelFolder,
        profile: EngineProfile,
        *,
        os_threads: int,
        make_computer: Callable[[], StepComputer],
        samplers: Samplers,
        inbox: "queue.SimpleQueue[Command]",
        listener: Listener,
    ) -> None:
        self._model = model
        self._profile = profile
        self._os_threads = os_threads
        self._make_computer = make_computer
        self._samplers = samplers
        self._inbox = inbox
        self._listener = listener
        self._answers: dict[str, Answer] = {}
        self._mailboxes: dict[str, Mailbox] = {}
        self._outbox = Outbox()
        """Last chunks and ends that the event loop has not got yet."""
        self._flushed_at = time.monotonic()
        self._meter = TokenMeter()
        self._has_stopped = False
        """Whether a stop string ended an answer in this step."""
        self._linger_s = 0.0
        self._steps = self._cancelled = self._cancel_steps = 0
        self._preemptions = self._queries = self._hits = 0
        """Of schedulers before the one that serves."""
        self.blocks = 0
        """KV blocks that there are; written before `started`."""
        self.stats = EngineStats()
        """A new value after each step."""

    def run(self) -> None:
        """Supervises: an error ends the live requests with its text, and a new scheduler starts, empty.

        What is in the KV memory may be half written then; an empty scheduler reads none of it.
        """
        torch.set_num_threads(self._os_threads)
        try:
            computer = self._make_computer()
        except Exception as error:
            self._listener.started(error)
            return
        self.blocks = computer.blocks
        self._listener.started(None)
        while True:
            scheduler = Scheduler(
                blocks=computer.blocks,
                max_sequences=self._profile.max_sequences,
                context_tokens=self._profile.context_tokens,
                prefill_tokens=GPU_PREFILL_TOKENS if self._profile.device == "cuda" else PREFILL_TOKENS,
                end_ids=self._model.decoder.config.eos_token_ids,
            )
            try:
                self._serve(scheduler, computer)
            except BaseException as error:
                # A panic of a Rust library is no Exception, and nobody else would say an end.
                for answer in list(self._answers.values()):
                    self._end(answer, "error", error=describe(error))
                self._preemptions += scheduler.preemptions
                self._queries += scheduler.prefix_queries
                self._hits += scheduler.prefix_hits
                self._flush()
            else:
                return

    def _serve(self, scheduler: Scheduler, computer: StepComputer) -> None:
        """Computes until told to close."""
        while True:
            for command in self._take(scheduler):
                match command:
                    case Submit():
                        self._submit(scheduler, command)
                    case Cancel(request_ids, at_step):
                        self._cancel(scheduler, request_ids, at_step)
                    case Close():
                        self._cancel(scheduler, frozenset(self._answers), self._steps)
                        self._publish(scheduler)
                        self._flush()
                        return
                    case _:
                        assert_never(command)
            began = time.monotonic()
            scheduled = scheduler.next_step(began)
            if scheduled is not None:
                logits = computer.compute(scheduled.step)
                self._steps += 1
                sampled = [
                    self._answers[sequence.request_id]
                    for sequence, chunk in zip(scheduled.sequences, scheduled.step.chunks, strict=True)
                    if chunk.samples
                ]
                chosen = choose_tokens(logits, [answer.sampler for answer in sampled]) if sampled else Chosen([])
                self._note(sampled, chosen)
                for produced in scheduler.advance(scheduled, chosen.token_ids):
                    self._report(scheduler, produced)
                self._linger_s = min(LINGER_S, (time.monotonic() - began) / 2) if self._has_stopped else 0.0
                self._has_stopped = False
            # Before the flush: who reads an end finds it counted.
            self._publish(scheduler)
            self._flush()

    def _take(self, scheduler: Scheduler) -> Iterable[Command]:
        """Every command that is there. With nothing else to do the first one is waited for, at most until the end of
        a time that KV is kept for; behind an answer that a stop string ended, for a moment."""
        linger_s, self._linger_s = self._linger_s, 0.0
        with suppress(queue.Empty):
            if not self._answers:
                until = scheduler.kept_until
                yield self._inbox.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
            elif linger_s:
                yield self._inbox.get(timeout=linger_s)
            while True:
                yield self._inbox.get_nowait()

    def _submit(self, scheduler: Scheduler, submit: Submit) -> None:
        sequences: list[BatchSequence] = []
        for request, prompt, sampler in zip(submit.requests, submit.prompts, submit.samplers, strict=True):
            sequence = BatchSequence(request.id, prompt, request.max_tokens, request.priority)
            try:
                detokeniser = Detokeniser(self._decode, prompt)
            except BaseException as error:
                end = _unbegun(request, len(prompt), describe(error))
                self._outbox.events.setdefault(submit.mailbox, []).append(end)
                continue
            self._answers[request.id] = Answer(request, sequence, sampler, detokeniser, submit.at)
            self._mailboxes[request.id] = submit.mailbox
            sequences.append(sequence)
        scheduler.submit(sequences)

    def _decode(self, token_ids: Sequence[int]) -> str:
        # Special tokens are kept: markup of reasoning threads is made of them.
        return self._model.tokenizer.decode(token_ids, skip_special_tokens=False)

    def _cancel(self, scheduler: Scheduler, request_ids: Collection[str], at_step: int) -> None:
        for request_id in request_ids:
            answer = self._answers.get(request_id)
            if answer is not None:
                scheduler.finish(request_id, keep_until=_kept_until(answer.request))
                self._end(answer, "cancelled")
                self._cancelled += 1
                self._cancel_steps = max(self._cancel_steps, self._steps - at_step)

    def _note(self, sampled: Sequence[Answer], chosen: Chosen) -> None:
        """Keeps what came with the tokens, and when they came; a row that no token was left for ends."""
        for row, logprobs in chosen.logprobs.items():
            try:
                sampled[row].unsaid_logprobs.append(self._samplers.name(logprobs))
            except BaseException as error:
                chosen.errors[row] = describe(error)
        now = time.monotonic()
        for row, answer in enumerate(sampled):
            if row in chosen.errors:
                continue
            self._meter.add(since=answer.waits_since, now=now, is_first=not answer.sequence.generated_tokens)
            answer.waits_since = now
        for row, reason in chosen.errors.items():
            sampled[row].dead_end = reason

    def _report(self, scheduler: Scheduler, produced: Produced) -> None:
        answer = self._answers[produced.sequence.request_id]
        stop: str | None = None
        reason: FinishReason | None = produced.finish
        if answer.dead_end is not None:
            produced.sequence.token_ids.pop()
            reason = "error"
        elif produced.token_id is not None:
            answer.unsaid_tokens += 1
            try:
                if reason != "end" and (stop := answer.push(produced.token_id)) is not None:
                    reason = "stop"
            except BaseException as error:
                answer.dead_end = describe(error)
                reason = "error"
        if reason is not None:
            keep_until = None if reason == "error" else _kept_until(answer.request)
            scheduler.finish(answer.request.id, keep_until=keep_until)
            self._end(answer, reason, stop=stop, error=answer.dead_end)

    def _end(self, answer: Answer, reason: FinishReason, *, stop: str | None = None, error: str | None = None) -> None:
        """Shows what was held back, unless a stop string or an error ended the text, and ends the request."""
        request_id = answer.request.id
        del self._answers[request_id]
        self._has_stopped |= reason == "stop"
        if reason not in {"stop", "error"}:
            try:
                answer.flush()
            except BaseException as failure:
                reason, error = "error", describe(failure)
        if reason != "error":
            found = answer.find_decoded(is_stopped=reason == "stop", has_end_id=reason == "end")
            if found is not None:
                self._outbox.answers.append(found)
        end = GenerationEnd(
            request_id=request_id,
            finish_reason=reason,
            stop=stop,
            tokens=answer.sequence.generated_tokens,
            prompt_tokens=answer.sequence.prompt_tokens,
            cached_tokens=answer.sequence.cached_tokens,
            error=error,
        )
        mailbox = self._mailboxes.pop(request_id)
        self._outbox.events.setdefault(mailbox, []).extend((*answer.take_chunk(), end))

    def _flush(self) -> None:
        """Hands what there is to the event loop with one wake-up, if something ended or was said long enough ago."""
        now = time.monotonic()
        if not self._outbox.events and now - self._flushed_at < FLUSH_S:
            return
        self._flushed_at = now
        outbox, self._outbox = self._outbox, Outbox()
        for request_id, answer in self._answers.items():
            if chunk := answer.take_chunk():
                outbox.events.setdefault(self._mailboxes[request_id], []).extend(chunk)
        if not outbox.events:
            return
        try:
            self._listener.deliver(outbox)
        except RuntimeError:
            # The loop has been closed under us: nobody listens any more, so there is nothing left to do.
            self._inbox.put(Close())

    def _publish(self, scheduler: Scheduler) -> None:
        meter = self._meter
        self.stats = EngineStats(
            num_requests_running=scheduler.running,
            num_requests_waiting=scheduler.waiting,
            kv_cache_usage=scheduler.used_blocks / self.blocks,
            prefix_cache_queries=self._queries + scheduler.prefix_queries,
            prefix_cache_hits=self._hits + scheduler.prefix_hits,
            generation_tokens=meter.generation_tokens,
            num_preemptions=self._preemptions + scheduler.preemptions,
            num_cancelled=self._cancelled,
            cancel_steps_max=self._cancel_steps,
            num_steps=self._steps,
            time_to_first_token=meter.first.snapshot(),
            inter_token_latency=meter.next.snapshot(),
        )


def _kept_until(request: GenerationRequest) -> float | None:
    """On time.monotonic(), for a request that ends now; None where it does not ask to be kept."""
    return time.monotonic() + request.keep_s if request.keep_s else None


def _unbegun(request: GenerationRequest, prompt_tokens: int, error: str) -> GenerationEnd:
    """The end of a request of which nothing was computed."""
    return GenerationEnd(
        request_id=request.id,
        finish_reason="error",
        stop=None,
        tokens=0,
        prompt_tokens=prompt_tokens,
        cached_tokens=0,
        error=error,
    )
