"""What a completion server says, in our nouns: its stream becomes chunks and an end, its refusals become errors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from asterism.orchestrator.core.errors import AsterismError, Overloaded
from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.seam import FinishReason, GenerationChunk, GenerationEnd, GenerationRequest, TokenLogprob

if TYPE_CHECKING:
    from openai import APIStatusError
    from openai.types import Completion, CompletionChoice
    from openai.types.completion_choice import Logprobs

RETRY_S: Final = 1.0
"""When to try again where an overloaded server does not say."""

GRAMMAR_FIELDS: Final = {"json_schema": "json", "regex": "regex", "lark": "grammar"}
"""Of vLLM's `structured_outputs`."""


@dataclass(slots=True)
class Reading:
    """The answer to one request so far."""

    request: GenerationRequest
    tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    finish: FinishReason | None = None
    stop: str | None = None
    error: str | None = None
    unsaid_tokens: int = 0
    unsaid_logprobs: list[TokenLogprob] = field(default_factory=list)

    def take(self, completion: "Completion") -> list[GenerationChunk]:
        """What one event of the stream adds."""
        chunks = list[GenerationChunk]()
        known = self.tokens
        for choice in completion.choices:
            logprobs = _logprobs(choice.logprobs, self.request.logprobs or 0)
            # Without a running count, which is vLLM's and ours, an event with text is taken for a token.
            self._count(known + (len(logprobs) or bool(choice.text)))
            self.unsaid_logprobs += logprobs
            if completion.usage is not None:
                self._count(completion.usage.completion_tokens)
            if choice.text and self.request.max_tokens:
                chunks.append(self._chunk(choice.text))
            if choice.finish_reason:
                self._finish(choice)
        if completion.usage is not None:
            usage = completion.usage
            self._count(usage.completion_tokens)
            self.prompt_tokens = max(self.prompt_tokens, usage.prompt_tokens)
            if usage.prompt_tokens_details is not None:
                self.cached_tokens = max(self.cached_tokens, usage.prompt_tokens_details.cached_tokens or 0)
        return chunks

    def end(self) -> GenerationEnd:
        """The end, when the stream has ended."""
        if self.finish is None:
            return self.failed("the server's stream ended before the answer did")
        return self._ended(self.finish, stop=self.stop, error=self.error)

    def cancelled(self) -> GenerationEnd:
        return self._ended("cancelled")

    def failed(self, error: str) -> GenerationEnd:
        return self._ended("error", error=error)

    def _count(self, tokens: int) -> None:
        self.unsaid_tokens += max(0, tokens - self.tokens)
        self.tokens = max(self.tokens, tokens)

    def _chunk(self, text: str) -> GenerationChunk:
        chunk = GenerationChunk(
            request_id=self.request.id, text=text, tokens=self.unsaid_tokens, logprobs=tuple(self.unsaid_logprobs)
        )
        self.unsaid_tokens, self.unsaid_logprobs = 0, []
        return chunk

    def _finish(self, choice: "CompletionChoice") -> None:
        reason: str = choice.finish_reason
        extra = choice.model_extra or {}
        if reason == "length":
            self.finish = "length"
        elif reason == "abort":
            self.finish = "cancelled"
        elif reason != "stop":
            self.finish, self.error = "error", f"the server ended the answer: {reason}"
        else:
            self._stopped(extra)

    def _stopped(self, extra: Mapping[str, object]) -> None:
        """OpenAI's `stop` means a stop string or the end of the text; vLLM and SGLang say which."""
        for name in ("stop_reason", "matched_stop"):
            if name in extra:
                stop = extra[name]
                self.finish, self.stop = ("stop", stop) if isinstance(stop, str) else ("end", None)
                return
        match self.request.stop:
            case ():
                self.finish = "end"
            case (stop,):
                self.finish, self.stop = "stop", stop
            case _:
                self.finish, self.error = "error", "the server does not say which stop string ended the answer"

    def _ended(self, reason: FinishReason, *, stop: str | None = None, error: str | None = None) -> GenerationEnd:
        wants_none = self.request.max_tokens == 0
        return GenerationEnd(
            request_id=self.request.id,
            finish_reason="length" if wants_none and reason in {"stop", "end"} else reason,
            stop=None if wants_none else stop,
            tokens=0 if wants_none else self.tokens,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            error=error,
        )


def extra_fields(request: GenerationRequest) -> dict[str, object]:
    """What OpenAI's API has no field for, under vLLM's names, and only where it is asked for."""
    fields: dict[str, object] = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    if request.top_k:
        fields["top_k"] = request.top_k
    if request.min_p:
        fields["min_p"] = request.min_p
    if request.repetition_penalty != 1:
        fields["repetition_penalty"] = request.repetition_penalty
    if request.banned:
        fields["bad_words"] = list(request.banned)
    if request.grammar is not None:
        fields["structured_outputs"] = {GRAMMAR_FIELDS[request.grammar.kind]: request.grammar.text}
    if request.priority:
        fields["priority"] = -request.priority
    return fields


def refusal(error: "APIStatusError") -> AsterismError:
    """A status that is none of success: what the caller can do about it."""
    if error.status_code == 429 or error.status_code >= 500:
        return Overloaded(f"the server answered {error.status_code}: {error.message}", _retry_s(error))
    body = error.body if isinstance(error.body, Mapping) else {}
    field, message = body.get("param"), body.get("message")
    return InvalidRequest(
        field if isinstance(field, str) else "request", message if isinstance(message, str) else error.message
    )


def _retry_s(error: "APIStatusError") -> float:
    """Seconds as the server's header has them; the header's other form, a date, counts as silence."""
    try:
        return min(max(float(error.response.headers.get("retry-after", RETRY_S)), 0.0), 3600.0)
    except ValueError:
        return RETRY_S


def _logprobs(logprobs: "Logprobs | None", asked: int) -> list[TokenLogprob]:
    if logprobs is None or not logprobs.tokens:
        return []
    chosen = logprobs.token_logprobs or []
    tops = logprobs.top_logprobs or [{}] * len(logprobs.tokens)
    return [
        # A server may add the chosen token to the likeliest ones.
        TokenLogprob(token, logprob, tuple(sorted((top or {}).items(), key=lambda pair: -pair[1])[:asked]))
        for token, logprob, top in zip(logprobs.tokens, chosen, tops, strict=False)
    ]
