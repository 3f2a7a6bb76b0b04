"""What a completion server says, in our nouns: its stream becomes chunks and an end, its refusals become errors."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from asterism.orchestrator.core.errors import AsterismError, Overloaded, Unauthenticated
from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.http_retry import RETRIED, read_retry_after
from asterism.workers.engine.seam import FinishReason, GenerationChunk, GenerationEnd, GenerationRequest, TokenLogprob

if TYPE_CHECKING:
    from openai import APIError, APIStatusError
    from openai.types import Completion, CompletionChoice
    from openai.types.chat import ChatCompletionChunk
    from openai.types.chat.chat_completion_chunk import Choice as ChatChoice
    from openai.types.completion_choice import Logprobs

    AnyChoice: TypeAlias = CompletionChoice | ChatChoice
    AnyCompletion: TypeAlias = Completion | ChatCompletionChunk

RETRY_S: Final = 1.0
"""When to try again where an overloaded server does not say."""
MAX_TOKENS: Final = 2**24
"""Of one prompt or answer: more than any model takes or writes."""


@dataclass(frozen=True, slots=True)
class Price:
    """Of a million tokens, in whatever currency the settings mean."""

    prompt: float = 0.0
    cached: float | None = None
    """Of prompt tokens that the server had computed before; None: as much as the others."""
    answer: float = 0.0

    def of(self, end: GenerationEnd) -> float:
        cached = self.prompt if self.cached is None else self.cached
        computed = max(0, end.prompt_tokens - end.cached_tokens)
        return (computed * self.prompt + end.cached_tokens * cached + end.tokens * self.answer) / 1e6


FREE: Final = Price()


@dataclass(slots=True)
class Reading:
    """The answer to one request so far."""

    request: GenerationRequest
    price: Price = FREE
    tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    finish: FinishReason | None = None
    stop: str | None = None
    error: str | None = None
    unsaid_tokens: int = 0
    unsaid_logprobs: list[TokenLogprob] = field(default_factory=list)
    half: str = ""
    """The first half of a surrogate pair, where an event ended with it: servers cut JSON text there too."""

    def take(self, completion: "AnyCompletion") -> list[GenerationChunk]:
        """What one event of the stream adds. Raises TypeError, ValueError or AttributeError for what is none."""
        chunks = list[GenerationChunk]()
        known = self.tokens
        for choice in completion.choices:
            text = self._whole(_text(choice))
            logprobs = _logprobs(choice, self.request.logprobs or 0)
            # Without a running count, which is vLLM's, SGLang's and ours, an event with text is taken for a token.
            self._count(known + (len(logprobs) or bool(text or _thought(choice))))
            self.unsaid_logprobs += logprobs
            if completion.usage is not None:
                self._count(_tokens(completion.usage.completion_tokens))
            if text and self.request.max_tokens:
                chunks.append(self._chunk(text))
            if choice.finish_reason:
                self._finish(choice)
        if completion.usage is not None:
            usage = completion.usage
            self._count(_tokens(usage.completion_tokens))
            self.prompt_tokens = max(self.prompt_tokens, _tokens(usage.prompt_tokens))
            if usage.prompt_tokens_details is not None:
                self.cached_tokens = max(self.cached_tokens, _tokens(usage.prompt_tokens_details.cached_tokens or 0))
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

    def _whole(self, text: str) -> str:
        """What is there in whole characters. Half of a pair becomes a replacement character where something else
        follows, and is left out at the end."""
        text, self.half = self.half + text, ""
        if text.isascii():
            return text
        if "\ud800" <= text[-1] <= "\udbff":
            text, self.half = text[:-1], text[-1]
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _count(self, tokens: int) -> None:
        self.unsaid_tokens += max(0, tokens - self.tokens)
        self.tokens = max(self.tokens, tokens)

    def _chunk(self, text: str) -> GenerationChunk:
        chunk = GenerationChunk(
            request_id=self.request.id, text=text, tokens=self.unsaid_tokens, logprobs=tuple(self.unsaid_logprobs)
        )
        self.unsaid_tokens, self.unsaid_logprobs = 0, []
        return chunk

    def _finish(self, choice: "AnyChoice") -> None:
        reason: str = choice.finish_reason or ""
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
        end = GenerationEnd(
            request_id=self.request.id,
            finish_reason="length" if wants_none and reason in {"stop", "end"} else reason,
            stop=None if wants_none else stop,
            tokens=0 if wants_none else self.tokens,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            error=error,
        )
        return replace(end, cost=self.price.of(replace(end, tokens=self.tokens)))


def refusal(error: "APIStatusError") -> AsterismError:
    """A status that is none of success: what the caller can do about it."""
    if error.status_code in RETRIED or error.status_code >= 500:
        asked_s = retry_after_s(error)
        return Overloaded(
            f"the server answered {error.status_code}: {error.message}", RETRY_S if asked_s is None else asked_s
        )
    if error.status_code in {401, 403}:
        return Unauthenticated(f"the server answered {error.status_code}, and so refuses the key: {error.message}")
    body = error.body if isinstance(error.body, Mapping) else {}
    field, message = body.get("param"), body.get("message")
    return InvalidRequest(
        field if isinstance(field, str) else "request", message if isinstance(message, str) else error.message
    )


def failed_code(error: "APIError") -> int | None:
    """The status that an error inside of a stream names, which has none of HTTP's any more."""
    code = error.body.get("code") if isinstance(error.body, Mapping) else None
    return code if isinstance(code, int) else None


def retry_after_s(error: "APIStatusError") -> float | None:
    """How long the server asks to wait."""
    return read_retry_after(error.response.headers.get("retry-after"), time.time())


def _text(choice: "AnyChoice") -> str:
    """What a choice adds to the text: both kinds are built without being checked."""
    delta = getattr(choice, "delta", None)
    text: object = getattr(choice, "text", None) if delta is None else delta.content
    if text is not None and not isinstance(text, str):
        raise TypeError(f"text is a {type(text).__name__}")
    return text or ""


def _tokens(count: object) -> int:
    """A count of tokens. Raises ValueError for what is none."""
    if not isinstance(count, int) or not 0 <= count <= MAX_TOKENS:
        raise ValueError(f"a number of tokens is {count!r}")
    return count


def _thought(choice: "AnyChoice") -> bool:
    """Whether it adds to what the model thinks before it answers, which is decoded and is no part of the text."""
    extra = getattr(getattr(choice, "delta", None), "model_extra", None) or {}
    return bool(extra.get("reasoning_content") or extra.get("reasoning"))


def _logprobs(choice: "AnyChoice", asked: int) -> list[TokenLogprob]:
    logprobs = choice.logprobs
    if logprobs is None:
        return []
    content = getattr(logprobs, "content", None)
    if content is not None:
        return [
            TokenLogprob(each.token, each.logprob, _likeliest({t.token: t.logprob for t in each.top_logprobs}, asked))
            for each in content
        ]
    return _completion_logprobs(logprobs, asked) if hasattr(logprobs, "tokens") else []  # type: ignore[arg-type]


def _completion_logprobs(logprobs: "Logprobs", asked: int) -> list[TokenLogprob]:
    tokens: Sequence[str] = logprobs.tokens or []
    chosen = logprobs.token_logprobs or []
    tops = logprobs.top_logprobs or [{}] * len(tokens)
    return [
        TokenLogprob(token, logprob, _likeliest(top or {}, asked))
        for token, logprob, top in zip(tokens, chosen, tops, strict=False)
    ]


def _likeliest(top: Mapping[str, float], asked: int) -> tuple[tuple[str, float], ...]:
    """As many as were asked for: a server may add the chosen token."""
    return tuple(sorted(top.items(), key=lambda pair: -pair[1])[:asked])
