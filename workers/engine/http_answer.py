"""What our server says of an answer, in the JSON of OpenAI's APIs: chunks of a stream, an answer whole, an error.

Beside OpenAI's own fields there are vLLM's `stop_reason`, and `continuous_usage_stats` where they are asked for.
"""

import json
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final, Protocol

from starlette.responses import JSONResponse
from starlette.types import Send

from asterism.workers.engine.http_body import StreamOptions
from asterism.workers.engine.seam import (
    EngineEvent,
    FinishReason,
    GenerationChunk,
    GenerationEnd,
    GenerationRequest,
    TokenLogprob,
)

LEAST_LOGPROB: Final = -9999.0
"""What stands for minus infinity, which JSON does not have; vLLM writes the same."""

FINISH: Final[Mapping[FinishReason, str]] = {
    "stop": "stop",
    "end": "stop",
    "length": "length",
    "cancelled": "abort",
    "error": "error",
}
"""As OpenAI names them, and as vLLM does what OpenAI has no name for."""


class Form(Protocol):
    """How one of the APIs writes its answers."""

    prefix: str
    """Of an answer's id."""
    whole: str
    """The name of an answer in one piece."""
    part: str
    """The name of a part of a streamed one."""

    def opening(self, index: int) -> Mapping[str, object] | None:
        """A choice to begin a stream with, before there is text."""
        ...

    def said(self, index: int, text: str, logprobs: Sequence[TokenLogprob]) -> dict[str, object]:
        """The choice of a chunk."""
        ...

    def ended(self, index: int) -> dict[str, object]:
        """The choice that ends a stream, but for how it ended."""
        ...

    def answered(self, index: int, text: str, logprobs: Sequence[TokenLogprob]) -> dict[str, object]:
        """The choice of an answer in one piece, but for how it ended."""
        ...


class CompletionForm:
    """Of `/v1/completions`."""

    prefix = "cmpl"
    whole = part = "text_completion"

    def opening(self, index: int) -> None:
        return None

    def said(self, index: int, text: str, logprobs: Sequence[TokenLogprob]) -> dict[str, object]:
        return {"index": index, "text": text, "logprobs": logprobs_json(logprobs) if logprobs else None}

    def ended(self, index: int) -> dict[str, object]:
        return self.said(index, "", ())

    answered = said


class ChatForm:
    """Of `/v1/chat/completions`."""

    prefix = "chatcmpl"
    whole = "chat.completion"
    part = "chat.completion.chunk"

    def opening(self, index: int) -> dict[str, object]:
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def said(self, index: int, text: str, logprobs: Sequence[TokenLogprob]) -> dict[str, object]:
        return {"index": index, "delta": {"content": text}, "logprobs": chat_logprobs_json(logprobs)}

    def ended(self, index: int) -> dict[str, object]:
        return {"index": index, "delta": {}, "logprobs": None}

    def answered(self, index: int, text: str, logprobs: Sequence[TokenLogprob]) -> dict[str, object]:
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": index, "message": message, "logprobs": chat_logprobs_json(logprobs)}


class Answer:
    """What is said about one body."""

    def __init__(
        self,
        form: Form,
        answer_id: str,
        model: str,
        options: StreamOptions,
        requests: Sequence[GenerationRequest],
        send: Send,
    ) -> None:
        self.has_started = False
        self._form = form
        self._numbers = {request.id: number for number, request in enumerate(requests)}
        self._options = options
        self._send = send
        self._envelope = {"id": answer_id, "created": int(time.time()), "model": model}

    async def start(self) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        self.has_started = True

    async def say(self, value: Mapping[str, object]) -> None:
        """One server-sent event."""
        data = b"data: " + json.dumps(value).encode() + b"\n\n"
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self) -> None:
        await self._send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})

    async def stream(self, first: EngineEvent, events: AsyncGenerator[EngineEvent, None]) -> None:
        """Everything that the engine yields, as it comes."""
        if not self.has_started:
            await self.start()
        openings = [each for number in self._numbers.values() if (each := self._form.opening(number)) is not None]
        for opening in openings:
            await self.say(self._part([opening]))
        said = dict.fromkeys(self._numbers, 0)
        ends = list[GenerationEnd]()
        async for event in _with_first(first, events):
            number = self._numbers[event.request_id]
            if isinstance(event, GenerationChunk):
                said[event.request_id] += event.tokens
                choice = {**self._form.said(number, event.text, event.logprobs), "finish_reason": None}
                so_far = usage_so_far(said[event.request_id])
            elif event.finish_reason == "error":
                await self.say({"error": failure_json(event)})
                break
            else:
                ends.append(event)
                choice, so_far = {**self._form.ended(number), **_how_ended(event)}, usage([event])
            continuous = {"usage": so_far} if self._options.continuous_usage_stats else {}
            await self.say(self._part([choice], **continuous))
        else:
            if self._options.include_usage:
                await self.say(self._part([], usage=usage(ends)))
        await self.finish()

    async def whole(self, first: EngineEvent, events: AsyncGenerator[EngineEvent, None]) -> JSONResponse:
        """The answer in one piece, to a client that did not ask for a stream."""
        texts: dict[str, list[str]] = {request_id: [] for request_id in self._numbers}
        logprobs: dict[str, list[TokenLogprob]] = {request_id: [] for request_id in texts}
        ends = dict[str, GenerationEnd]()
        async for event in _with_first(first, events):
            if isinstance(event, GenerationChunk):
                texts[event.request_id].append(event.text)
                logprobs[event.request_id].extend(event.logprobs)
            elif event.finish_reason == "error":
                return JSONResponse({"error": failure_json(event)}, status_code=500)
            else:
                ends[event.request_id] = event
        choices = [
            {
                **self._form.answered(number, "".join(texts[request_id]), logprobs[request_id]),
                **_how_ended(ends[request_id]),
            }
            for request_id, number in self._numbers.items()
        ]
        used = usage(list(ends.values()))
        return JSONResponse({**self._envelope, "object": self._form.whole, "choices": choices, "usage": used})

    def _part(self, choices: Sequence[Mapping[str, object]], **others: object) -> dict[str, object]:
        return {**self._envelope, "object": self._form.part, "choices": choices, **others}


def usage(ends: Sequence[GenerationEnd]) -> dict[str, object]:
    """The tokens of all prompts together."""
    prompt, decoded = sum(end.prompt_tokens for end in ends), sum(end.tokens for end in ends)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": decoded,
        "total_tokens": prompt + decoded,
        "prompt_tokens_details": {"cached_tokens": sum(end.cached_tokens for end in ends)},
    }


def usage_so_far(tokens: int) -> dict[str, object]:
    """Of one prompt that is being answered. How many tokens the prompt has is said with the end."""
    return {"prompt_tokens": 0, "completion_tokens": tokens, "total_tokens": tokens}


def logprobs_json(logprobs: Sequence[TokenLogprob]) -> dict[str, object]:
    """As completions have them."""
    return {
        "tokens": [each.token for each in logprobs],
        "token_logprobs": [max(each.logprob, LEAST_LOGPROB) for each in logprobs],
        "top_logprobs": [
            # From the back: of tokens with the same text the likeliest is kept.
            {token: max(logprob, LEAST_LOGPROB) for token, logprob in reversed(each.likeliest)}
            for each in logprobs
        ],
    }


def chat_logprobs_json(logprobs: Sequence[TokenLogprob]) -> dict[str, object] | None:
    """As chats have them; None where there are none."""
    if not logprobs:
        return None
    content = [
        {
            **_token_json(each.token, each.logprob),
            "top_logprobs": [_token_json(token, logprob) for token, logprob in each.likeliest],
        }
        for each in logprobs
    ]
    return {"content": content, "refusal": None}


def failure_json(end: GenerationEnd) -> dict[str, object]:
    return {"message": end.error, "type": "server_error", "param": None, "code": 500}


def _token_json(token: str, logprob: float) -> dict[str, object]:
    return {"token": token, "logprob": max(logprob, LEAST_LOGPROB), "bytes": list(token.encode())}


def _how_ended(end: GenerationEnd) -> dict[str, object]:
    return {"finish_reason": FINISH[end.finish_reason], "stop_reason": end.stop}


async def _with_first(
    first: EngineEvent, events: AsyncGenerator[EngineEvent, None]
) -> AsyncGenerator[EngineEvent, None]:
    yield first
    async for event in events:
        yield event
